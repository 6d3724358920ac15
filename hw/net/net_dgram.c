/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as datagrams: sockets, in main, and the data path, in the NIC's home. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "hw/net/net_dgram.h"
#include "util/iov.h"

#define DGRAM_FRAME_MAX (NET_FRAME_MAX - sizeof(NetHeader))
#define DGRAM_IOV 128 /* pieces of a buffer that are received into without a copy */
#define DGRAM_TRIES 64

/* ---- sockets: main ---- */

static bool dgram_fail(GError **error, const char *what, const char *name)
{
    int err = errno;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(err), "can't %s %s: %s", what, name,
                g_strerror(err));
    return false;
}

static bool dgram_is_multicast(const struct sockaddr_storage *address)
{
    const struct sockaddr_in *in = (const void *)address;
    return address->ss_family == AF_INET && IN_MULTICAST(ntohl(in->sin_addr.s_addr));
}

/* Joins the group, on the interface with the address of @local; NULL: the kernel chooses one. */
static RUNS_IN_MAIN bool dgram_join(NetDgram *d, const SocketAddresses *local, const char *name,
                                    GError **error)
{
    static const int on = 1;
    const struct sockaddr_in *group = (const void *)&d->to;
    struct ip_mreq request = {.imr_multiaddr = group->sin_addr};
    if (local != NULL && local->list[0].address.ss_family == AF_INET) {
        request.imr_interface =
            ((const struct sockaddr_in *)(const void *)&local->list[0].address)->sin_addr;
    }
    if (setsockopt(d->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(d->fd, (const struct sockaddr *)group, sizeof(*group)) != 0 ||
        setsockopt(d->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &request, sizeof(request)) != 0 ||
        setsockopt(d->fd, IPPROTO_IP, IP_MULTICAST_LOOP, &on, sizeof(on)) != 0 ||
        setsockopt(d->fd, IPPROTO_IP, IP_MULTICAST_IF, &request.imr_interface,
                   sizeof(request.imr_interface)) != 0) {
        return dgram_fail(error, "join the group", name);
    }
    return true;
}

static RUNS_IN_MAIN bool dgram_bind(NetDgram *d, SocketAddresses *local, GError **error)
{
    static const int on = 1;
    const struct sockaddr *at = (const void *)&local->list[0].address;
    if (at->sa_family != AF_UNIX) {
        setsockopt(d->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    if (bind(d->fd, at, local->list[0].length) != 0) {
        return dgram_fail(error, "bind to", local->name);
    }
    if (local->path != NULL) {
        owned_path_set(&local->bound, local->path);
    }
    return true;
}

/* Opens the socket between @local and @remote; each may have no address. */
static RUNS_IN_MAIN bool dgram_connect(NetDgram *d, SocketAddresses *local,
                                       const SocketAddresses *remote, GError **error)
{
    if (remote->count != 0) {
        d->to = remote->list[0].address;
        d->to_length = remote->list[0].length;
    }
    bool group = d->to_length != 0 && dgram_is_multicast(&d->to);
    int family = (d->to_length != 0 ? &d->to : &local->list[0].address)->ss_family;
    if (local->count != 0 && local->list[0].address.ss_family != family) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s and %s are of different kinds",
                    local->name, remote->name);
        return false;
    }
    if (!group && local->count == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "needs a local address: only a multicast group is known by the remote one");
        return false;
    }
    d->fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (d->fd < 0) {
        return dgram_fail(error, "open a socket for", group ? remote->name : local->name);
    }
    return group ? dgram_join(d, local->count != 0 ? local : NULL, remote->name, error)
                 : dgram_bind(d, local, error);
}

/* A socket of datagrams that was inherited or passed. */
static RUNS_IN_MAIN bool dgram_take(NetDgram *d, const char *text, GError **error)
{
    uint64_t number;
    int type = 0;
    socklen_t size = sizeof(type);
    if (!opt_parse_u64(text, 3, INT32_MAX, &number, error)) {
        g_prefix_error(error, "fd=: ");
        return false;
    }
    if (getsockopt((int)number, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        (type != SOCK_DGRAM && type != SOCK_SEQPACKET)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "fd=%s: is not a socket of datagrams", text);
        return false;
    }
    d->fd = fcntl((int)number, F_DUPFD_CLOEXEC, 3);
    return d->fd >= 0 || dgram_fail(error, "take", text);
}

