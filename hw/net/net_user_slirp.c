/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev user: the network's loop, which alone calls libslirp. */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include "hw/net/net_user.h"
#include "util/loop/sched_point.h"

#define NET_USER_BUDGET 64 /* frames of the guest in one turn */

/* ---- callbacks of libslirp, always from within a call to it ---- */

static ssize_t slirp_cb_send_packet(const void *buf, size_t len, void *opaque)
{
    NetUser *u = opaque;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
    bool fits = len <= NET_FRAME_MAX - sizeof(NetHeader);
    if (fits && net_ring_put(&u->to_guest, &iov, 1, 0, (uint32_t)len)) {
        u->has_new = true;
    } else {
        u->dropped++;
    }
    return (ssize_t)len;
}

static void slirp_cb_guest_error(const char *message, void *opaque)
{
    NetUser *u = opaque;
    log_guest_error(&u->log_limit, u->base.id, "%s", message);
}

static int64_t slirp_cb_clock_get_ns(void *opaque)
{
    return aio_now_ns(((NetUser *)opaque)->loop);
}

typedef struct SlirpTimer {
    AioTimer timer;
    NetUser *user;
    SlirpTimerCb fn;
    void *opaque;
} SlirpTimer;

static void slirp_timer_fired(void *opaque)
{
    SlirpTimer *t = opaque;
    enter_loop(t->user->loop);
    t->fn(t->opaque);
}

static void *slirp_cb_timer_new(SlirpTimerCb fn, void *cb_opaque, void *opaque)
{
    NetUser *u = opaque;
    SlirpTimer *t = g_new0(SlirpTimer, 1);
    t->user = u;
    t->fn = fn;
    t->opaque = cb_opaque;
    aio_timer_init(&t->timer, u->loop, slirp_timer_fired, t);
    return t;
}

static void slirp_cb_timer_free(void *timer, void *opaque)
{
    SlirpTimer *t = timer;
    aio_timer_disarm(&t->timer);
    g_free(t);
}

static void slirp_cb_timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
    aio_timer_arm(&((SlirpTimer *)timer)->timer, expire_ms * 1000000);
}

/* ---- sockets ---- */

/* The record of @fd, made at its first use. */
static NetUserSocket *slirp_socket(NetUser *u, int fd)
{
    if ((unsigned)fd >= u->sockets->len) {
        g_ptr_array_set_size(u->sockets, fd + 1);
    }
    NetUserSocket *s = u->sockets->pdata[fd];
    if (s == NULL) {
        s = g_new0(NetUserSocket, 1);
        s->user = u;
        s->fd = fd;
        u->sockets->pdata[fd] = s;
    }
    return s;
}

static void slirp_socket_unwatch(NetUserSocket *s)
{
    if (s->handler != NULL) {
        aio_handler_remove(g_steal_pointer(&s->handler));
    }
    s->wanted = s->ready = 0;
}

static void slirp_cb_register_poll_fd(int fd, void *opaque)
{
    NetUser *u = opaque;
    NetUserSocket *s = slirp_socket(u, fd);
    slirp_socket_unwatch(s);
    u->open_sockets += !s->registered;
    s->registered = true;
}

static void slirp_cb_unregister_poll_fd(int fd, void *opaque)
{
    NetUser *u = opaque;
    NetUserSocket *s = slirp_socket(u, fd);
    slirp_socket_unwatch(s);
    u->open_sockets -= s->registered;
    s->registered = false;
}

static void slirp_socket_ready(NetUserSocket *s, int events)
{
    enter_loop(s->user->loop);
    s->ready |= events;
    aio_bh_schedule(&s->user->poll_bh);
}

static void slirp_socket_readable(void *opaque)
{
    slirp_socket_ready(opaque, SLIRP_POLL_IN);
}

static void slirp_socket_writable(void *opaque)
{
    slirp_socket_ready(opaque, SLIRP_POLL_OUT);
}

static const AioHandlerOps slirp_socket_ops = {
    .readable = slirp_socket_readable,
    .writable = slirp_socket_writable,
};

static int slirp_add_poll(int fd, int events, void *opaque)
{
    NetUser *u = opaque;
    NetUserSocket *s = slirp_socket(u, fd);
    events &= SLIRP_POLL_IN | SLIRP_POLL_OUT;
    s->turn = u->turn;
    if (s->handler == NULL) {
        s->handler = aio_handler_add(u->loop, fd, &slirp_socket_ops, s);
        s->wanted = SLIRP_POLL_IN | SLIRP_POLL_OUT;
    }
    if (!s->listed) {
        s->listed = true;
        g_array_append_val(u->watched, fd);
    }
    if (s->wanted != events) {
        s->wanted = events;
        aio_handler_watch(s->handler, events & SLIRP_POLL_IN, events & SLIRP_POLL_OUT);
    }
    return fd;
}

