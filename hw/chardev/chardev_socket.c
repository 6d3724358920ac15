/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A UNIX or TCP socket with one peer at a time.
 *
 *   server:  LISTENING --client--> CONNECTED --gone--> LISTENING
 *   client:  CONNECTING --ok--> CONNECTED --gone--> WAITING (reconnect=) --timer--> CONNECTING
 *
 *   both:    CONNECTED --end of input, answers due--> LINGERING --answers written--> (as gone)
 *            CONNECTED --output fails, input unread-> LINGERING --end of input-----> (as gone)
 *
 * Further clients of a server wait in the kernel's backlog until the current one disconnects. A
 * client that lingers longer than SOCKET_LINGER_NS is disconnected for the next one.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/socket_address.h"
#include "hw/chardev/chardev_int.h"

#define SOCKET_LINGER_NS (5 * INT64_C(1000000000))
#define SOCKET_LOOK_NS (200 * INT64_C(1000000))         /* checks for the peer while lingering */
#define SOCKET_ACCEPT_AGAIN_NS (100 * INT64_C(1000000)) /* after a lack of descriptors or memory */

typedef struct ChardevSocket {
    ChardevStream stream;

    /* config */
    SocketAddressOptions address;
    bool server, nodelay, telnet, websocket, tn3270;
    char *wait_text; /* NULL: not given, which means on for a server */
    uint64_t reconnect_s, reconnect_ms;
    char *tls;

    SocketAddresses addresses;
    SocketConnect connect;
    int listen_fd, fd; /* -1: none */
    int out_fd;        /* a second number for fd: epoll takes each once */
    AioHandler *listen_handler;
    AioTimer reconnect_timer, accept_timer, linger_timer;
    int64_t linger_until_ns; /* after that, the next client disconnects it */
    bool wait;
    bool waiting; /* chardev_co_add() waits for the first client */
    CoToken waiter;
    char *name; /* "unix:/tmp/s,server=on" */
    LogLimit limit;
} ChardevSocket;

static void chardev_socket_set_filename(ChardevSocket *k, bool connected)
{
    g_free(k->stream.filename);
    k->stream.filename = g_strconcat(connected ? "" : "disconnected:", k->name, NULL);
}

static void chardev_socket_arm_reconnect(ChardevSocket *k)
{
    uint64_t ms = k->reconnect_ms ? k->reconnect_ms : k->reconnect_s * 1000;

    if (ms > 0) {
        aio_timer_arm(&k->reconnect_timer,
                      aio_now_ns(k->stream.ctx) + (int64_t)ms * INT64_C(1000000));
    }
}

static RUNS_IN_MAIN void chardev_socket_stop_waiting(ChardevSocket *k)
{
    if (k->waiting) {
        k->waiting = false;
        co_wake(k->waiter);
    }
}

static RUNS_IN_MAIN void chardev_socket_connected(ChardevSocket *k, int fd)
{
    ChardevStream *s = &k->stream;
    int on = 1;

    k->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (k->out_fd < 0) {
        log_limited(&k->limit, "chardev '%s': %s", s->base.id, g_strerror(errno));
        close(fd);
        if (k->listen_handler) {
            aio_handler_watch(k->listen_handler, true, false);
        } else {
            chardev_socket_arm_reconnect(k);
        }
        return;
    }
    k->fd = fd;
    if (k->nodelay) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* may fail: no TCP */
    }
    chardev_socket_set_filename(k, true);
    sink_start(&s->out, k->out_fd, FD_SOCKET, k->name);
    stream_set_connected(s, true);
    stream_input_start(s, fd, FD_SOCKET);
    chardev_socket_stop_waiting(k);
}

/* Reads; a UNIX peer may pass descriptors. */
static ssize_t chardev_socket_read(ChardevStream *s, uint8_t *data, size_t size)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(STREAM_PASSED_FDS * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = data, .iov_len = size};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    ssize_t n;

    do {
        n = recvmsg(s->in_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return -errno;
    }
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        size_t count;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        count = MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), STREAM_PASSED_FDS);
        memcpy(s->passed_fds, CMSG_DATA(c), count * sizeof(int));
        s->passed_count = (unsigned)count;
    }
    return n;
}

