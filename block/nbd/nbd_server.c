/* SPDX-License-Identifier: Apache-2.0 */
/* Listening, accepting, and the list of sessions. All in main. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include "block/nbd/nbd_int.h"
#include "block/trace_events.h"
#include "util/log.h"

#define NBD_ACCEPT_AGAIN_NS (100 * INT64_C(1000000)) /* after a lack of descriptors or memory */
#define NBD_SEND_BUFFER (2 << 20)

G_DEFINE_QUARK(skiff - nbd - error - quark, nbd_error)

static struct {
    AioContext *ctx;
    const NbdHost *host;
    void *opaque;

    /* the server; listen_fd -1: it does not run */
    int listen_fd;
    AioHandler *listen_handler;
    SocketAddresses addresses;
    char *name;
    TlsCreds *tls;
    unsigned max_connections;
    uint64_t handshake_ns;
    AioTimer accept_timer;
    bool starting; /* its address is being resolved */
    unsigned run;  /* counts the starts */

    NbdSession *sessions;
    unsigned session_count;
    CoQueue leavers; /* wait for sessions to end */
    LogLimit limit;
} nbd = {.listen_fd = -1};

void nbd_init(AioContext *main_ctx, const NbdHost *host, void *opaque)
{
    nbd.ctx = main_ctx;
    nbd.host = host;
    nbd.opaque = opaque;
    if (nbd.session_count == 0) {
        co_queue_init(&nbd.leavers);
    }
}

AioContext *nbd_main(void)
{
    return nbd.ctx;
}

const NbdHost *nbd_host(void **opaque)
{
    *opaque = nbd.opaque;
    return nbd.host;
}

unsigned nbd_server_max_connections(void)
{
    return nbd.max_connections;
}

unsigned nbd_server_run(void)
{
    return nbd.run;
}

unsigned nbd_client_count(void)
{
    return nbd.session_count;
}

/* ---- sessions ---- */

/* Accepts clients as long as there may be more. The others wait in the kernel's backlog. */
static RUNS_IN_MAIN void server_watch(void)
{
    if (nbd.listen_fd >= 0) {
        bool room = nbd.max_connections == 0 || nbd.session_count < nbd.max_connections;
        aio_handler_watch(nbd.listen_handler, room && nbd.accept_timer.heap_index == 0, false);
    }
}

static RUNS_IN_MAIN void server_count(int change)
{
    nbd.session_count += (unsigned)change;
    server_watch();
}

void nbd_session_kill(NbdSession *s)
{
    atomic_store(&s->killed, true);
    shutdown(s->channel.fd, SHUT_RDWR);
}

void nbd_sessions_kill_of(const NbdExport *e)
{
    for (NbdSession *s = nbd.sessions; s != NULL; s = s->next) {
        if (s->export == e) {
            nbd_session_kill(s);
        }
    }
}

void nbd_session_free(NbdSession *s)
{
    if (s->state != NBD_ENDED || s->requests != 0) {
        bug_abort("an NBD session is freed in state %d with %u requests", s->state, s->requests);
    }
    trace_nbd_session_end(s->channel.fd);
    aio_timer_disarm(&s->timer);
    nbd_channel_clear(&s->channel);
    tls_creds_unref(s->creds);
    *s->link = s->next;
    if (s->next != NULL) {
        s->next->link = s->link;
    }
    bool served = s->export != NULL;
    g_free(s);
    server_count(-1);
    if (nbd.host != NULL && nbd.host->client_left != NULL) {
        nbd.host->client_left(nbd.opaque, nbd.session_count, served);
    }
    co_queue_wake_all(&nbd.leavers);
}

static void session_overdue(void *opaque)
{
    NbdSession *s = opaque;
    enter_main();
    trace_nbd_session_overdue(s->channel.fd);
    nbd_session_kill(s);
}

static void session_negotiate(void *opaque)
{
    NbdSession *s = opaque;
    enter_coroutine();
    enter_main();
    bool serve = nbd_session_co_negotiate(s) && !atomic_load(&s->killed);
    aio_timer_disarm(&s->timer);
    nbd_channel_detach(&s->channel);
    if (serve) {
        s->state = NBD_HANDED_OVER;
        co_start(s->export->home, nbd_session_serve, s);
        return;
    }
    if (s->export != NULL) {
        nbd_export_leave(s->export);
        s->export = NULL;
    }
    s->state = NBD_ENDED;
    nbd_session_free(s);
}

/* ---- accepting ---- */

/* The calls may fail: they depend on the kind of socket and on limits of the host. */
static void server_set_options(int fd)
{
    int on = 1, size = NBD_SEND_BUFFER, domain = AF_UNSPEC;
    socklen_t length = sizeof(domain);
    getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
    if (domain == AF_UNIX) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* TCP adapts its own */
    } else {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    }
}