static int slirp_get_revents(int fd, void *opaque)
{
    NetUser *u = opaque;
    NetUserSocket *s = slirp_socket(u, fd);
    int ready = s->ready;
    s->ready = 0;
    return ready;
}

/* Stops to watch what libslirp did not ask for in this turn. */
static void slirp_drop_unwanted(NetUser *u)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < u->watched->len; i++) {
        int fd = g_array_index(u->watched, int, i);
        NetUserSocket *s = u->sockets->pdata[fd];
        s->listed = s->handler != NULL;
        if (!s->listed) {
            continue;
        }
        if (s->turn != u->turn && s->wanted != 0) {
            s->wanted = 0;
            aio_handler_watch(s->handler, false, false);
        }
        g_array_index(u->watched, int, kept++) = fd;
    }
    g_array_set_size(u->watched, kept);
}

/* ---- turns ---- */

/* The ring to the guest is too full for what the sockets have. */
static bool slirp_pauses(NetUser *u)
{
    if (net_ring_used(&u->to_guest) <= NET_USER_PAUSE) {
        return false;
    }
    atomic_store(&u->paused, true);
    if (net_ring_used(&u->to_guest) > NET_USER_RESUME) {
        return true;
    }
    atomic_store(&u->paused, false);
    return false;
}

/* The end of a turn: one wake-up for all frames of the turn, then what to wait for. */
static void slirp_flush(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->loop);
    if (u->has_new) {
        u->has_new = false;
        net_user_call_home(u, &u->readable_bh);
    }
    u->turn++;
    uint32_t timeout_ms = UINT32_MAX;
    if (!slirp_pauses(u)) {
        slirp_pollfds_fill(u->slirp, &timeout_ms, slirp_add_poll, u);
    }
    slirp_drop_unwanted(u);
    if (timeout_ms == UINT32_MAX) {
        aio_timer_disarm(&u->timeout);
    } else {
        aio_timer_arm(&u->timeout, aio_now_ns(u->loop) + timeout_ms * INT64_C(1000000));
    }
}

static void slirp_timeout(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->loop);
    aio_bh_schedule(&u->poll_bh);
}

static void slirp_poll(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->loop);
    slirp_pollfds_poll(u->slirp, 0, slirp_get_revents, u);
}

static void slirp_resume(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->loop);
    atomic_store(&u->paused, false); /* the flush of this turn does the rest */
}

/* Whether the frame needs no new socket: not the first segment of a connection, not UDP (but for DHCP), not
 * ICMP. */
static bool slirp_needs_no_socket(const uint8_t *frame, uint32_t bytes)
{
    unsigned type = bytes >= 14 ? (unsigned)frame[12] << 8 | frame[13] : 0;
    unsigned protocol_at = type == 0x0800 ? 23 : type == 0x86dd ? 20 : 0;
    if (protocol_at == 0 || bytes < 54) {
        return protocol_at == 0; /* ARP and the like */
    }
    unsigned transport = type == 0x0800 ? 14 + (frame[14] & 15) * 4u : 54;
    if (transport + 14 > bytes) {
        return false;
    }
    if (frame[protocol_at] == 6) {
        return !(frame[transport + 13] & 2); /* SYN */
    }
    return frame[protocol_at] == 17 && frame[transport + 2] == 0 && frame[transport + 3] == 67;
}

/* Fragments of IPv4 are dropped: libslirp's reassembly (ip_reass() of 4.7) follows pointers that the guest
 * has sent, as tests/fuzz/fuzz_net.c found. Fragments are what a datagram of more than the MTU becomes. */
static bool slirp_is_fragment(const uint8_t *frame, uint32_t bytes)
{
    return bytes >= 22 && frame[12] == 8 && frame[13] == 0 &&
           ((frame[20] & 0x3f) != 0 || frame[21] != 0);
}

static RUNS_IN_LOOP void slirp_take_frame(NetUser *u, const uint8_t *frame, uint32_t bytes)
{
    if (slirp_is_fragment(frame, bytes)) {
        log_limited(&u->log_limit, "%s: the guest sends fragments of IPv4, which are dropped",
                    u->base.id);
    } else if (u->open_sockets < u->max_sockets || slirp_needs_no_socket(frame, bytes)) {
        slirp_input(u->slirp, frame, (int)bytes);
    } else {
        log_limited(&u->log_limit, "%s: the guest has %u sockets open; it gets no more", u->base.id,
                    u->open_sockets);
    }
}