/* ---- the end of a connection ---- */

static RUNS_IN_MAIN void chardev_socket_disconnect(ChardevSocket *k)
{
    ChardevStream *s = &k->stream;

    aio_timer_disarm(&k->linger_timer);
    s->ending = false;
    sink_stop(&s->out);
    stream_input_stop(s);
    close(k->out_fd);
    close(k->fd);
    k->fd = -1;
    chardev_socket_set_filename(k, false);
    if (k->listen_handler) {
        aio_handler_watch(k->listen_handler, true, false);
    } else {
        chardev_socket_arm_reconnect(k);
    }
    stream_set_connected(s, false);
}

static int chardev_socket_connection(const ChardevStream *s)
{
    enter_main();
    return ((const ChardevSocket *)(const void *)s)->fd;
}

static void chardev_socket_end_connection(ChardevStream *s)
{
    enter_main();
    chardev_socket_disconnect((ChardevSocket *)s);
}

/* Whether the peer neither reads nor writes any more; with TCP this is unknown until data is
 * sent. */
static bool chardev_socket_peer_is_gone(const ChardevSocket *k)
{
    struct pollfd p = {.fd = k->fd};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

static bool chardev_socket_has_input(const ChardevSocket *k)
{
    uint8_t byte;
    ssize_t n;

    do {
        n = recv(k->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    return n > 0;
}

static void chardev_socket_linger_look(void *opaque)
{
    ChardevSocket *k = opaque;
    int64_t now_ns = aio_now_ns(k->stream.ctx);

    enter_main();
    if (k->stream.ending && chardev_socket_peer_is_gone(k)) {
        chardev_socket_disconnect(k);
        return;
    }
    if (k->listen_handler && now_ns >= k->linger_until_ns) {
        aio_handler_watch(k->listen_handler, true, false);
    }
    aio_timer_arm(&k->linger_timer, now_ns + SOCKET_LOOK_NS);
}

/* All input that the peer sent is read to its end. A peer that shut down only its sending side gets
 * the answers. */
static void chardev_socket_hangup(ChardevStream *s, int error_number)
{
    ChardevSocket *k = (ChardevSocket *)s;
    bool unread, answering;

    enter_main();
    if (k->fd < 0) {
        return;
    }
    unread = error_number != 0 && s->in_fd >= 0 && chardev_socket_has_input(k);
    answering = error_number == 0 && stream_is_answering(s) && !chardev_socket_peer_is_gone(k);
    if (!unread && !answering) {
        chardev_socket_disconnect(k);
        return;
    }
    s->ending = answering;
    k->linger_until_ns = aio_now_ns(s->ctx) + SOCKET_LINGER_NS;
    aio_timer_arm(&k->linger_timer, aio_now_ns(s->ctx) + SOCKET_LOOK_NS);
}

/* ---- server ---- */

static void chardev_socket_accept_again(void *opaque)
{
    ChardevSocket *k = opaque;

    enter_main();
    if (k->fd < 0) {
        aio_handler_watch(k->listen_handler, true, false);
    }
}

static void chardev_socket_accept(void *opaque)
{
    ChardevSocket *k = opaque;
    int fd;

    enter_main();
    fd = accept4(k->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) {
        return;
    }
    if (fd < 0) {
        /* The client stays in the backlog and the socket readable: do not watch it for a while. */
        log_limited(&k->limit, "chardev '%s': accept: %s", k->stream.base.id, g_strerror(errno));
        aio_handler_watch(k->listen_handler, false, false);
        aio_timer_arm(&k->accept_timer, aio_now_ns(k->stream.ctx) + SOCKET_ACCEPT_AGAIN_NS);
        return;
    }
    if (k->fd >= 0) {
        chardev_socket_disconnect(k);
    }
    aio_handler_watch(k->listen_handler, false, false);
    chardev_socket_connected(k, fd);
}

static const AioHandlerOps chardev_socket_listen_ops = {.readable = chardev_socket_accept};

static coroutine_fn RUNS_IN_MAIN bool chardev_socket_co_listen(ChardevSocket *k, GError **error)
{
    k->listen_fd = socket_listen(&k->addresses, error);
    if (k->listen_fd < 0) {
        return false;
    }
    g_free(k->name);
    k->name = socket_listen_name(k->listen_fd, &k->addresses);
    chardev_socket_set_filename(k, false);
    k->listen_handler = aio_handler_add(k->stream.ctx, k->listen_fd, &chardev_socket_listen_ops, k);
    if (k->wait && !k->stream.closing) {
        k->waiter = co_arm();
        k->waiting = true;
        log_info("waiting for connection on: %s", k->name);
        co_wait(k->waiter);
    }
    return true;
}

/* ---- client ---- */

static void chardev_socket_reconnect_coroutine(void *opaque)
{
    ChardevSocket *k = opaque;
    g_autoptr(GError) error = NULL;
    int fd;

    enter_coroutine();
    enter_main();
    fd = socket_co_connect(&k->addresses, &k->connect, &error);
    if (fd >= 0 && k->stream.closing) {
        close(fd);
    } else if (fd >= 0) {
        chardev_socket_connected(k, fd);
    } else if (!k->stream.closing) {
        chardev_socket_arm_reconnect(k);
    }
    stream_coroutine_end(&k->stream);
}

static void chardev_socket_reconnect(void *opaque)
{
    ChardevSocket *k = opaque;

    enter_main();
    stream_coroutine_begin(&k->stream);
    co_start(k->stream.ctx, chardev_socket_reconnect_coroutine, k);
}

static coroutine_fn RUNS_IN_MAIN bool chardev_socket_co_connect(ChardevSocket *k, GError **error)
{
    g_autoptr(GError) failure = NULL;
    int fd = socket_co_connect(&k->addresses, &k->connect, &failure);

    if (fd >= 0) {
        chardev_socket_connected(k, fd);
        return true;
    }
    if (k->reconnect_s || k->reconnect_ms) {
        chardev_socket_arm_reconnect(k); /* the peer may become reachable later */
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&failure));
    return false;
}

/* ---- opening ---- */

static bool chardev_socket_check(const ChardevSocket *k, bool wait_given, GError **error)
{
    const char *missing = k->telnet      ? "telnet=on"
                          : k->tn3270    ? "tn3270=on"
                          : k->websocket ? "websocket=on"
                          : k->tls       ? "tls-creds"
                                         : NULL;

    if (missing) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "skiff has no %s; nearest is a plain socket, behind socat or stunnel", missing);
        return false;
    }
    if (k->reconnect_s && k->reconnect_ms) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "reconnect and reconnect-ms exclude each other");
        return false;
    }
    if (k->server && (k->reconnect_s || k->reconnect_ms)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "reconnect is for clients; a server accepts the next client anyway");
        return false;
    }
    if (!k->server && wait_given) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "wait is for server=on");
        return false;
    }
    return true;
}

