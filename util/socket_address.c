/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/opts/opts.h"
#include "util/socket_address.h"

static bool socket_set_error(GError **error, int error_number, const char *what, const char *name)
{
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(error_number), "can't %s %s: %s", what,
                name, g_strerror(error_number));
    return false;
}

/* ---- resolving ---- */

static bool socket_resolve_unix(const SocketAddressOptions *o, SocketAddresses *a, GError **error)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t length = strlen(o->path), skip = o->abstract ? 1 : 0;
    g_autofree char *absolute = o->abstract ? NULL : g_canonicalize_filename(o->path, NULL);
    const char *path = o->path;

    if (length == 0 || length + 1 > sizeof(un.sun_path)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "path=%.40s%s: a UNIX socket's path has 1 to %zu bytes", o->path,
                    length > 40 ? "..." : "", sizeof(un.sun_path) - 1);
        return false;
    }
    /* Made absolute: a client may reconnect after the process has changed its directory. */
    if (absolute != NULL && strlen(absolute) < sizeof(un.sun_path)) {
        path = absolute;
        length = strlen(path);
    }
    memcpy(un.sun_path + skip, path, length);
    a->list[0].length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    memcpy(&a->list[0].address, &un, sizeof(un));
    a->count = 1;
    a->name = g_strdup_printf("unix:%s%s", o->abstract ? "@" : "", o->path);
    a->path = o->abstract ? NULL : g_strdup(o->path);
    return true;
}

typedef struct SocketLookup {
    const char *host, *port;
    struct addrinfo hints;
    struct addrinfo *result;
} SocketLookup;

static int socket_lookup_in_worker(void *opaque)
{
    SocketLookup *l = opaque;

    enter_worker();
    return getaddrinfo(l->host, l->port, &l->hints, &l->result);
}

static coroutine_fn RUNS_IN_MAIN bool socket_co_resolve_tcp(const SocketAddressOptions *o,
                                                            SocketAddresses *a, GError **error)
{
    SocketLookup l = {.host = o->host && *o->host ? o->host : NULL,
                      .port = o->port,
                      .hints = {.ai_family = o->ipv4 == o->ipv6 ? AF_UNSPEC
                                             : o->ipv4          ? AF_INET
                                                                : AF_INET6,
                                .ai_socktype = SOCK_STREAM,
                                .ai_flags = AI_NUMERICSERV | (a->server ? AI_PASSIVE : 0)}};
    g_autoptr(GError) failure = NULL;
    uint64_t port;
    int ret;

    if (!o->port || !opt_parse_u64(o->port, a->server ? 0 : 1, 65535, &port, &failure)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "port=%.40s: %s", o->port ? o->port : "",
                    failure ? failure->message : "is missing");
        return false;
    }
    g_autofree char *digits = g_strdup_printf("%u", (unsigned)port); /* it may be hexadecimal */
    l.port = digits;
    a->name = g_strdup_printf("tcp:%s:%s", o->host ? o->host : "", o->port);
    ret = co_run_in_worker(socket_lookup_in_worker, &l);
    if (ret != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "can't find host '%s': %s",
                    o->host ? o->host : "", gai_strerror(ret));
        return false;
    }
    for (struct addrinfo *i = l.result; i && a->count < SOCKET_ADDRESS_MAX; i = i->ai_next) {
        memcpy(&a->list[a->count].address, i->ai_addr, i->ai_addrlen);
        a->list[a->count++].length = i->ai_addrlen;
    }
    freeaddrinfo(l.result);
    return true;
}

static bool socket_resolve_fd(const SocketAddressOptions *o, SocketAddresses *a, GError **error)
{
    g_autoptr(GError) failure = NULL;
    int listening = 0;
    socklen_t size = sizeof(listening);
    uint64_t fd;

    if (!opt_parse_u64(o->fd, 3, INT32_MAX, &fd, &failure)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "fd=%.40s: %s", o->fd, failure->message);
        return false;
    }
    if (getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 ||
        (listening != 0) != a->server) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "fd=%s: is not a %s socket", o->fd,
                    a->server ? "listening" : "connected");
        return false;
    }
    a->given_fd = (int)fd;
    a->name = g_strdup_printf("fd:%s", o->fd);
    return true;
}

bool socket_co_resolve(const SocketAddressOptions *options, bool server, SocketAddresses *addresses,
                       GError **error)
{
    int given = (options->path != NULL) + (options->host || options->port) + (options->fd != NULL);

    *addresses = (SocketAddresses){.given_fd = -1, .server = server};
    if (given != 1) {
        g_set_error(error, OPT_ERROR, given ? OPT_ERROR_DUPLICATE : OPT_ERROR_MISSING,
                    "expects one of path=, host= and port=, fd=");
        return false;
    }
    if (options->path) {
        return socket_resolve_unix(options, addresses, error);
    }
    if (options->fd) {
        return socket_resolve_fd(options, addresses, error);
    }
    return socket_co_resolve_tcp(options, addresses, error);
}

void socket_addresses_clear(SocketAddresses *addresses)
{
    g_clear_pointer(&addresses->name, g_free);
    g_clear_pointer(&addresses->path, g_free);
    owned_path_clear(&addresses->bound);
    addresses->count = 0;
}

/* ---- listening ---- */

