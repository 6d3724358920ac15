/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/fake_net.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "util/iov.h"

static FakeNet *fake_from(NetBackend *b)
{
    return (FakeNet *)(void *)b;
}

/* ---- the back end ---- */

static bool fake_net_co_open(NetBackend *b, GError **error)
{
    FakeNet *f = fake_from(b);
    b->queues = f->wanted_queues;
    b->can_send = b->can_receive = f->offloads ? 0x7f : 0;
    b->info = g_strdup_printf("queues=%u", b->queues);
    pthread_mutex_init(&f->lock, NULL);
    for (unsigned i = 0; i < b->queues; i++) {
        f->queues[i].net = f;
        f->queues[i].incoming = g_queue_new();
        f->queues[i].sent = g_queue_new();
    }
    return true;
}

static void fake_net_free_frame(void *frame)
{
    g_bytes_unref(frame);
}

static void fake_net_co_close(NetBackend *b)
{
    FakeNet *f = fake_from(b);
    assert(b->client == NULL && !f->configuring);
    for (unsigned i = 0; i < b->queues; i++) {
        assert(f->queues[i].home == NULL);
        g_queue_free_full(f->queues[i].incoming, fake_net_free_frame);
        g_queue_free_full(f->queues[i].sent, fake_net_free_frame);
    }
    pthread_mutex_destroy(&f->lock);
}

static bool fake_net_co_configure(NetBackend *b, const NetConfig *config)
{
    FakeNet *f = fake_from(b);
    enter_coroutine();
    assert_home(b->client->home);
    assert(!(config->receive_offloads & ~b->can_receive));
    pthread_mutex_lock(&f->lock);
    assert(!f->configuring);
    f->configuring = true;
    bool hold = f->hold_configure;
    if (hold) {
        f->held = co_arm();
    }
    CoToken token = f->held;
    pthread_mutex_unlock(&f->lock);
    if (hold) {
        co_wait(token);
    }
    pthread_mutex_lock(&f->lock);
    bool refuses = f->refusals > 0;
    f->refusals -= refuses;
    f->applied = refuses ? f->applied : *config;
    f->applies += !refuses;
    f->configuring = false;
    pthread_mutex_unlock(&f->lock);
    return !refuses;
}

/* In the queue's home, at most once in a turn. */
static void fake_net_ready(void *opaque)
{
    FakeNetQueue *q = opaque;
    FakeNet *f = q->net;
    unsigned index = (unsigned)(q - f->queues);
    enter_loop(q->home);
    pthread_mutex_lock(&f->lock);
    bool writable = q->was_full && !f->full;
    q->was_full = q->was_full && f->full;
    bool readable = q->watched && !g_queue_is_empty(q->incoming);
    q->inside = true;
    pthread_mutex_unlock(&f->lock);
    if (writable) {
        net_backend_writable(&f->base, index);
    }
    if (readable && q->watched) {
        net_backend_readable(&f->base, index);
    }
    pthread_mutex_lock(&f->lock);
    q->inside = false;
    if (q->watched && !g_queue_is_empty(q->incoming)) {
        aio_bh_schedule(&q->bh);
    }
    pthread_mutex_unlock(&f->lock);
}

static void fake_net_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    FakeNet *f = fake_from(b);
    FakeNetQueue *q = &f->queues[queue];
    pthread_mutex_lock(&f->lock);
    assert(q->home == NULL && queue < b->queues);
    aio_bh_init(&q->bh, home, fake_net_ready, q);
    q->home = home;
    q->watched = q->was_full = false;
    q->starts++;
    pthread_mutex_unlock(&f->lock);
    assert_home(home);
}

static void fake_net_queue_stop(NetBackend *b, unsigned queue)
{
    FakeNet *f = fake_from(b);
    FakeNetQueue *q = &f->queues[queue];
    assert_home(q->home);
    pthread_mutex_lock(&f->lock);
    assert(!q->inside);
    aio_bh_cancel(&q->bh);
    q->home = NULL;
    pthread_mutex_unlock(&f->lock);
}

static void fake_net_watch(NetBackend *b, unsigned queue, bool on)
{
    FakeNet *f = fake_from(b);
    FakeNetQueue *q = &f->queues[queue];
    assert_home(q->home);
    pthread_mutex_lock(&f->lock);
    q->watched = on;
    if (on && !g_queue_is_empty(q->incoming)) {
        aio_bh_schedule(&q->bh);
    }
    pthread_mutex_unlock(&f->lock);
}

static ssize_t fake_net_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                unsigned count)
{
    FakeNet *f = fake_from(b);
    FakeNetQueue *q = &f->queues[queue];
    assert_home(q->home);
    assert(iov_size(iov, count) >= NET_FRAME_MAX); /* no frame is cut */
    pthread_mutex_lock(&f->lock);
    assert(!f->configuring);
    f->receive_calls++;
    GBytes *frame = g_queue_pop_head(q->incoming);
    q->sent_before = frame != NULL ? q->sent_count : q->sent_before;
    pthread_mutex_unlock(&f->lock);
    if (frame == NULL) {
        return -EAGAIN;
    }
    size_t bytes;
    const void *data = g_bytes_get_data(frame, &bytes);
    size_t copied = iov_copy_from_buf(iov, count, 0, data, bytes);
    assert(copied == bytes);
    g_bytes_unref(frame);
    return (ssize_t)bytes;
}