static bool chardev_socket_co_open(ChardevStream *s, GError **error)
{
    ChardevSocket *k = (ChardevSocket *)s;
    bool wait_given = k->wait_text != NULL;

    enter_coroutine();
    enter_main();
    k->listen_fd = k->fd = -1;
    k->wait = k->server;
    k->connect.ctx = s->ctx;
    aio_timer_init(&k->reconnect_timer, s->ctx, chardev_socket_reconnect, k);
    aio_timer_init(&k->accept_timer, s->ctx, chardev_socket_accept_again, k);
    aio_timer_init(&k->linger_timer, s->ctx, chardev_socket_linger_look, k);
    if (wait_given && !opt_parse_bool(k->wait_text, &k->wait, error)) {
        g_prefix_error(error, "wait=%s: ", k->wait_text);
        return false;
    }
    if (!chardev_socket_check(k, wait_given, error) ||
        !socket_co_resolve(&k->address, k->server, &k->addresses, error)) {
        return false;
    }
    k->name = g_strdup(k->addresses.name);
    chardev_socket_set_filename(k, false);
    return k->server ? chardev_socket_co_listen(k, error) : chardev_socket_co_connect(k, error);
}

static void chardev_socket_stop(ChardevStream *s)
{
    ChardevSocket *k = (ChardevSocket *)s;

    enter_main();
    aio_timer_disarm(&k->reconnect_timer);
    aio_timer_disarm(&k->accept_timer);
    aio_timer_disarm(&k->linger_timer);
    if (k->listen_handler) { /* accept no client while the close waits */
        aio_handler_watch(k->listen_handler, false, false);
    }
    socket_connect_cancel(&k->connect);
    chardev_socket_stop_waiting(k);
}

