/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a stream socket: connections, in main; and -netdev stream. net_stream.h has the states. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "hw/net/net_stream.h"
#include "util/loop/sched_point.h"

#define STREAM_ACCEPT_RETRY_NS (INT64_C(100) * 1000000)

static NetStreamListener *net_stream_listener;

void net_stream_set_listener(NetStreamListener *fn)
{
    net_stream_listener = fn;
}

static RUNS_IN_MAIN void stream_announce(NetStream *s, bool connected)
{
    s->connected = connected;
    net_backend_set_carrier(s->backend, connected);
    if (net_stream_listener != NULL) {
        net_stream_listener(s->backend->id, s->addresses.name, connected);
    }
}

/* ---- a connection begins ---- */

/* Takes @fd, which is connected and does not block. */
static RUNS_IN_MAIN void stream_offer(NetStream *s, int fd)
{
    static const int on = 1;
    NetStreamConnection *c = g_malloc(sizeof(*c)); /* not cleared: most of it is never touched */
    c->fd = fd;
    c->handler = NULL;
    c->in_start = c->in_end = c->out_start = c->out_end = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* fails for other sockets */
    g_assert(!s->connected);
    stream_announce(s, true); /* first: what the home reads while the link is down is dropped */
    SP("net_stream.offer", s);
    rank_mutex_lock(&s->lock);
    s->offered = c;
    if (s->home != NULL) {
        aio_bh_schedule(&s->take_bh);
    }
    rank_mutex_unlock(&s->lock);
}

static void stream_accept(void *opaque)
{
    NetStream *s = opaque;
    enter_main();
    int fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        aio_handler_watch(s->listen_handler, false, false); /* one at a time */
        stream_offer(s, fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        log_limited(&s->log_limit, "netdev %s: cannot accept a connection: %s", s->backend->id,
                    g_strerror(errno));
        aio_handler_watch(s->listen_handler, false,
                          false); /* no descriptors are left: later again */
        aio_timer_arm(&s->reconnect, aio_now_ns(s->backend->main_ctx) + STREAM_ACCEPT_RETRY_NS);
    }
}

static const AioHandlerOps stream_listen_ops = {.readable = stream_accept};

/* Tries once; later again if that is wanted. */
static coroutine_fn RUNS_IN_MAIN bool stream_co_connect(NetStream *s, GError **error)
{
    s->connect = (SocketConnect){.ctx = s->backend->main_ctx};
    s->connecting = true;
    int fd = socket_co_connect(&s->addresses, &s->connect, error);
    s->connecting = false;
    if (fd >= 0 && s->closing) {
        close(fd);
    } else if (fd >= 0) {
        stream_offer(s, fd);
    } else if (s->reconnect_ns != 0 && !s->closing) {
        aio_timer_arm(&s->reconnect, aio_now_ns(s->backend->main_ctx) + s->reconnect_ns);
    }
    co_queue_wake_all(&s->idle);
    return fd >= 0;
}

static void stream_reconnect(void *opaque)
{
    NetStream *s = opaque;
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    if (!s->closing && !s->connected && !s->connecting && !stream_co_connect(s, &error)) {
        log_limited(&s->log_limit, "netdev %s: %s", s->backend->id, error->message);
    }
}

static void stream_reconnect_due(void *opaque)
{
    NetStream *s = opaque;
    enter_main();
    if (s->server) {
        aio_handler_watch(s->listen_handler, true, false);
        return;
    }
    co_start_now(s->backend->main_ctx, stream_reconnect, s);
}

/* ---- a connection ends ---- */

static void stream_free_connection(NetStreamConnection *c)
{
    if (c != NULL) {
        close(c->fd);
        g_free(c);
    }
}

static void stream_lost(void *opaque)
{
    NetStream *s = opaque;
    enter_main();
    rank_mutex_lock(&s->lock);
    NetStreamConnection *c = g_steal_pointer(&s->gone);
    rank_mutex_unlock(&s->lock);
    stream_free_connection(c);
    stream_announce(s, false);
    if (s->server) {
        aio_handler_watch(s->listen_handler, true, false);
    } else if (s->reconnect_ns != 0) {
        aio_timer_arm(&s->reconnect, aio_now_ns(s->backend->main_ctx) + s->reconnect_ns);
    }
}

/* ---- life cycle ---- */