void net_user_take_frames(NetUser *u)
{
    SP("net_user.take", u);
    for (unsigned i = 0; i < NET_USER_BUDGET; i++) {
        uint32_t bytes;
        const uint8_t *frame = net_ring_peek(&u->from_guest, &bytes);
        if (frame == NULL) {
            break;
        }
        slirp_take_frame(u, frame, bytes);
        net_ring_pop(&u->from_guest);
    }
    if (atomic_exchange(&u->want_room, false)) {
        net_user_call_home(u, &u->writable_bh);
    }
    if (net_ring_used(&u->from_guest) != 0) {
        aio_bh_schedule(&u->input_bh);
    }
}

static void slirp_take_frames(void *opaque)
{
    NetUser *u = opaque;
    enter_loop(u->loop);
    net_user_take_frames(u);
}

/* ---- life cycle ---- */

/* Main never calls libslirp, so its loop is awake. */
static void slirp_cb_notify(void *opaque)
{
}

static const SlirpCb slirp_callbacks = {
    .send_packet = slirp_cb_send_packet,
    .guest_error = slirp_cb_guest_error,
    .clock_get_ns = slirp_cb_clock_get_ns,
    .timer_new = slirp_cb_timer_new,
    .timer_free = slirp_cb_timer_free,
    .timer_mod = slirp_cb_timer_mod,
    .register_poll_fd = slirp_cb_register_poll_fd,
    .unregister_poll_fd = slirp_cb_unregister_poll_fd,
    .notify = slirp_cb_notify,
};

static const AioHandlerOps slirp_flush_ops = {.flush = slirp_flush};

/* libslirp's messages are about what guests and peers do: they must not fill a log. */
static void slirp_log(const char *domain, GLogLevelFlags level, const char *message, void *opaque)
{
    static LogLimit limit;
    if (level & (G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING)) {
        log_limited(&limit, "network: %s", message);
    }
}

/* A quarter of what the process may open, so that a guest leaves enough for the rest of skiff. */
static unsigned slirp_socket_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
        return NET_USER_MAX_SOCKETS;
    }
    return (unsigned)MIN(limit.rlim_cur / 4, NET_USER_MAX_SOCKETS);
}

bool net_user_loop_start(NetUser *u, bool commands_allowed, GError **error)
{
    SlirpConfig config;
    if (!net_user_make_config(&u->options, &config, error)) {
        return false;
    }
    u->sockets = g_ptr_array_new_with_free_func(g_free);
    u->watched = g_array_new(false, false, sizeof(int));
    u->max_sockets = slirp_socket_limit();
    g_log_set_handler("Slirp", G_LOG_LEVEL_MASK, slirp_log, NULL);
    aio_timer_init(&u->timeout, u->loop, slirp_timeout, u);
    aio_bh_init(&u->input_bh, u->loop, slirp_take_frames, u);
    aio_bh_init(&u->poll_bh, u->loop, slirp_poll, u);
    aio_bh_init(&u->resume_bh, u->loop, slirp_resume, u);
    u->slirp = slirp_new(&config, &slirp_callbacks, u);
    g_free(config.vdnssearch);
    if (u->slirp == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "libslirp refuses these options");
        return false;
    }
    u->flush = aio_handler_add(u->loop, -1, &slirp_flush_ops, u);
    return net_user_add_forwards(u, commands_allowed, error);
}

void net_user_loop_stop(NetUser *u)
{
    if (u->sockets == NULL) {
        return;
    }
    aio_handler_remove(g_steal_pointer(&u->flush));
    aio_timer_disarm(&u->timeout);
    if (u->slirp != NULL) {
        slirp_cleanup(g_steal_pointer(&u->slirp));
    }
    for (unsigned fd = 0; fd < u->sockets->len; fd++) {
        if (u->sockets->pdata[fd] != NULL) {
            slirp_socket_unwatch(u->sockets->pdata[fd]);
        }
    }
    aio_bh_cancel(&u->input_bh);
    aio_bh_cancel(&u->poll_bh);
    aio_bh_cancel(&u->resume_bh);
    g_clear_pointer(&u->sockets, g_ptr_array_unref);
    g_clear_pointer(&u->watched, g_array_unref);
}