static void chardev_socket_unlink(ChardevStream *s)
{
    ChardevSocket *k = (ChardevSocket *)s;

    if (k->listen_fd >= 0) {
        socket_unlink(&k->addresses);
    }
}

static void chardev_socket_close(ChardevStream *s)
{
    ChardevSocket *k = (ChardevSocket *)s;

    enter_main();
    aio_handler_remove(k->listen_handler);
    if (k->listen_fd >= 0) {
        close(k->listen_fd);
    }
    if (k->fd >= 0) {
        close(k->out_fd);
        close(k->fd);
    }
    socket_addresses_clear(&k->addresses);
    g_free(k->name);
}

static const OptSpec chardev_socket_options[] = {
    OPT_SPEC(ChardevSocket, "path", OPT_STRING, address.path, .help = "UNIX socket"),
    OPT_SPEC(ChardevSocket, "abstract", OPT_BOOL, address.abstract,
             .help = "path is in the abstract namespace", .def = "off"),
    OPT_SPEC(ChardevSocket, "host", OPT_STRING, address.host, .help = "TCP host or address"),
    OPT_SPEC(ChardevSocket, "port", OPT_STRING, address.port, .help = "TCP port"),
    OPT_SPEC(ChardevSocket, "ipv4", OPT_BOOL, address.ipv4, .help = "IPv4 only", .def = "off"),
    OPT_SPEC(ChardevSocket, "ipv6", OPT_BOOL, address.ipv6, .help = "IPv6 only", .def = "off"),
    OPT_SPEC(ChardevSocket, "fd", OPT_STRING, address.fd,
             .help = "number of an inherited socket, listening for server=on"),
    OPT_SPEC(ChardevSocket, "server", OPT_BOOL, server, .help = "listen", .def = "off"),
    OPT_SPEC(ChardevSocket, "wait", OPT_STRING, wait_text,
             .help = "on|off: start only when the first client has connected (on for a server)"),
    OPT_SPEC(ChardevSocket, "nodelay", OPT_BOOL, nodelay, .help = "TCP_NODELAY", .def = "on"),
    OPT_SPEC(ChardevSocket, "reconnect", OPT_U64, reconnect_s,
             .help = "client: seconds between attempts, 0 is never", .max = 3600),
    OPT_SPEC(ChardevSocket, "reconnect-ms", OPT_U64, reconnect_ms,
             .help = "the same in milliseconds", .max = 3600000),
    OPT_SPEC(ChardevSocket, "telnet", OPT_BOOL, telnet, .help = "refused: plain only"),
    OPT_SPEC(ChardevSocket, "tn3270", OPT_BOOL, tn3270, .help = "refused: plain only"),
    OPT_SPEC(ChardevSocket, "websocket", OPT_BOOL, websocket, .help = "refused: plain only"),
    OPT_SPEC(ChardevSocket, "tls-creds", OPT_STRING, tls, .help = "refused: plain only"),
    {0},
};

const ChardevBackend chardev_socket_backend = {
    .name = "socket",
    .description = "UNIX or TCP socket, server or client",
    .instance_size = sizeof(ChardevSocket),
    .options = chardev_socket_options,
    .co_open = chardev_socket_co_open,
    .stop = chardev_socket_stop,
    .unlink = chardev_socket_unlink,
    .close = chardev_socket_close,
    .read = chardev_socket_read,
    .hangup = chardev_socket_hangup,
    .connection = chardev_socket_connection,
    .end_connection = chardev_socket_end_connection,
};