static RUNS_IN_MAIN bool stream_listen(NetStream *s, GError **error)
{
    s->listen_fd = socket_listen(&s->addresses, error);
    if (s->listen_fd < 0) {
        return false;
    }
    s->listen_handler = aio_handler_add(s->backend->main_ctx, s->listen_fd, &stream_listen_ops, s);
    return true;
}

bool net_stream_co_open(NetStream *s, NetBackend *b, GError **error)
{
    s->backend = b;
    s->listen_fd = -1;
    s->opened = true;
    rank_mutex_init(&s->lock, RANK_QUEUE, "a network's connection");
    co_queue_init(&s->idle);
    aio_bh_init(&s->lost_bh, b->main_ctx, stream_lost, s);
    aio_timer_init(&s->reconnect, b->main_ctx, stream_reconnect_due, s);
    if (!socket_co_resolve(&s->address, s->server, &s->addresses, error)) {
        return false;
    }
    b->info = g_strdup_printf("%s,server=%s", s->addresses.name, s->server ? "on" : "off");
    b->no_carrier = true;
    if (s->server) {
        return stream_listen(s, error);
    }
    if (s->reconnect_ns == 0) {
        return stream_co_connect(s, error);
    }
    aio_timer_arm(&s->reconnect, aio_now_ns(b->main_ctx));
    return true;
}

void net_stream_unlink(const NetStream *s)
{
    if (s->opened && s->listen_fd >= 0) {
        socket_unlink(&s->addresses);
    }
}

void net_stream_co_close(NetStream *s)
{
    if (!s->opened) {
        return;
    }
    s->closing = true;
    aio_timer_disarm(&s->reconnect);
    socket_connect_cancel(&s->connect);
    while (s->connecting) {
        co_queue_wait(&s->idle, "the end of an attempt to connect");
    }
    aio_bh_cancel(&s->lost_bh);
    aio_handler_remove(g_steal_pointer(&s->listen_handler));
    if (s->listen_fd >= 0) {
        close(s->listen_fd);
        socket_unlink(&s->addresses);
    }
    stream_free_connection(g_steal_pointer(&s->offered));
    stream_free_connection(g_steal_pointer(&s->gone));
    socket_addresses_clear(&s->addresses);
    rank_mutex_destroy(&s->lock);
}

/* ---- -netdev stream ---- */

typedef enum StreamAddressType {
    STREAM_INET,
    STREAM_UNIX,
    STREAM_FD,
    STREAM_VSOCK
} StreamAddressType;
static const char *const stream_address_types[] = {"inet", "unix", "fd", "vsock", NULL};

typedef struct NetStreamBackend {
    NetBackend base;
    NetStream stream;
    /* config */
    int type;
    bool server, abstract, tight, ipv4, ipv6;
    char *host, *port, *path, *str;
    uint32_t reconnect_ms, reconnect_s;
} NetStreamBackend;

static NetStreamBackend *stream_from(NetBackend *b)
{
    return (NetStreamBackend *)(void *)b;
}

static bool stream_check(const NetStreamBackend *n, GError **error)
{
    static const char *const needs[] = {"addr.host= and addr.port=", "addr.path=", "addr.str="};
    const bool has[] = {n->port != NULL, n->path != NULL, n->str != NULL};
    if (n->type == STREAM_VSOCK) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "skiff has no addr.type=vsock; nearest are inet and unix");
        return false;
    }
    if (!n->tight) {
        g_set_error(
            error, OPT_ERROR, OPT_ERROR_VALUE,
            "skiff has no padded abstract names (addr.tight=off); nearest is addr.tight=on");
        return false;
    }
    for (int type = STREAM_INET; type <= STREAM_FD; type++) {
        if (has[type] != (type == n->type)) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "addr.type=%s %s %s",
                        stream_address_types[n->type], type == n->type ? "needs" : "excludes",
                        needs[type]);
            return false;
        }
    }
    if (n->server && (n->reconnect_ms != 0 || n->reconnect_s != 0)) {
        g_set_error(
            error, OPT_ERROR, OPT_ERROR_VALUE,
            "'reconnect-ms' is a client's: a server (server=on) waits for the next client anyway");
        return false;
    }
    if (n->reconnect_ms != 0 && n->reconnect_s != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "'reconnect' and 'reconnect-ms' exclude each other");
        return false;
    }
    return true;
}

