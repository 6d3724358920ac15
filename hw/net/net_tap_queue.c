/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of a tap device: one readv() or writev() each, in the home loop of the NIC. */
#include <assert.h>
#include <errno.h>
#include "hw/net/net_tap.h"
#include "util/iov.h"
#include "util/log.h"

#define TAP_IOV_MAX 1024 /* of one system call */

static RUNS_IN_LOOP void tap_update_watch(NetTapQueue *q)
{
    aio_handler_watch(q->handler, q->watched && !q->failed, q->blocked);
}

static void tap_readable(void *opaque)
{
    NetTapQueue *q = opaque;
    enter_loop(q->home);
    net_backend_readable(&q->tap->base, (unsigned)(q - q->tap->queues));
}

static void tap_writable(void *opaque)
{
    NetTapQueue *q = opaque;
    enter_loop(q->home);
    q->blocked = false;
    tap_update_watch(q);
    net_backend_writable(&q->tap->base, (unsigned)(q - q->tap->queues));
}

static const AioHandlerOps tap_handler_ops = {
    .readable = tap_readable,
    .writable = tap_writable,
};

void net_tap_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    NetTapQueue *q = &net_tap_from(b)->queues[queue];
    assert(q->handler == NULL);
    q->watched = q->blocked = q->failed = false;
    q->home = home;
    enter_loop(home);
    q->handler = aio_handler_add(home, q->fd, &tap_handler_ops, q);
    tap_update_watch(q);
}

void net_tap_queue_stop(NetBackend *b, unsigned queue)
{
    NetTapQueue *q = &net_tap_from(b)->queues[queue];
    aio_handler_remove(q->handler);
    q->handler = NULL;
}

void net_tap_watch(NetBackend *b, unsigned queue, bool on)
{
    NetTapQueue *q = &net_tap_from(b)->queues[queue];
    enter_loop(q->home);
    q->watched = on;
    tap_update_watch(q);
}

/* Makes @to the list without the NetHeader at its begin; returns the number of elements. */
static unsigned tap_without_header(struct iovec *to, const struct iovec *iov, unsigned count)
{
    return iov_slice(to, TAP_IOV_MAX, iov, count, sizeof(NetHeader), NET_FRAME_MAX, NULL);
}

/* A descriptor in error stays ready, so it must not be watched any more. */
static RUNS_IN_LOOP ssize_t tap_read_failed(NetTapQueue *q, int error)
{
    if (error != EAGAIN) {
        log_warn("netdev %s: the tap device cannot be read: %s; the link is down", q->tap->base.id,
                 g_strerror(error));
        q->failed = true;
        tap_update_watch(q);
        aio_bh_schedule(&q->tap->failed_bh);
    }
    return -EAGAIN;
}

ssize_t net_tap_receive(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count)
{
    NetTap *t = net_tap_from(b);
    struct iovec rest[TAP_IOV_MAX];
    unsigned rest_count = 0;
    ssize_t got;
    enter_loop(t->queues[queue].home);
    assert(count <= TAP_IOV_MAX);
    if (!t->vnet_hdr) {
        iov_memset(iov, count, 0, 0, sizeof(NetHeader));
        rest_count = tap_without_header(rest, iov, count);
    }
    do {
        got = t->vnet_hdr ? readv(t->queues[queue].fd, iov, (int)count)
                          : readv(t->queues[queue].fd, rest, (int)rest_count);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return tap_read_failed(&t->queues[queue], errno);
    }
    return t->vnet_hdr ? got : got + (ssize_t)sizeof(NetHeader);
}

ssize_t net_tap_send(NetBackend *b, unsigned queue, const struct iovec *iov, unsigned count)
{
    NetTap *t = net_tap_from(b);
    NetTapQueue *q = &t->queues[queue];
    struct iovec rest[TAP_IOV_MAX];
    ssize_t sent;
    enter_loop(q->home);
    assert(count <= TAP_IOV_MAX);
    if (!t->vnet_hdr) {
        count = tap_without_header(rest, iov, count);
    }
    do {
        sent = writev(q->fd, t->vnet_hdr ? iov : rest, (int)count);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EAGAIN) {
        q->blocked = true;
        tap_update_watch(q);
        return -EAGAIN;
    }
    return sent < 0 ? -errno : 0;
}