static ssize_t fake_net_send(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count)
{
    FakeNet *f = fake_from(b);
    FakeNetQueue *q = &f->queues[queue];
    assert_home(q->home);
    size_t bytes = iov_size(iov, count);
    assert(bytes >= sizeof(NetHeader) && bytes <= NET_FRAME_MAX);
    g_autofree uint8_t *data = g_malloc(bytes);
    iov_copy_to_buf(iov, count, 0, data, bytes);
    ssize_t ret = 0;
    pthread_mutex_lock(&f->lock);
    if (f->send_error) {
        ret = -f->send_error;
    } else if (f->full || g_queue_get_length(q->sent) == FAKE_NET_QUEUE_MAX) {
        q->was_full = true;
        ret = -EAGAIN;
    } else {
        g_queue_push_tail(q->sent, g_bytes_new_take(g_steal_pointer(&data), bytes));
        q->sent_count++;
    }
    pthread_mutex_unlock(&f->lock);
    return ret;
}

static const OptSpec fake_net_options[] = {
    OPT_SPEC(FakeNet, "queues", OPT_U32, wanted_queues, .def = "1", .min = 1,
             .max = NET_MAX_QUEUES),
    OPT_SPEC(FakeNet, "offloads", OPT_BOOL, offloads, .def = "on"),
    {0},
};

static const NetType fake_net_type = {
    .name = "fake",
    .description = "a test",
    .instance_size = sizeof(FakeNet),
    .options = fake_net_options,
    .co_open = fake_net_co_open,
    .co_close = fake_net_co_close,
    .co_configure = fake_net_co_configure,
    .queue_start = fake_net_queue_start,
    .queue_stop = fake_net_queue_stop,
    .watch = fake_net_watch,
    .receive = fake_net_receive,
    .send = fake_net_send,
};

const NetType *const fake_net_types[] = {&fake_net_type, NULL};

/* ---- the test's side ---- */

FakeNet *fake_net_find(const char *id)
{
    enter_main();
    NetBackend *b = net_find(id);
    assert(b != NULL && b->type->co_open == fake_net_co_open);
    return fake_from(b);
}

bool fake_net_push(FakeNet *f, unsigned queue, const NetHeader *header, const void *frame,
                   size_t bytes)
{
    FakeNetQueue *q = &f->queues[queue];
    uint8_t *data = g_malloc0(sizeof(NetHeader) + bytes);
    if (header != NULL) {
        memcpy(data, header, sizeof(*header));
    }
    memcpy(data + sizeof(NetHeader), frame, bytes);
    pthread_mutex_lock(&f->lock);
    bool room = g_queue_get_length(q->incoming) < FAKE_NET_QUEUE_MAX;
    if (room) {
        g_queue_push_tail(q->incoming, g_bytes_new_take(data, sizeof(NetHeader) + bytes));
        if (q->home != NULL) {
            aio_bh_schedule(&q->bh);
        }
    } else {
        g_free(data);
    }
    pthread_mutex_unlock(&f->lock);
    return room;
}

static void fake_net_room(FakeNet *f)
{
    for (unsigned i = 0; i < f->base.queues; i++) {
        if (f->queues[i].home != NULL && f->queues[i].was_full) {
            aio_bh_schedule(&f->queues[i].bh);
        }
    }
}

GBytes *fake_net_take(FakeNet *f, unsigned queue)
{
    pthread_mutex_lock(&f->lock);
    GBytes *frame = g_queue_pop_head(f->queues[queue].sent);
    fake_net_room(f);
    pthread_mutex_unlock(&f->lock);
    return frame;
}

void fake_net_clear(FakeNet *f)
{
    pthread_mutex_lock(&f->lock);
    for (unsigned i = 0; i < f->base.queues; i++) {
        GQueue *lists[] = {f->queues[i].incoming, f->queues[i].sent};
        for (unsigned k = 0; k < G_N_ELEMENTS(lists); k++) {
            for (GBytes *frame; (frame = g_queue_pop_head(lists[k])) != NULL;) {
                g_bytes_unref(frame);
            }
        }
    }
    fake_net_room(f);
    pthread_mutex_unlock(&f->lock);
}

unsigned fake_net_waiting(FakeNet *f, unsigned queue)
{
    pthread_mutex_lock(&f->lock);
    unsigned n = g_queue_get_length(f->queues[queue].incoming);
    pthread_mutex_unlock(&f->lock);
    return n;
}

void fake_net_set_full(FakeNet *f, bool full)
{
    pthread_mutex_lock(&f->lock);
    f->full = full;
    if (!full) {
        fake_net_room(f);
    }
    pthread_mutex_unlock(&f->lock);
}

void fake_net_set_send_error(FakeNet *f, int error)
{
    pthread_mutex_lock(&f->lock);
    f->send_error = error;
    pthread_mutex_unlock(&f->lock);
}

void fake_net_refuse_configure(FakeNet *f, unsigned times)
{
    pthread_mutex_lock(&f->lock);
    f->refusals = times;
    pthread_mutex_unlock(&f->lock);
}

void fake_net_hold_configure(FakeNet *f, bool hold)
{
    pthread_mutex_lock(&f->lock);
    bool release = f->hold_configure && !hold && f->configuring;
    f->hold_configure = hold;
    CoToken held = f->held;
    pthread_mutex_unlock(&f->lock);
    if (release) {
        co_wake(held);
    }
}