static RUNS_IN_MAIN void server_begin_session(int fd)
{
    NbdSession *s = g_new0(NbdSession, 1);
    s->run = nbd.run;
    s->creds = nbd.tls != NULL ? tls_creds_ref(nbd.tls) : NULL;
    server_set_options(fd);
    nbd_channel_init(&s->channel, fd);
    nbd_channel_attach(&s->channel, nbd.ctx);
    aio_timer_init(&s->timer, nbd.ctx, session_overdue, s);
    if (nbd.handshake_ns != 0) {
        aio_timer_arm(&s->timer, aio_now_ns(nbd.ctx) + (int64_t)nbd.handshake_ns);
    }
    s->next = nbd.sessions;
    s->link = &nbd.sessions;
    if (s->next != NULL) {
        s->next->link = &s->next;
    }
    nbd.sessions = s;
    trace_nbd_session_begin(fd);
    server_count(1);
    co_start(nbd.ctx, session_negotiate, s);
}

static void server_accept_again(void *opaque)
{
    enter_main();
    server_watch();
}

static void server_accept(void *opaque)
{
    enter_main();
    int fd = accept4(nbd.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        server_begin_session(fd);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        /* The client stays in the backlog and the socket readable: do not watch it for a while. */
        log_limited(&nbd.limit, "NBD server: accept: %s", g_strerror(errno));
        aio_timer_arm(&nbd.accept_timer, aio_now_ns(nbd.ctx) + NBD_ACCEPT_AGAIN_NS);
        server_watch();
    }
}

static const AioHandlerOps server_ops = {.readable = server_accept};

/* ---- start and stop ---- */

bool nbd_server_running(void)
{
    return nbd.listen_fd >= 0;
}

char *nbd_server_address(void)
{
    return g_strdup(nbd.name);
}

bool nbd_server_co_start(const NbdServerConfig *config, GError **error)
{
    SocketAddresses addresses;
    if (nbd_server_running() || nbd.starting) {
        g_set_error(error, NBD_ERROR, NBD_ERROR_SERVER, "NBD server already running");
        return false;
    }
    nbd.starting = true;
    bool ok = socket_co_resolve(config->address, true, &addresses, error);
    nbd.starting = false;
    int fd = ok ? socket_listen(&addresses, error) : -1;
    if (fd < 0) {
        socket_addresses_clear(&addresses);
        return false;
    }
    listen(fd, SOMAXCONN); /* many clients may come at once */
    nbd.listen_fd = fd;
    nbd.run++;
    nbd.addresses = addresses;
    nbd.name = socket_listen_name(fd, &addresses);
    nbd.tls = config->tls != NULL ? tls_creds_ref(config->tls) : NULL;
    nbd.max_connections = config->max_connections;
    nbd.handshake_ns = config->handshake_ns;
    aio_timer_init(&nbd.accept_timer, nbd.ctx, server_accept_again, NULL);
    nbd.listen_handler = aio_handler_add(nbd.ctx, fd, &server_ops, NULL);
    return true;
}

static RUNS_IN_MAIN void server_close(void)
{
    aio_timer_disarm(&nbd.accept_timer);
    aio_handler_remove(nbd.listen_handler);
    close(nbd.listen_fd);
    nbd.listen_fd = -1;
    socket_unlink(&nbd.addresses);
    socket_addresses_clear(&nbd.addresses);
    g_clear_pointer(&nbd.name, g_free);
    g_clear_pointer(&nbd.tls, tls_creds_unref);
}

static RUNS_IN_MAIN bool server_has_session(unsigned run)
{
    const NbdSession *s = nbd.sessions;
    while (s != NULL && s->run > run) {
        s = s->next;
    }
    return s != NULL;
}

/* Waits for what there is now. The server may be started again meanwhile. */
void nbd_co_shutdown(void)
{
    unsigned run = nbd.run;
    if (nbd_server_running()) {
        server_close();
    }
    for (NbdSession *s = nbd.sessions; s != NULL; s = s->next) {
        nbd_session_kill(s);
    }
    nbd_exports_remove_all();
    nbd_exports_co_settle(run);
    while (server_has_session(run)) {
        co_queue_wait(&nbd.leavers, "the end of all NBD clients");
    }
}

bool nbd_server_co_stop(GError **error)
{
    if (!nbd_server_running()) {
        g_set_error(error, NBD_ERROR, NBD_ERROR_SERVER, "NBD server not running");
        return false;
    }
    nbd_co_shutdown();
    return true;
}
