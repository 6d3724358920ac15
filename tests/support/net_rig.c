/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/net_rig.h"
#include "tests/support/net_steps.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define NET_RIG_LIMIT_US (60 * G_USEC_PER_SEC)

static NetRig *rig_from(NetClient *c)
{
    return (NetRig *)(void *)((uint8_t *)c - offsetof(NetRig, client));
}

/* ---- the client ---- */

static void rig_readable(NetClient *c, unsigned queue)
{
    NetRig *r = rig_from(c);
    static uint8_t room[NET_FRAME_MAX];
    enter_loop(c->home);
    for (unsigned i = 0; i < r->budget; i++) {
        struct iovec iov[2] = {{room, 100}, {room + 100, sizeof(room) - 100}};
        ssize_t n = net_client_receive(c, queue, iov, 2);
        if (n < 0) {
            g_assert(n == -EAGAIN);
            return;
        }
        NetHeader header;
        g_assert(n >= (ssize_t)sizeof(header) && n <= NET_FRAME_MAX);
        memcpy(&header, room, sizeof(header));
        g_assert(header.gso_type == 0 && header.flags == 0);
        g_queue_push_tail(&r->received,
                          g_bytes_new(room + sizeof(header), (size_t)n - sizeof(header)));
    }
}

static void rig_writable(NetClient *c, unsigned queue)
{
    rig_from(c)->writable++;
}

static void rig_link_changed(NetClient *c)
{
    rig_from(c)->links++;
}

static const NetClientOps rig_ops = {
    .model = "test-nic",
    .readable = rig_readable,
    .writable = rig_writable,
    .link_changed = rig_link_changed,
};

NetRig *net_rig_new(const NetType *const *types)
{
    NetRig *r = g_new0(NetRig, 1);
    r->bench = virtio_bench_new();
    enter_main();
    net_setup(types, r->bench->main_ctx);
    r->client.ops = &rig_ops;
    r->client.home = r->bench->home;
    r->budget = 4;
    g_queue_init(&r->received);
    return r;
}

/* ---- steps in main ---- */

char *net_rig_try_add(NetRig *r, const char *options)
{
    NetStep s = {.text = options};
    virtio_bench_run(r->bench, net_step_add, &s);
    char *text = s.error != NULL ? g_strdup(s.error->message) : NULL;
    g_clear_error(&s.error);
    return text;
}

void net_rig_add(NetRig *r, const char *options)
{
    net_steps_run(r->bench, net_step_add, options);
}

void net_rig_refused(NetRig *r, const char *options, const char *why)
{
    net_steps_refused(r->bench, net_step_add, options, why);
}

void net_rig_remove(NetRig *r, const char *id)
{
    net_steps_run(r->bench, net_step_remove, id);
}

/* ---- steps at home ---- */

typedef struct RigCall {
    AioContext *home;
    void (*fn)(void *opaque);
    void *opaque;
} RigCall;

static void rig_co_at_home(void *opaque)
{
    RigCall *c = opaque;
    enter_main();
    enter_coroutine();
    co_call_in(c->home, c->fn, c->opaque);
}

static void rig_at_home(NetRig *r, void (*fn)(void *opaque), void *opaque)
{
    RigCall c = {.home = r->client.home, .fn = fn, .opaque = opaque};
    virtio_bench_run(r->bench, rig_co_at_home, &c);
}

void net_rig_move_near(NetRig *r, const char *id)
{
    enter_main();
    g_assert(!r->attached && r->home_thread == NULL);
    r->home_thread = iothread_ref(net_find(id)->nic_thread);
    r->client.home = iothread_context(r->home_thread);
}

static void rig_home_start(void *opaque)
{
    NetRig *r = opaque;
    enter_loop(r->client.home);
    net_client_start_queue(&r->client, 0);
    net_client_watch(&r->client, 0, true);
}

static void rig_home_stop(void *opaque)
{
    NetRig *r = opaque;
    enter_loop(r->client.home);
    net_client_stop_queue(&r->client, 0);
}

static void rig_home_watch(void *opaque)
{
    NetRig *r = opaque;
    enter_loop(r->client.home);
    net_client_watch(&r->client, 0, true);
}

static void rig_home_unwatch(void *opaque)
{
    NetRig *r = opaque;
    enter_loop(r->client.home);
    net_client_watch(&r->client, 0, false);
}

void net_rig_attach(NetRig *r, const char *id)
{
    GError *error = NULL;
    enter_main();
    net_client_attach(&r->client, NULL, id, &error);
    g_assert_no_error(error);
    r->attached = true;
    net_rig_start(r);
}

void net_rig_start(NetRig *r)
{
    r->started = true;
    rig_at_home(r, rig_home_start, r);
}

void net_rig_stop(NetRig *r)
{
    r->started = false;
    rig_at_home(r, rig_home_stop, r);
}

void net_rig_watch(NetRig *r, bool on)
{
    rig_at_home(r, on ? rig_home_watch : rig_home_unwatch, r);
}

void net_rig_free(NetRig *r)
{
    if (r->started) {
        net_rig_stop(r);
    }
    if (r->attached) {
        virtio_bench_run(r->bench, net_step_leave, &r->client);
    }
    virtio_bench_run(r->bench, net_step_shutdown, NULL);
    iothread_free(r->home_thread);
    virtio_bench_free(r->bench);
    g_queue_clear_full(&r->received, (GDestroyNotify)g_bytes_unref);
    g_free(r);
}

/* ---- frames ---- */

typedef struct RigFrame {
    NetRig *rig;
    const void *frame;
    size_t bytes;
    ssize_t result;
    GBytes *taken;
} RigFrame;

static void rig_home_send(void *opaque)
{
    RigFrame *f = opaque;
    static NetHeader header;
    struct iovec iov[2] = {{&header, sizeof(header)}, {(void *)(uintptr_t)f->frame, f->bytes}};
    enter_loop(f->rig->client.home);
    f->result = net_client_send(&f->rig->client, 0, iov, 2);
}

ssize_t net_rig_send(NetRig *r, const void *frame, size_t bytes)
{
    RigFrame f = {.rig = r, .frame = frame, .bytes = bytes};
    rig_at_home(r, rig_home_send, &f);
    return f.result;
}

static void rig_home_take(void *opaque)
{
    RigFrame *f = opaque;
    f->taken = g_queue_pop_head(&f->rig->received);
}

GBytes *net_rig_take(NetRig *r)
{
    RigFrame f = {.rig = r};
    rig_at_home(r, rig_home_take, &f);
    return f.taken;
}

static bool rig_took(void *opaque)
{
    RigFrame *f = opaque;
    f->taken = net_rig_take(f->rig);
    return f->taken != NULL;
}

GBytes *net_rig_receive(NetRig *r)
{
    RigFrame f = {.rig = r};
    net_rig_wait(r, rig_took, &f, "a frame");
    return f.taken;
}

void net_rig_wait(NetRig *r, bool (*fn)(void *opaque), void *opaque, const char *what)
{
    int64_t limit = g_get_monotonic_time() + NET_RIG_LIMIT_US;
    while (!fn(opaque)) {
        if (g_get_monotonic_time() > limit) {
            g_error("waited for %s in vain", what);
        }
        virtio_bench_settle(r->bench);
        sched_yield();
    }
}