static coroutine_fn RUNS_IN_MAIN bool dgram_co_open_ends(NetDgram *d,
                                                         const SocketAddressOptions *local,
                                                         const SocketAddressOptions *remote,
                                                         GError **error)
{
    SocketAddresses to = {.given_fd = -1};
    bool ok = (local == NULL || socket_co_resolve(local, true, &d->bound, error)) &&
              (remote == NULL || socket_co_resolve(remote, false, &to, error)) &&
              dgram_connect(d, &d->bound, &to, error);
    if (ok) {
        d->backend->info = g_strdup_printf("local=%s,remote=%s", local != NULL ? d->bound.name : "",
                                           remote != NULL ? to.name : "");
    }
    socket_addresses_clear(&to);
    return ok;
}

bool net_dgram_co_open(NetDgram *d, NetBackend *b, const SocketAddressOptions *local,
                       const SocketAddressOptions *remote, GError **error)
{
    d->backend = b;
    d->fd = -1;
    d->bound.given_fd = -1;
    d->opened = true;
    if (local != NULL && local->fd != NULL) {
        b->info = g_strdup_printf("fd=%s", local->fd);
        return dgram_take(d, local->fd, error);
    }
    return dgram_co_open_ends(d, local, remote, error);
}

void net_dgram_close(NetDgram *d)
{
    if (!d->opened) {
        return;
    }
    if (d->fd >= 0) {
        close(d->fd);
        socket_unlink(&d->bound);
    }
    socket_addresses_clear(&d->bound);
    g_clear_pointer(&d->bounce, g_free);
}

/* ---- the data path: home ---- */

static void dgram_readable(void *opaque)
{
    NetDgram *d = opaque;
    enter_loop(d->home);
    net_backend_readable(d->backend, 0);
}

static void dgram_writable(void *opaque)
{
    NetDgram *d = opaque;
    enter_loop(d->home);
    d->blocked = false;
    aio_handler_watch(d->handler, d->watch, false);
    net_backend_writable(d->backend, 0);
}

static const AioHandlerOps dgram_ops = {.readable = dgram_readable, .writable = dgram_writable};

void net_dgram_start(NetDgram *d, AioContext *home)
{
    d->home = home;
    d->watch = d->blocked = false;
    d->handler = aio_handler_add(home, d->fd, &dgram_ops, d);
    aio_handler_watch(d->handler, false, false);
}

void net_dgram_stop(NetDgram *d)
{
    aio_handler_remove(g_steal_pointer(&d->handler));
}

void net_dgram_watch(NetDgram *d, bool on)
{
    d->watch = on;
    aio_handler_watch(d->handler, on, d->blocked);
}

/* The list behind the header as one that a system call takes; what is beyond DGRAM_IOV pieces goes to
 * `bounce`, which then is all of it. */
static unsigned dgram_room(NetDgram *d, struct iovec *parts, const struct iovec *iov,
                           unsigned count)
{
    size_t covered;
    unsigned n =
        iov_slice(parts, DGRAM_IOV, iov, count, sizeof(NetHeader), DGRAM_FRAME_MAX, &covered);
    if (covered == DGRAM_FRAME_MAX) {
        return n;
    }
    if (d->bounce == NULL) {
        d->bounce = g_malloc(NET_FRAME_MAX);
    }
    parts[0] = (struct iovec){d->bounce, DGRAM_FRAME_MAX};
    return 1;
}

