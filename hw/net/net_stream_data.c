/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a stream socket: the data path, in the NIC's home. net_stream.h has the states. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include "hw/net/net_stream.h"
#include "util/iov.h"
#include "util/loop/sched_point.h"

#define STREAM_IOV 64 /* pieces of a frame that are sent without a copy */

/* ---- receiving ---- */

static uint32_t stream_length(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The bytes of the next frame if it is complete, else 0. Runts are skipped. A length that cannot be ends
 * the connection, which then is main's: no function here touches it after net_stream_give_up(). */
static RUNS_IN_LOOP uint32_t stream_next(NetStream *s)
{
    NetStreamConnection *c = s->connection;
    while (c != NULL && c->in_end - c->in_start >= STREAM_PREFIX) {
        uint32_t bytes = stream_length(c->in + c->in_start);
        if (bytes > STREAM_FRAME_MAX) {
            net_stream_give_up(s, "its peer sent a frame that is too long");
            return 0;
        }
        if (c->in_end - c->in_start - STREAM_PREFIX < bytes) {
            return 0;
        }
        if (bytes >= NET_ETHERNET_HEADER) {
            return bytes;
        }
        c->in_start += STREAM_PREFIX + bytes;
    }
    return 0;
}

/* One read, as much as there is room for. */
static RUNS_IN_LOOP void stream_fill(NetStream *s)
{
    NetStreamConnection *c = s->connection;
    if (c->in_start != 0) {
        memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
        c->in_end -= c->in_start;
        c->in_start = 0;
    }
    ssize_t n = recv(c->fd, c->in + c->in_end, sizeof(c->in) - c->in_end, MSG_DONTWAIT);
    if (n > 0) {
        c->in_end += (size_t)n;
    } else if (n == 0) {
        net_stream_give_up(s, "its peer has closed the connection");
    } else if (errno != EAGAIN && errno != EINTR) {
        net_stream_give_up(s, g_strerror(errno));
    }
}

ssize_t net_stream_receive(NetStream *s, const struct iovec *iov, unsigned count)
{
    static const NetHeader header;
    NetStreamConnection *c = s->connection;
    if (c == NULL) {
        return -EAGAIN;
    }
    uint32_t bytes = stream_next(s);
    if (bytes == 0 && s->connection != NULL) {
        stream_fill(s);
        bytes = stream_next(s);
    }
    if (bytes == 0) {
        return -EAGAIN;
    }
    iov_copy_from_buf(iov, count, 0, &header, sizeof(header));
    iov_copy_from_buf(iov, count, sizeof(header), c->in + c->in_start + STREAM_PREFIX, bytes);
    c->in_start += STREAM_PREFIX + bytes;
    return (ssize_t)(sizeof(header) + bytes);
}

static RUNS_IN_LOOP void stream_update_watch(NetStream *s)
{
    NetStreamConnection *c = s->connection;
    if (c != NULL) {
        aio_handler_watch(c->handler, s->watch, c->out_start != c->out_end || s->blocked);
    }
}

/* Calls the client, and once more in the next turn while there are complete frames, which the kernel does
 * not report. */
static RUNS_IN_LOOP void stream_report(NetStream *s)
{
    if (s->watch) {
        net_backend_readable(s->backend, 0);
    }
    if (s->watch && stream_next(s) != 0) {
        aio_bh_schedule(&s->again_bh);
    }
}

static void stream_again(void *opaque)
{
    NetStream *s = opaque;
    enter_loop(s->again_bh.ctx);
    if (s->blocked && s->connection == NULL) {
        s->blocked = false;
        net_backend_writable(s->backend, 0); /* what it sends now is dropped */
    }
    if (stream_next(s) != 0) {
        stream_report(s);
    }
}

void net_stream_watch(NetStream *s, bool on)
{
    s->watch = on;
    stream_update_watch(s);
    if (on && stream_next(s) != 0) {
        aio_bh_schedule(&s->again_bh);
    }
}

/* ---- sending ---- */

/* Writes the rest of a frame. False: there still is one. */
static RUNS_IN_LOOP bool stream_drain(NetStream *s)
{
    NetStreamConnection *c = s->connection;
    while (c->out_start != c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_start, c->out_end - c->out_start,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                net_stream_give_up(s, g_strerror(errno));
            }
            return false;
        }
        c->out_start += (size_t)n;
    }
    return true;
}

/* Keeps what is behind the first @sent bytes of prefix and frame. */
static void stream_keep(NetStreamConnection *c, const uint8_t *prefix, const struct iovec *iov,
                        unsigned count, size_t sent, size_t bytes)
{
    memcpy(c->out, prefix, STREAM_PREFIX);
    iov_copy_to_buf(iov, count, sizeof(NetHeader), c->out + STREAM_PREFIX, bytes);
    c->out_start = sent;
    c->out_end = STREAM_PREFIX + bytes;
}

