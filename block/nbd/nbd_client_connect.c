/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD client: one attempt to reach the server, in main. The name is looked up in a worker; the
 * connection and the negotiation wait in main's loop, so that a cancel or the deadline ends them at
 * any point.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include "block/nbd/nbd_client_int.h"
#include "util/loop/sched_point.h"

/* ---- waits ---- */

static RUNS_IN_MAIN void connector_wake(NbdConnector *c)
{
    if (c->waiting) {
        c->waiting = false;
        co_wake(c->waiter);
    }
}

static bool connector_ended(const NbdConnector *c)
{
    return c->cancelled || c->timed_out;
}

static void connector_timeout(void *opaque)
{
    NbdConnector *c = opaque;
    enter_main();
    c->timed_out = true;
    socket_connect_cancel(&c->socket);
    connector_wake(c);
}

void nbd_connector_init(NbdConnector *c, NbdTarget *target, AioContext *main_ctx)
{
    *c = (NbdConnector){.target = nbd_target_ref(target), .ctx = main_ctx};
    aio_timer_init(&c->timer, main_ctx, connector_timeout, c);
}

void nbd_connector_clear(NbdConnector *c)
{
    aio_timer_disarm(&c->timer);
    nbd_target_unref(c->target);
}

void nbd_connector_cancel(NbdConnector *c)
{
    c->cancelled = true;
    socket_connect_cancel(&c->socket);
    connector_wake(c);
}

void nbd_connector_set_deadline(NbdConnector *c, int64_t deadline_ns)
{
    c->timed_out = false;
    if (deadline_ns == INT64_MAX) {
        aio_timer_disarm(&c->timer);
    } else {
        aio_timer_arm(&c->timer, deadline_ns);
    }
}

static coroutine_fn RUNS_IN_MAIN void connector_co_wait(NbdConnector *c)
{
    c->waiter = co_arm();
    c->waiting = true;
    co_wait(c->waiter);
}

void nbd_connector_co_sleep(NbdConnector *c)
{
    SP("nbd.pause", c);
    if (!connector_ended(c)) {
        connector_co_wait(c);
    }
}

static void connector_readable(void *opaque)
{
    NbdConnector *c = opaque;
    enter_main();
    c->readable = true;
    connector_wake(c);
}

static void connector_writable(void *opaque)
{
    NbdConnector *c = opaque;
    enter_main();
    c->writable = true;
    connector_wake(c);
}

static const AioHandlerOps connector_ops = {.readable = connector_readable,
                                            .writable = connector_writable};

/* Waits until libnbd can go on. */
static coroutine_fn RUNS_IN_MAIN void connector_co_wait_socket(NbdConnector *c, int fd,
                                                               unsigned direction)
{
    c->readable = c->writable = false;
    AioHandler *handler = aio_handler_add(c->ctx, fd, &connector_ops, c);
    aio_handler_watch(handler, (direction & LIBNBD_AIO_DIRECTION_READ) != 0,
                      (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0);
    connector_co_wait(c);
    aio_handler_remove(handler);
}

/* ---- errors ---- */

static void connector_fail(const NbdConnector *c, GError **error, const char *what)
{
    g_autofree char *excerpt = opt_printable(what); /* may have the server's text */
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "NBD server '%s': %s", c->target->name,
                excerpt);
}

static void connector_fail_libnbd(const NbdConnector *c, GError **error)
{
    const char *what = nbd_get_error();
    connector_fail(c, error, what != NULL ? what : "the connection failed");
}

static void connector_fail_ended(const NbdConnector *c, GError **error)
{
    connector_fail(c, error,
                   c->cancelled ? "the attempt to connect was cancelled"
                                : "the server did not answer in time");
}

/* ---- the socket ---- */

/* Returns a connected socket, or -1 + error. */
static coroutine_fn RUNS_IN_MAIN int connector_co_open_socket(NbdConnector *c, GError **error)
{
    g_autoptr(GError) failure = NULL;
    SocketAddresses addresses;
    int fd = -1, on = 1;
    if (socket_co_resolve(&c->target->server, false, &addresses, &failure) && !connector_ended(c)) {
        c->socket = (SocketConnect){.ctx = c->ctx};
        fd = socket_co_connect(&addresses, &c->socket, &failure);
    }
    bool inet = c->target->server.host != NULL;
    socket_addresses_clear(&addresses);
    if (fd < 0 && connector_ended(c)) {
        connector_fail_ended(c, error);
    } else if (fd < 0) {
        connector_fail(c, error, failure->message);
    } else if (inet) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (c->target->keep_alive) {
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        }
    }
    return fd;
}

/* ---- the negotiation ---- */

static const char *connector_context(const NbdTarget *t)
{
    return t->context != NULL ? t->context : LIBNBD_CONTEXT_BASE_ALLOCATION;
}

static bool connector_configure(const NbdConnector *c, struct nbd_handle *h, GError **error)
{
    if (nbd_set_export_name(h, c->target->export) < 0 ||
        nbd_add_meta_context(h, connector_context(c->target)) < 0) {
        connector_fail_libnbd(c, error);
        return false;
    }
    return true;
}

/* Makes libnbd go on where the socket allows it. */
static RUNS_IN_MAIN void connector_step(const NbdConnector *c, struct nbd_handle *h)
{
    if (c->readable) {
        nbd_aio_notify_read(h);
    } else {
        nbd_aio_notify_write(h);
    }
}

static coroutine_fn RUNS_IN_MAIN bool connector_co_negotiate(NbdConnector *c, struct nbd_handle *h,
                                                             GError **error)
{
    while (nbd_aio_is_ready(h) != 1) {
        int fd = nbd_aio_get_fd(h);
        unsigned direction = nbd_aio_get_direction(h);
        if (nbd_aio_is_dead(h) != 0 || nbd_aio_is_closed(h) != 0 || fd < 0 || direction == 0) {
            connector_fail_libnbd(c, error);
            return false;
        }
        SP("nbd.negotiate", c);
        if (!connector_ended(c)) {
            connector_co_wait_socket(c, fd, direction);
        }
        if (connector_ended(c)) {
            connector_fail_ended(c, error);
            return false;
        }
        connector_step(c, h);
    }
    return true;
}

/* ---- the attempt ---- */

static bool connector_read_export(const NbdConnector *c, struct nbd_handle *h, NbdClientExport *e,
                                  GError **error)
{
    if (!nbd_client_export_read(e, h, connector_context(c->target))) {
        connector_fail_libnbd(c, error);
        return false;
    }
    if (c->target->context != NULL && !e->status) {
        g_autofree char *what =
            g_strdup_printf("requested x-dirty-bitmap %s not found", c->target->context);
        connector_fail(c, error, what);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool connector_co_start(NbdConnector *c, struct nbd_handle *h,
                                                         GError **error)
{
    if (!connector_configure(c, h, error)) {
        return false;
    }
    int fd = connector_co_open_socket(c, error);
    if (fd < 0) {
        return false;
    }
    if (nbd_aio_connect_socket(h, fd) < 0) { /* has taken the socket */
        connector_fail_libnbd(c, error);
        return false;
    }
    return true;
}

struct nbd_handle *nbd_connector_co_connect(NbdConnector *c, NbdClientExport *export,
                                            GError **error)
{
    struct nbd_handle *h = nbd_create();
    if (h == NULL) {
        connector_fail_libnbd(c, error);
        return NULL;
    }
    if (connector_co_start(c, h, error) && connector_co_negotiate(c, h, error) &&
        connector_read_export(c, h, export, error)) {
        return h;
    }
    nbd_close(h);
    return NULL;
}