ssize_t net_dgram_receive(NetDgram *d, const struct iovec *iov, unsigned count)
{
    static const NetHeader header;
    struct iovec parts[DGRAM_IOV];
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = dgram_room(d, parts, iov, count)};
    for (unsigned i = 0; i < DGRAM_TRIES; i++) {
        message.msg_flags = 0;
        ssize_t n = recvmsg(d->fd, &message, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            return -EAGAIN;
        }
        if (n < NET_ETHERNET_HEADER || (message.msg_flags & MSG_TRUNC)) {
            continue; /* no frame; or an earlier datagram could not be delivered */
        }
        iov_copy_from_buf(iov, count, 0, &header, sizeof(header));
        if (parts[0].iov_base == d->bounce) {
            iov_copy_from_buf(iov, count, sizeof(header), d->bounce, (size_t)n);
        }
        return (ssize_t)sizeof(header) + n;
    }
    return -EAGAIN; /* the handler comes again in the next turn */
}

ssize_t net_dgram_send(NetDgram *d, const struct iovec *iov, unsigned count)
{
    struct iovec parts[DGRAM_IOV];
    size_t bytes = iov_size(iov, count) - sizeof(NetHeader), covered;
    unsigned n = iov_slice(parts, DGRAM_IOV, iov, count, sizeof(NetHeader), bytes, &covered);
    if (covered < bytes) {
        dgram_room(d, parts, iov, 0);
        iov_copy_to_buf(iov, count, sizeof(NetHeader), d->bounce, bytes);
        parts[0] = (struct iovec){d->bounce, bytes};
        n = 1;
    }
    struct msghdr message = {.msg_name = d->to_length != 0 ? &d->to : NULL,
                             .msg_namelen = d->to_length,
                             .msg_iov = parts,
                             .msg_iovlen = n};
    if (sendmsg(d->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) {
        return 0;
    }
    if (errno != EAGAIN) {
        return -errno; /* nobody is there, or the datagram is too long: dropped */
    }
    d->blocked = true;
    aio_handler_watch(d->handler, d->watch, true);
    return -EAGAIN;
}

/* ---- -netdev dgram ---- */

typedef enum DgramType { DGRAM_NONE, DGRAM_INET, DGRAM_UNIX, DGRAM_FD } DgramType;
static const char *const dgram_types[] = {"none", "inet", "unix", "fd", NULL};

typedef struct NetDgramEnd {
    int type;
    char *host, *port, *path, *str;
    bool ipv4, ipv6, abstract;
} NetDgramEnd;

typedef struct NetDgramBackend {
    NetBackend base;
    NetDgram dgram;
    /* config */
    NetDgramEnd local, remote;
} NetDgramBackend;

static NetDgramBackend *dgram_from(NetBackend *b)
{
    return (NetDgramBackend *)(void *)b;
}

static bool dgram_check_end(const char *name, const NetDgramEnd *e, GError **error)
{
    static const char *const needs[] = {"", "host= and port=", "path=", "str="};
    const bool has[] = {false, e->host != NULL || e->port != NULL, e->path != NULL, e->str != NULL};
    for (int type = DGRAM_INET; type <= DGRAM_FD; type++) {
        if (has[type] != (type == e->type)) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s.type=%s %s %s", name,
                        dgram_types[e->type], type == e->type ? "needs" : "excludes", needs[type]);
            return false;
        }
    }
    return true;
}

static bool dgram_check(const NetDgramBackend *n, GError **error)
{
    if (!dgram_check_end("local", &n->local, error) ||
        !dgram_check_end("remote", &n->remote, error)) {
        return false;
    }
    if (n->remote.type == DGRAM_FD || (n->local.type == DGRAM_FD && n->remote.type != DGRAM_NONE)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "a descriptor is both ends: write local.type=fd and no remote");
        return false;
    }
    if (n->local.type != DGRAM_FD && n->remote.type == DGRAM_NONE) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "needs remote.type=inet or remote.type=unix");
        return false;
    }
    return true;
}

static SocketAddressOptions dgram_address(const NetDgramEnd *e)
{
    return (SocketAddressOptions){.path = e->path,
                                  .abstract = e->abstract,
                                  .host = e->host,
                                  .port = e->port,
                                  .ipv4 = e->ipv4,
                                  .ipv6 = e->ipv6,
                                  .fd = e->str};
}