static RUNS_IN_LOOP ssize_t stream_block(NetStream *s)
{
    s->blocked = true;
    stream_update_watch(s);
    return -EAGAIN;
}

ssize_t net_stream_send(NetStream *s, const struct iovec *iov, unsigned count)
{
    NetStreamConnection *c = s->connection;
    size_t bytes = iov_size(iov, count) - sizeof(NetHeader), covered;
    if (c == NULL) {
        return -ENOTCONN;
    }
    if (!stream_drain(s)) {
        return s->connection == NULL ? -ENOTCONN : stream_block(s);
    }
    uint8_t prefix[STREAM_PREFIX] = {(uint8_t)(bytes >> 24), (uint8_t)(bytes >> 16),
                                     (uint8_t)(bytes >> 8), (uint8_t)bytes};
    struct iovec parts[1 + STREAM_IOV] = {{prefix, sizeof(prefix)}};
    unsigned n =
        1 + iov_slice(parts + 1, STREAM_IOV, iov, count, sizeof(NetHeader), bytes, &covered);
    if (covered < bytes) {
        stream_keep(c, prefix, iov, count, 0, bytes);
        stream_drain(s);
        stream_update_watch(s);
        return 0;
    }
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = n};
    SP("net_stream.send", s);
    ssize_t sent = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        return stream_block(s);
    }
    if (sent < 0) {
        int err = errno;
        net_stream_give_up(s, g_strerror(err));
        return -err;
    }
    if ((size_t)sent < STREAM_PREFIX + bytes) {
        stream_keep(c, prefix, iov, count, (size_t)sent, bytes);
        stream_update_watch(s);
    }
    return 0;
}

/* ---- the handler ---- */

static void stream_readable(void *opaque)
{
    NetStream *s = opaque;
    enter_loop(s->again_bh.ctx);
    stream_report(s);
}

static void stream_writable(void *opaque)
{
    NetStream *s = opaque;
    enter_loop(s->again_bh.ctx);
    if (!stream_drain(s)) {
        return;
    }
    bool call = s->blocked;
    s->blocked = false;
    stream_update_watch(s);
    if (call) {
        net_backend_writable(s->backend, 0);
    }
}

static const AioHandlerOps stream_ops = {.readable = stream_readable, .writable = stream_writable};

/* ---- hand-over ---- */

static RUNS_IN_LOOP void stream_take(NetStream *s)
{
    rank_mutex_lock(&s->lock);
    NetStreamConnection *c = s->offered;
    if (c != NULL) {
        s->connection = g_steal_pointer(&s->offered);
    }
    rank_mutex_unlock(&s->lock);
    if (c != NULL) {
        c->handler = aio_handler_add(s->again_bh.ctx, c->fd, &stream_ops, s);
        stream_update_watch(s);
    }
}

static void stream_take_offered(void *opaque)
{
    NetStream *s = opaque;
    enter_loop(s->take_bh.ctx);
    stream_take(s);
}

void net_stream_give_up(NetStream *s, const char *why)
{
    NetStreamConnection *c = s->connection;
    log_limited(&s->log_limit, "netdev %s: %s", s->backend->id, why);
    aio_handler_remove(g_steal_pointer(&c->handler));
    SP("net_stream.lost", s);
    rank_mutex_lock(&s->lock);
    s->connection = NULL;
    s->gone = c;
    aio_bh_schedule(&s->lost_bh);
    rank_mutex_unlock(&s->lock);
    aio_bh_schedule(&s->again_bh);
}

void net_stream_start(NetStream *s, AioContext *home)
{
    s->watch = s->blocked = false;
    aio_bh_init(&s->take_bh, home, stream_take_offered, s);
    aio_bh_init(&s->again_bh, home, stream_again, s);
    rank_mutex_lock(&s->lock);
    s->home = home;
    rank_mutex_unlock(&s->lock);
    stream_take(s);
}

void net_stream_stop(NetStream *s)
{
    NetStreamConnection *c = s->connection;
    if (c != NULL) {
        aio_handler_remove(g_steal_pointer(&c->handler));
    }
    rank_mutex_lock(&s->lock);
    s->home = NULL;
    if (c != NULL) {
        s->offered = g_steal_pointer(&s->connection);
    }
    rank_mutex_unlock(&s->lock);
    aio_bh_cancel(&s->take_bh);
    aio_bh_cancel(&s->again_bh);
}
