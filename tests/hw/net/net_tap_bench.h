/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -netdev tap on a real device of the kernel, in a network namespace of its own. The other end is a packet
 * socket. Tests are skipped where the kernel gives an ordinary user no such namespace, or has no tap devices.
 */
#ifndef SKIFF_TESTS_HW_NET_NET_TAP_BENCH_H
#define SKIFF_TESTS_HW_NET_NET_TAP_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "hw/net/net_tap.h"
#include "tests/support/net_steps.h"
#include "util/loop/sched_point.h"
#include "util/loop/worker.h"
#include "util/sys/sys_fault.h"

static bool has_tap G_GNUC_UNUSED; /* set by main() */

typedef struct Fixture {
    VirtioBench *bench;
    NetClient client;
    bool attached;
    int wire; /* packet socket on the device */
    /* home */
    _Atomic unsigned frames, writable; /* the test reads them; frames: after what belongs to it */
    _Atomic unsigned elsewhere;        /* frames of other queues than the first one */
    size_t frame_bytes;
    uint8_t frame[NET_FRAME_MAX];
    /* arguments of a step at home */
    unsigned queue;
    NetConfig config;
    ssize_t result;
    bool configured;
    const uint8_t *data;
    size_t bytes;
} Fixture;

static inline Fixture *from_client(NetClient *c)
{
    return (Fixture *)(void *)((uint8_t *)c - offsetof(Fixture, client));
}

static inline void client_readable(NetClient *c, unsigned queue)
{
    Fixture *f = from_client(c);
    uint8_t room[NET_FRAME_MAX];
    struct iovec iov[] = {{room, 7}, {room + 7, 100}, {room + 107, sizeof(room) - 107}};
    enter_loop(c->home);
    ssize_t got = net_client_receive(c, queue, iov, 3);
    /* IPv6 sends frames of its own accord */
    if (got >= (ssize_t)sizeof(NetHeader) + 14 && room[sizeof(NetHeader) + 12] == 0x88) {
        f->elsewhere += queue != 0;
        f->frame_bytes = (size_t)got;
        memcpy(f->frame, room, (size_t)got);
        f->frames++;
    }
}

static inline void client_writable(NetClient *c, unsigned queue)
{
    from_client(c)->writable++;
}

static inline void client_link_changed(NetClient *c)
{
}

static const NetClientOps client_ops = {
    .model = "test-nic",
    .readable = client_readable,
    .writable = client_writable,
    .link_changed = client_link_changed,
};

/* ---- steps ---- */

static inline void add(Fixture *f, const char *text)
{
    net_steps_run(f->bench, net_step_add, text);
}

static inline void refused(Fixture *f, const char *text, const char *why)
{
    net_steps_refused(f->bench, net_step_add, text, why);
}

static inline void home_start(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    net_client_start_queue(&f->client, f->queue);
    net_client_watch(&f->client, f->queue, true);
}

static inline void home_stop(void *opaque)
{
    Fixture *f = opaque;
    enter_loop(f->client.home);
    for (unsigned q = 0; q < NET_MAX_QUEUES; q++) {
        if (f->client.started >> q & 1) {
            net_client_stop_queue(&f->client, q);
        }
    }
}

static inline void home_send(void *opaque)
{
    Fixture *f = opaque;
    NetHeader h = {0};
    struct iovec iov[] = {{&h, sizeof(h)}, {(uint8_t *)(uintptr_t)f->data, f->bytes}};
    enter_loop(f->client.home);
    f->result = net_client_send(&f->client, f->queue, iov, 2);
}

static inline void home_configure(void *opaque)
{
    Fixture *f = opaque;
    enter_coroutine();
    enter_loop(f->client.home);
    net_client_configure(&f->client, &f->config);
    f->configured = net_client_co_await_configured(&f->client);
}

static inline void at_home(Fixture *f, void (*fn)(void *opaque))
{
    virtio_bench_at_home(f->bench, fn, f);
}

