/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev socket: QEMU's older spelling of stream and dgram. */
#include <errno.h>
#include <string.h>
#include "hw/net/net_dgram.h"
#include "hw/net/net_socket.h"
#include "hw/net/net_stream.h"

typedef struct NetSocket {
    NetBackend base;
    NetStream stream; /* one of the two is open */
    NetDgram dgram;
    bool is_dgram;
    /* config */
    char *fd, *listen, *connect, *mcast, *udp, *localaddr;
    /* the parts of the addresses; owned */
    char *host, *port, *local_host, *local_port;
} NetSocket;

static NetSocket *socket_from(NetBackend *b)
{
    return (NetSocket *)(void *)b;
}

/* "host:port", "[address]:port" or ":port". */
static bool socket_split(const char *option, const char *text, char **host, char **port,
                         GError **error)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon[1] == '\0') {
        g_autofree char *shown = opt_excerpt(text);
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s=%s: is not of the form HOST:PORT",
                    option, shown);
        return false;
    }
    size_t length = (size_t)(colon - text);
    bool brackets = length >= 2 && text[0] == '[' && text[length - 1] == ']';
    *host = brackets ? g_strndup(text + 1, length - 2) : g_strndup(text, length);
    *port = g_strdup(colon + 1);
    return true;
}

/* The local end of mcast= is an address without a port. */
static bool socket_split_local(NetSocket *n, GError **error)
{
    if (n->localaddr == NULL) {
        return true;
    }
    if (n->mcast == NULL) {
        return socket_split("localaddr", n->localaddr, &n->local_host, &n->local_port, error);
    }
    n->local_host = g_strdup(n->localaddr);
    n->local_port = g_strdup("0");
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool socket_co_open_dgram(NetSocket *n, GError **error)
{
    SocketAddressOptions local = {.host = n->local_host, .port = n->local_port, .fd = n->fd};
    SocketAddressOptions remote = {.host = n->host, .port = n->port};
    bool has_local = n->fd != NULL || n->localaddr != NULL;
    n->is_dgram = true;
    return net_dgram_co_open(&n->dgram, &n->base, has_local ? &local : NULL,
                             n->fd != NULL ? NULL : &remote, error);
}

static coroutine_fn RUNS_IN_MAIN bool socket_co_open_stream(NetSocket *n, GError **error)
{
    n->stream.address = (SocketAddressOptions){.host = n->host, .port = n->port, .fd = n->fd};
    n->stream.server = n->listen != NULL;
    return net_stream_co_open(&n->stream, &n->base, error);
}

static bool socket_is_stream(const char *fd)
{
    uint64_t number;
    int type = 0;
    socklen_t size = sizeof(type);
    return opt_parse_u64(fd, 3, INT32_MAX, &number, NULL) &&
           getsockopt((int)number, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

static bool socket_co_open(NetBackend *b, GError **error)
{
    NetSocket *n = socket_from(b);
    enter_main();
    enter_coroutine();
    unsigned given = (n->fd != NULL) + (n->listen != NULL) + (n->connect != NULL) +
                     (n->mcast != NULL) + (n->udp != NULL);
    if (given != 1) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "expects one of fd=, listen=, connect=, mcast=, udp=");
        return false;
    }
    if ((n->udp != NULL) != (n->localaddr != NULL) && n->mcast == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "localaddr= belongs to udp=, which needs it, and mcast=");
        return false;
    }
    const char *option = n->listen ? "listen" : n->connect ? "connect" : n->mcast ? "mcast" : "udp";
    const char *text = n->listen    ? n->listen
                       : n->connect ? n->connect
                       : n->mcast   ? n->mcast
                                    : n->udp;
    if ((text != NULL && !socket_split(option, text, &n->host, &n->port, error)) ||
        !socket_split_local(n, error)) {
        return false;
    }
    bool stream =
        n->listen != NULL || n->connect != NULL || (n->fd != NULL && socket_is_stream(n->fd));
    return stream ? socket_co_open_stream(n, error) : socket_co_open_dgram(n, error);
}

static void socket_co_close(NetBackend *b)
{
    NetSocket *n = socket_from(b);
    enter_main();
    enter_coroutine();
    net_stream_co_close(&n->stream);
    net_dgram_close(&n->dgram);
    g_free(n->host);
    g_free(n->port);
    g_free(n->local_host);
    g_free(n->local_port);
}

static void socket_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    NetSocket *n = socket_from(b);
    enter_loop(home);
    if (n->is_dgram) {
        net_dgram_start(&n->dgram, home);
    } else {
        net_stream_start(&n->stream, home);
    }
}

static const AioContext *socket_home(const NetSocket *n)
{
    return n->is_dgram ? n->dgram.home : n->stream.again_bh.ctx;
}

static void socket_queue_stop(NetBackend *b, unsigned queue)
{
    NetSocket *n = socket_from(b);
    enter_loop(socket_home(n));
    if (n->is_dgram) {
        net_dgram_stop(&n->dgram);
    } else {
        net_stream_stop(&n->stream);
    }
}

static void socket_queue_watch(NetBackend *b, unsigned queue, bool on)
{
    NetSocket *n = socket_from(b);
    enter_loop(socket_home(n));
    if (n->is_dgram) {
        net_dgram_watch(&n->dgram, on);
    } else {
        net_stream_watch(&n->stream, on);
    }
}

static ssize_t socket_queue_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                    unsigned count)
{
    NetSocket *n = socket_from(b);
    enter_loop(socket_home(n));
    return n->is_dgram ? net_dgram_receive(&n->dgram, iov, count)
                       : net_stream_receive(&n->stream, iov, count);
}

static ssize_t socket_queue_send(NetBackend *b, unsigned queue, const struct iovec *iov,
                                 unsigned count)
{
    NetSocket *n = socket_from(b);
    enter_loop(socket_home(n));
    return n->is_dgram ? net_dgram_send(&n->dgram, iov, count)
                       : net_stream_send(&n->stream, iov, count);
}

static const OptSpec socket_options[] = {
    OPT_SPEC(NetSocket, "fd", OPT_STRING, fd, .help = "number of an inherited descriptor"),
    OPT_SPEC(NetSocket, "listen", OPT_STRING, listen,
             .help = "[HOST]:PORT to wait for TCP clients at"),
    OPT_SPEC(NetSocket, "connect", OPT_STRING, connect, .help = "HOST:PORT to connect to by TCP"),
    OPT_SPEC(NetSocket, "mcast", OPT_STRING, mcast, .help = "GROUP:PORT of a multicast group"),
    OPT_SPEC(NetSocket, "udp", OPT_STRING, udp,
             .help = "HOST:PORT to send datagrams to; needs localaddr="),
    OPT_SPEC(NetSocket, "localaddr", OPT_STRING, localaddr,
             .help = "HOST:PORT of udp=; address of the interface of mcast="),
    {0},
};

static const NetFdOption socket_fd_options[] = {{"fd", false}, {0}};

const NetType net_socket_type = {
    .name = "socket",
    .description = "frames over TCP, UDP or multicast: the older spelling of stream and dgram",
    .instance_size = sizeof(NetSocket),
    .options = socket_options,
    .fd_options = socket_fd_options,
    .co_open = socket_co_open,
    .co_close = socket_co_close,
    .queue_start = socket_queue_start,
    .queue_stop = socket_queue_stop,
    .watch = socket_queue_watch,
    .receive = socket_queue_receive,
    .send = socket_queue_send,
};