/* Whether no process has the UNIX socket at this address open. Connects a datagram socket to it: if
 * a socket of another type is open, that fails with EPROTOTYPE, which a server that waits for its
 * first client does not notice; if only the name is left, it fails with ECONNREFUSED. */
static bool socket_is_stale(const struct sockaddr *address, socklen_t length)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale;

    if (fd < 0) {
        return false;
    }
    stale = connect(fd, address, length) < 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

/* Removes the name of a UNIX socket that no process has open. False: nothing was removed. */
static bool socket_remove_stale(const SocketAddresses *a, unsigned i)
{
    OwnedPath there = {0};
    struct stat st;
    bool removed =
        a->path != NULL && lstat(a->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
        owned_path_set(&there, a->path) &&
        socket_is_stale((const struct sockaddr *)&a->list[i].address, a->list[i].length) &&
        owned_path_unlink(&there);

    owned_path_clear(&there);
    return removed;
}

/* Returns the socket or -errno. */
static int socket_listen_at(SocketAddresses *a, unsigned i)
{
    const struct sockaddr *address = (const struct sockaddr *)&a->list[i].address;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1, ret;

    if (fd < 0) {
        return -errno;
    }
    if (address->sa_family != AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    ret = bind(fd, address, a->list[i].length);
    if (ret < 0 && errno == EADDRINUSE) {
        if (socket_remove_stale(a, i)) {
            ret = bind(fd, address, a->list[i].length);
        } else {
            errno = EADDRINUSE;
        }
    }
    if (ret == 0 && a->path != NULL) {
        owned_path_set(&a->bound, a->path); /* without it the socket stays behind */
    }
    if (ret < 0 || listen(fd, 1) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

int socket_listen(SocketAddresses *addresses, GError **error)
{
    int fd = -EADDRNOTAVAIL;

    if (addresses->given_fd >= 0) {
        fd = fcntl(addresses->given_fd, F_DUPFD_CLOEXEC, 3);
        fd = fd < 0 ? -errno : fd;
    }
    for (unsigned i = 0; i < addresses->count && fd < 0; i++) {
        fd = socket_listen_at(addresses, i);
    }
    if (fd < 0) {
        owned_path_unlink(&addresses->bound);
        owned_path_clear(&addresses->bound);
        socket_set_error(error, -fd, "listen on", addresses->name);
        return -1;
    }
    return fd;
}

void socket_unlink(const SocketAddresses *addresses)
{
    owned_path_unlink(&addresses->bound);
}

char *socket_listen_name(int fd, const SocketAddresses *addresses)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof(address);
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.ss_family == AF_UNIX ||
        getnameinfo((const struct sockaddr *)&address, length, host, sizeof(host), port,
                    sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        return g_strdup_printf("%s,server=on", addresses->name);
    }
    return g_strdup_printf(address.ss_family == AF_INET6 ? "tcp:[%s]:%s,server=on"
                                                         : "tcp:%s:%s,server=on",
                           host, port);
}

/* ---- connecting ---- */

static void socket_connect_wake(SocketConnect *c)
{
    if (c->waiting) {
        c->waiting = false;
        co_wake(c->waiter);
    }
}

static void socket_connect_writable(void *opaque)
{
    enter_main();
    socket_connect_wake(opaque);
}

static const AioHandlerOps socket_connect_ops = {.writable = socket_connect_writable};

void socket_connect_cancel(SocketConnect *connect)
{
    connect->cancelled = true;
    socket_connect_wake(connect);
}

/* Waits for a connect() in progress. 0 or -errno. */
static coroutine_fn RUNS_IN_MAIN int socket_co_connect_wait(int fd, SocketConnect *c)
{
    int failure = 0;
    socklen_t size = sizeof(failure);

    c->waiter = co_arm();
    c->waiting = true;
    c->handler = aio_handler_add(c->ctx, fd, &socket_connect_ops, c);
    co_wait(c->waiter);
    aio_handler_remove(c->handler);
    c->handler = NULL;
    if (c->cancelled) {
        return -ECANCELED;
    }
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) < 0 ? -errno : -failure;
}

/* Returns the socket or -errno. */
static coroutine_fn RUNS_IN_MAIN int socket_co_connect_to(const SocketAddresses *a, unsigned i,
                                                          SocketConnect *c)
{
    const struct sockaddr *address = (const struct sockaddr *)&a->list[i].address;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    ret = connect(fd, address, a->list[i].length) < 0 ? -errno : 0;
    if (ret == -EINPROGRESS) {
        ret = socket_co_connect_wait(fd, c);
    }
    if (ret < 0) {
        close(fd);
        return ret;
    }
    return fd;
}

int socket_co_connect(const SocketAddresses *addresses, SocketConnect *connect, GError **error)
{
    int fd = -EADDRNOTAVAIL;

    if (addresses->given_fd >= 0) {
        fd = fcntl(addresses->given_fd, F_DUPFD_CLOEXEC, 3);
        fd = fd < 0 ? -errno : fd;
    }
    for (unsigned i = 0; i < addresses->count && fd < 0 && !connect->cancelled; i++) {
        fd = socket_co_connect_to(addresses, i, connect);
    }
    if (fd < 0) {
        socket_set_error(error, -fd, "connect to", addresses->name);
        return -1;
    }
    return fd;
}