static inline int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    static const NetType *const types[] = {&net_tap_type, NULL};
    GError *error = NULL;
    f->bench = virtio_bench_new();
    enter_main();
    assert_true(worker_pool_start(&error));
    net_setup(types, f->bench->main_ctx);
    f->client.ops = &client_ops;
    f->client.home = f->bench->home;
    f->wire = -1;
    *state = f;
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->attached) {
        at_home(f, home_stop);
        virtio_bench_run(f->bench, net_step_leave, &f->client);
    }
    virtio_bench_run(f->bench, net_step_shutdown, NULL);
    virtio_bench_free(f->bench);
    if (f->wire >= 0) {
        close(f->wire);
    }
    g_free(f);
    return 0;
}

/* ---- the host's end ---- */

static inline void set_up_interface(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    assert_return_code(ioctl(fd, SIOCSIFFLAGS, &r), errno);
    close(fd);
}

static inline void open_wire(Fixture *f, const char *name)
{
    struct sockaddr_ll at = {.sll_family = AF_PACKET,
                             .sll_protocol = htons(0x88b5), /* for local experiments */
                             .sll_ifindex = (int)if_nametoindex(name)};
    set_up_interface(name);
    f->wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(0x88b5));
    assert_return_code(f->wire, errno);
    assert_return_code(bind(f->wire, (struct sockaddr *)&at, sizeof(at)), errno);
}

static inline void make_frame(uint8_t *frame, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++) {
        frame[i] = (uint8_t)(i * 3 + seed);
    }
    memset(frame, 0xff, 6);
    frame[6] = 2;
    frame[12] = 0x88;
    frame[13] = 0xb5;
}

/* A back end on a new device tap-t, with a client and a wire. */
static inline void connect_tap(Fixture *f, const char *more)
{
    g_autofree char *text = g_strdup_printf("tap,id=a,ifname=tap-t,script=no%s", more);
    GError *error = NULL;
    add(f, text);
    enter_main();
    assert_true(net_client_attach(&f->client, NULL, "a", &error));
    f->attached = true;
    open_wire(f, "tap-t");
    f->config = (NetConfig){.queues = 1};
    at_home(f, home_configure);
    at_home(f, home_start);
}

/* Returns when the client has received @frames in all. */
static inline void await_frames(Fixture *f, unsigned frames)
{
    while (f->frames < frames) {
        virtio_bench_settle(f->bench);
    }
    virtio_bench_settle(f->bench);
}

static inline void expect_on_wire(Fixture *f, const uint8_t *frame, size_t bytes)
{
    uint8_t got[4096];
    struct pollfd p = {.fd = f->wire, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(f->wire, got, sizeof(got), 0), bytes);
    assert_memory_equal(got, frame, bytes);
}

static inline void pass_frames(Fixture *f)
{
    uint8_t frame[1000];
    make_frame(frame, sizeof(frame), 3);
    assert_int_equal(send(f->wire, frame, sizeof(frame), 0), sizeof(frame));
    await_frames(f, 1);
    assert_int_equal(f->frame_bytes, sizeof(frame) + sizeof(NetHeader));
    assert_memory_equal(f->frame + sizeof(NetHeader), frame, sizeof(frame));
    NetHeader h;
    memcpy(&h, f->frame, sizeof(h));
    assert_int_equal(h.gso_type, NET_HEADER_GSO_NONE);
    make_frame(frame, sizeof(frame), 4);
    f->data = frame;
    f->bytes = sizeof(frame);
    at_home(f, home_send);
    assert_int_equal(f->result, 0);
    expect_on_wire(f, frame, sizeof(frame));
}

/* A namespace where this process may make devices. */
static inline bool enter_namespace(void)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        return false;
    }
    g_autofree char *uids = g_strdup_printf("0 %u 1", uid), *gids = g_strdup_printf("0 %u 1", gid);
    FILE *f = fopen("/proc/self/setgroups", "w");
    if (f != NULL) {
        fputs("deny", f);
        fclose(f);
    }
    f = fopen("/proc/self/uid_map", "w");
    bool ok = f != NULL && fputs(uids, f) >= 0;
    ok = f != NULL && fclose(f) == 0 && ok;
    f = fopen("/proc/self/gid_map", "w");
    ok = f != NULL && fputs(gids, f) >= 0 && ok;
    ok = f != NULL && fclose(f) == 0 && ok;
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    ok = ok && fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0;
    close(fd);
    return ok;
}

#define NEEDS_TAP                                                                                  \
    if (!has_tap) {                                                                                \
        skip();                                                                                    \
    }

#endif