static bool dgram_backend_co_open(NetBackend *b, GError **error)
{
    NetDgramBackend *n = dgram_from(b);
    SocketAddressOptions local = dgram_address(&n->local), remote = dgram_address(&n->remote);
    enter_main();
    enter_coroutine();
    return dgram_check(n, error) &&
           net_dgram_co_open(&n->dgram, b, n->local.type != DGRAM_NONE ? &local : NULL,
                             n->remote.type != DGRAM_NONE ? &remote : NULL, error);
}

static void dgram_backend_co_close(NetBackend *b)
{
    enter_main();
    net_dgram_close(&dgram_from(b)->dgram);
}

static void dgram_backend_unlink(const NetBackend *b)
{
    const NetDgram *d = &((const NetDgramBackend *)(const void *)b)->dgram;
    if (d->opened && d->fd >= 0) {
        socket_unlink(&d->bound);
    }
}

static void dgram_queue_start(NetBackend *b, unsigned queue, AioContext *home)
{
    enter_loop(home);
    net_dgram_start(&dgram_from(b)->dgram, home);
}

static void dgram_queue_stop(NetBackend *b, unsigned queue)
{
    enter_loop(dgram_from(b)->dgram.home);
    net_dgram_stop(&dgram_from(b)->dgram);
}

static void dgram_queue_watch(NetBackend *b, unsigned queue, bool on)
{
    enter_loop(dgram_from(b)->dgram.home);
    net_dgram_watch(&dgram_from(b)->dgram, on);
}

static ssize_t dgram_queue_receive(NetBackend *b, unsigned queue, const struct iovec *iov,
                                   unsigned count)
{
    enter_loop(dgram_from(b)->dgram.home);
    return net_dgram_receive(&dgram_from(b)->dgram, iov, count);
}

static ssize_t dgram_queue_send(NetBackend *b, unsigned queue, const struct iovec *iov,
                                unsigned count)
{
    enter_loop(dgram_from(b)->dgram.home);
    return net_dgram_send(&dgram_from(b)->dgram, iov, count);
}

#define DGRAM_END(end)                                                                             \
    OPT_SPEC(NetDgramBackend, #end ".type", OPT_ENUM, end.type, .def = "none",                     \
             .names = dgram_types, .help = "kind of the " #end " address"),                        \
        OPT_SPEC(NetDgramBackend, #end ".host", OPT_STRING, end.host, .help = "name or address"),  \
        OPT_SPEC(NetDgramBackend, #end ".port", OPT_STRING, end.port, .help = "UDP port"),         \
        OPT_SPEC(NetDgramBackend, #end ".ipv4", OPT_BOOL, end.ipv4, .def = "off",                  \
                 .help = "IPv4 only"),                                                             \
        OPT_SPEC(NetDgramBackend, #end ".ipv6", OPT_BOOL, end.ipv6, .def = "off",                  \
                 .help = "IPv6 only"),                                                             \
        OPT_SPEC(NetDgramBackend, #end ".path", OPT_STRING, end.path,                              \
                 .help = "path of a UNIX socket"),                                                 \
        OPT_SPEC(NetDgramBackend, #end ".abstract", OPT_BOOL, end.abstract, .def = "off",          \
                 .help = "the path is a name in the abstract name space"),                         \
        OPT_SPEC(NetDgramBackend, #end ".str", OPT_STRING, end.str,                                \
                 .help = "number of an inherited descriptor")

static const OptSpec dgram_options[] = {DGRAM_END(local), DGRAM_END(remote), {0}};

static const NetFdOption dgram_fd_options[] = {{"local.str", false}, {0}};

const NetType net_dgram_type = {
    .name = "dgram",
    .description = "frames as datagrams: UDP, multicast, UNIX sockets",
    .instance_size = sizeof(NetDgramBackend),
    .options = dgram_options,
    .fd_options = dgram_fd_options,
    .co_open = dgram_backend_co_open,
    .co_close = dgram_backend_co_close,
    .unlink = dgram_backend_unlink,
    .queue_start = dgram_queue_start,
    .queue_stop = dgram_queue_stop,
    .watch = dgram_queue_watch,
    .receive = dgram_queue_receive,
    .send = dgram_queue_send,
};
