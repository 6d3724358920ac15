/* SPDX-License-Identifier: Apache-2.0 */
#include "block/nbd/nbd_channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- waiting for the socket ---- */

static void channel_watch(NbdChannel *c, bool readable, bool writable)
{
    if (c->read_watched != readable || c->write_watched != writable) {
        c->read_watched = readable;
        c->write_watched = writable;
        aio_handler_watch(c->handler, readable, writable);
    }
}

/* False: nobody waits, so the direction is not watched until somebody does. */
static bool channel_wake(NbdChannelWait *w)
{
    if (!w->waiting) {
        return false;
    }
    w->waiting = false;
    co_wake(w->token);
    return true;
}

static void channel_readable(void *opaque)
{
    NbdChannel *c = opaque;
    enter_loop(c->ctx);
    if (c->reader_needs_write || !channel_wake(&c->reader)) {
        channel_watch(c, false, c->write_watched);
    }
}

static void channel_writable(void *opaque)
{
    NbdChannel *c = opaque;
    enter_loop(c->ctx);
    bool woken = channel_wake(&c->writer);
    if (c->reader_needs_write) {
        c->reader_needs_write = false;
        woken = channel_wake(&c->reader) || woken;
    }
    if (!woken) {
        channel_watch(c, c->read_watched, false);
    }
}

static const AioHandlerOps channel_ops = {.readable = channel_readable,
                                          .writable = channel_writable};

/* The reader waits: until the socket may be readable, or, since TLS also writes when it reads,
 * writable. */
static coroutine_fn RUNS_IN_LOOP void channel_co_wait_reader(NbdChannel *c, bool needs_write)
{
    c->reader = (NbdChannelWait){.waiting = true, .token = co_arm()};
    c->reader_needs_write = needs_write;
    channel_watch(c, !needs_write, needs_write || c->write_watched);
    co_wait(c->reader.token);
}

static coroutine_fn RUNS_IN_LOOP void channel_co_wait_writer(NbdChannel *c)
{
    c->writer = (NbdChannelWait){.waiting = true, .token = co_arm()};
    channel_watch(c, c->read_watched, true);
    co_wait(c->writer.token);
}

/* ---- life ---- */

void nbd_channel_init(NbdChannel *c, int fd)
{
    *c = (NbdChannel){.fd = fd};
}

void nbd_channel_attach(NbdChannel *c, AioContext *ctx)
{
    c->ctx = ctx;
    c->read_watched = c->write_watched = true;
    c->handler = aio_handler_add(ctx, c->fd, &channel_ops, c);
    channel_watch(c, false, false);
}

void nbd_channel_detach(NbdChannel *c)
{
    if (c->reader.waiting || c->writer.waiting) {
        bug_abort("an NBD channel is detached while a coroutine waits for it");
    }
    aio_handler_remove(c->handler);
    c->handler = NULL;
    c->ctx = NULL;
}

void nbd_channel_clear(NbdChannel *c)
{
    tls_session_free(c->tls);
    c->tls = NULL;
    close(c->fd);
    c->fd = -1;
}

/* ---- reading ---- */

/* Reads what is there, at least one byte. 0: the end; -errno. */
static coroutine_fn RUNS_IN_LOOP ssize_t channel_co_receive(NbdChannel *c, void *data, size_t size)
{
    for (;;) {
        bool wants_write = false;
        ssize_t n;
        if (c->tls != NULL) {
            n = tls_session_read(c->tls, data, size, &wants_write);
        } else {
            n = recv(c->fd, data, size, MSG_DONTWAIT);
            n = n < 0 ? -errno : n;
        }
        if (n == -EAGAIN) {
            channel_co_wait_reader(c, wants_write);
        } else if (n != -EINTR) {
            return n;
        }
    }
}

/* Takes from the buffer. */
static size_t channel_take(NbdChannel *c, void *data, size_t size)
{
    size_t n = MIN(size, (size_t)(c->end - c->at));
    memcpy(data, c->buffer + c->at, n);
    c->at += (unsigned)n;
    return n;
}

int nbd_channel_co_read(NbdChannel *c, void *data, size_t size)
{
    uint8_t *p = data;
    for (size_t done = channel_take(c, p, size); done < size;) {
        bool direct = size - done >= NBD_CHANNEL_BUFFER;
        ssize_t n = direct ? channel_co_receive(c, p + done, size - done)
                           : channel_co_receive(c, c->buffer, NBD_CHANNEL_BUFFER);
        if (n <= 0) {
            return n < 0 ? (int)n : done > 0 ? -ECONNRESET : 0;
        }
        if (direct) {
            done += (size_t)n;
        } else {
            c->at = 0;
            c->end = (unsigned)n;
            done += channel_take(c, p + done, size - done);
        }
    }
    return 1;
}

int nbd_channel_co_skip(NbdChannel *c, uint64_t size)
{
    uint8_t sink[1024];
    int ret = 1;
    for (uint64_t left = size; left > 0 && ret == 1;) {
        size_t n = (size_t)MIN(left, sizeof(sink));
        ret = nbd_channel_co_read(c, sink, n);
        left -= n;
    }
    return ret;
}

bool nbd_channel_has_input(const NbdChannel *c)
{
    return c->at < c->end;
}

/* ---- writing ---- */

/* Writes a part of it. -errno. */
static coroutine_fn RUNS_IN_LOOP ssize_t channel_co_send(NbdChannel *c, struct iovec *iov,
                                                         unsigned niov)
{
    for (;;) {
        ssize_t n;
        if (c->tls != NULL) {
            n = tls_session_write(c->tls, iov[0].iov_base, iov[0].iov_len);
        } else {
            struct msghdr m = {.msg_iov = iov, .msg_iovlen = niov};
            n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
            n = n < 0 ? -errno : n;
        }
        if (n == -EAGAIN) {
            channel_co_wait_writer(c);
        } else if (n != -EINTR) {
            return n;
        }
    }
}

int nbd_channel_co_write(NbdChannel *c, struct iovec *iov, unsigned niov)
{
    while (niov > 0) {
        if (iov[0].iov_len == 0) {
            iov++;
            niov--;
            continue;
        }
        ssize_t n = channel_co_send(c, iov, niov);
        if (n < 0) {
            return (int)n;
        }
        for (size_t left = (size_t)n; left > 0;) {
            size_t part = MIN(left, iov[0].iov_len);
            iov[0].iov_base = (uint8_t *)iov[0].iov_base + part;
            iov[0].iov_len -= part;
            left -= part;
            if (iov[0].iov_len == 0 && left > 0) {
                iov++;
                niov--;
            }
        }
    }
    return 0;
}

/* ---- TLS ---- */

int nbd_channel_co_start_tls(NbdChannel *c, TlsCreds *creds, GError **error)
{
    c->tls = tls_session_new_server(creds, c->fd, error);
    if (c->tls == NULL) {
        return -ENOMEM;
    }
    for (;;) {
        bool wants_write = false;
        int ret = tls_session_handshake(c->tls, &wants_write, error);
        if (ret != -EAGAIN) {
            return ret;
        }
        channel_co_wait_reader(c, wants_write);
    }
}