static bool stream_backend_co_open(NetBackend *b, GError **error)
{
    NetStreamBackend *n = stream_from(b);
    enter_main();
    enter_coroutine();
    if (!stream_check(n, error)) {
        return false;
    }
    n->stream.address = (SocketAddressOptions){.path = n->path,
                                               .abstract = n->abstract,
                                               .host = n->host,
                                               .port = n->port,
                                               .ipv4 = n->ipv4,
                                               .ipv6 = n->ipv6,
                                               .fd = n->str};
    n->stream.server = n->server;
    n->stream.reconnect_ns =
        n->reconnect_ms * INT64_C(1000000) + n->reconnect_s * INT64_C(1000000000);
    return net_stream_co_open(&n->stream, b, error);
}

static void stream_backend_co_close(NetBackend *b)
{
    enter_main();
    enter_coroutine();
    net_stream_co_close(&stream_from(b)->stream);
}

static void stream_backend_unlink(const NetBackend *b)
{
    net_stream_unlink(&((const NetStreamBackend *)(const void *)b)->stream);
}

static void stream_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    enter_loop(home);
    net_stream_start(&stream_from(b)->stream, home);
}

static void stream_queue_stop(NetBackend *b, unsigned queue)
{
    NetStream *s = &stream_from(b)->stream;
    enter_loop(s->again_bh.ctx);
    net_stream_stop(s);
}

static void stream_queue_watch(NetBackend *b, unsigned queue, bool on)
{
    NetStream *s = &stream_from(b)->stream;
    enter_loop(s->again_bh.ctx);
    net_stream_watch(s, on);
}

static ssize_t stream_queue_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                    unsigned count)
{
    NetStream *s = &stream_from(b)->stream;
    enter_loop(s->again_bh.ctx);
    return net_stream_receive(s, iov, count);
}

static ssize_t stream_queue_send(NetBackend *b, unsigned queue, const struct iovec *iov,
                                 unsigned count)
{
    NetStream *s = &stream_from(b)->stream;
    enter_loop(s->again_bh.ctx);
    return net_stream_send(s, iov, count);
}

static const OptSpec stream_options[] = {
    OPT_SPEC(NetStreamBackend, "addr.type", OPT_ENUM, type, .names = stream_address_types,
             .required = true, .help = "kind of socket"),
    OPT_SPEC(NetStreamBackend, "addr.host", OPT_STRING, host, .help = "host name or address"),
    OPT_SPEC(NetStreamBackend, "addr.port", OPT_STRING, port, .help = "TCP port"),
    OPT_SPEC(NetStreamBackend, "addr.ipv4", OPT_BOOL, ipv4, .def = "off", .help = "IPv4 only"),
    OPT_SPEC(NetStreamBackend, "addr.ipv6", OPT_BOOL, ipv6, .def = "off", .help = "IPv6 only"),
    OPT_SPEC(NetStreamBackend, "addr.path", OPT_STRING, path, .help = "path of a UNIX socket"),
    OPT_SPEC(NetStreamBackend, "addr.abstract", OPT_BOOL, abstract, .def = "off",
             .help = "the path is a name in the abstract name space"),
    OPT_SPEC(NetStreamBackend, "addr.tight", OPT_BOOL, tight, .def = "on",
             .help = "an abstract name has no padding: always on"),
    OPT_SPEC(NetStreamBackend, "addr.str", OPT_STRING, str,
             .help = "number of an inherited descriptor"),
    OPT_SPEC(NetStreamBackend, "server", OPT_BOOL, server, .def = "off",
             .help = "wait for clients, one at a time, instead of connecting"),
    OPT_SPEC(NetStreamBackend, "reconnect-ms", OPT_U32, reconnect_ms, .def = "0",
             .help = "a client connects again after so many milliseconds; 0: never"),
    OPT_SPEC(NetStreamBackend, "reconnect", OPT_U32, reconnect_s, .def = "0",
             .help = "the same in seconds"),
    {0},
};

static const NetFdOption stream_fd_options[] = {{"addr.str", false}, {0}};

const NetType net_stream_type = {
    .name = "stream",
    .description = "frames over a TCP or UNIX stream socket: passt, another QEMU or skiff",
    .instance_size = sizeof(NetStreamBackend),
    .options = stream_options,
    .fd_options = stream_fd_options,
    .co_open = stream_backend_co_open,
    .co_close = stream_backend_co_close,
    .unlink = stream_backend_unlink,
    .queue_start = stream_queue_start,
    .queue_stop = stream_queue_stop,
    .watch = stream_queue_watch,
    .receive = stream_queue_receive,
    .send = stream_queue_send,
};
