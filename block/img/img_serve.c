/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img serve: exports an image by NBD, as qemu-nbd does. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "block/img/img_serve.h"
#include "block/nbd/nbd.h"
#include "util/tls_options.h"

#define SERVE_PORT "10809"
#define SERVE_ID "export"

typedef struct Serve {
    /* options */
    const char *socket, *port, *bind, *name, *description, *cache, *discard, *pid_file, *tls_id,
        *snapshot;
    uint64_t shared, handshake_s;
    bool read_only, persistent, no_cache, depth, fork, verbose; /* fork: see img_serve_fork() */
    GPtrArray *bitmaps, *objects;

    TlsCreds *creds;
    BlockNode *node;
    AioContext *ctx;
    AioHandler *signals;
    bool stopping, waiting;
    CoToken waiter; /* until the end */
} Serve;

/* ---- the end: a signal, or the last client ---- */

static int serve_signal_fd = -1; /* eventfd; written by the signal handler */

static void serve_on_signal(int number)
{
    uint64_t one = 1;
    int saved = errno;
    if (write(serve_signal_fd, &one, sizeof(one)) < 0) {
        /* it is full: the end was requested before */
    }
    errno = saved;
}

static RUNS_IN_MAIN void serve_stop(Serve *s)
{
    s->stopping = true;
    if (s->waiting) {
        s->waiting = false;
        co_wake(s->waiter);
    }
}

static void serve_signalled(void *opaque)
{
    enter_main();
    Serve *s = opaque;
    aio_handler_watch(s->signals, false, false);
    serve_stop(s);
}

static const AioHandlerOps serve_signal_ops = {.readable = serve_signalled};

static void serve_client_left(void *opaque, unsigned remaining, bool served)
{
    enter_main();
    Serve *s = opaque;
    if (served && remaining == 0 && !s->persistent) {
        serve_stop(s);
    }
}

static RUNS_IN_MAIN bool serve_watch_signals(Serve *s)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    struct sigaction action = {.sa_handler = serve_on_signal, .sa_flags = SA_RESTART};
    serve_signal_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (serve_signal_fd < 0) {
        img_error("%s", g_strerror(errno));
        return false;
    }
    s->signals = aio_handler_add(s->ctx, serve_signal_fd, &serve_signal_ops, s);
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sigaction(numbers[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    return true;
}

/* ---- the background ---- */

static int serve_ready_fd = -1; /* the parent waits for it; -1: there is none */

bool img_serve_fork(int argc, char **argv, int *status)
{
    int fds[2];
    bool wanted = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        wanted = wanted || strcmp(argv[i], "--fork") == 0;
    }
    if (!wanted) {
        return true;
    }
    pid_t pid = pipe2(fds, O_CLOEXEC) == 0 ? fork() : -1;
    if (pid < 0) {
        img_error("Failed to fork: %s", g_strerror(errno));
        *status = 1;
        return false;
    }
    if (pid == 0) {
        close(fds[0]);
        serve_ready_fd = fds[1];
        setsid();
        return true;
    }
    char ready;
    close(fds[1]);
    ssize_t n;
    do {
        n = read(fds[0], &ready, 1); /* at the end of the child it has reported why */
    } while (n < 0 && errno == EINTR);
    *status = n == 1 ? 0 : 1;
    return false;
}

/* The server listens. */
static bool serve_report_ready(const Serve *s)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *pid = g_strdup_printf("%d\n", (int)getpid());
    if (s->pid_file != NULL && !g_file_set_contents(s->pid_file, pid, -1, &error)) {
        img_error("Cannot write the pid file: %s", error->message);
        return false;
    }
    if (serve_ready_fd >= 0) {
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++) {
            dup2(null, fd);
        }
        close(null);
        if (write(serve_ready_fd, "", 1) < 0) {
            return false; /* the parent has gone */
        }
        close(serve_ready_fd);
        serve_ready_fd = -1;
    }
    return true;
}

/* ---- opening and exporting ---- */

/* Credentials of --object and --tls-creds. */
static coroutine_fn RUNS_IN_MAIN bool serve_co_find_creds(Serve *s)
{
    TlsKind kind;
    g_autoptr(GError) error = NULL;
    for (unsigned i = 0; i < s->objects->len; i++) {
        g_autoptr(OptDict) d = opt_dict_parse(s->objects->pdata[i], "qom-type", &error);
        const char *type = d != NULL ? opt_dict_get(d, "qom-type") : NULL;
        const char *id = d != NULL ? opt_dict_get(d, "id") : NULL;
        if (error == NULL && (type == NULL || !tls_find_type(type, &kind))) {
            img_error("--object: only tls-creds-anon, tls-creds-psk and tls-creds-x509");
            return false;
        }
        TlsCreds *creds = error == NULL ? tls_co_creds_from_options(d, &error) : NULL;
        if (creds == NULL) {
            img_error("%s", error->message);
            return false;
        }
        if (s->creds == NULL && s->tls_id != NULL && strcmp(id, s->tls_id) == 0) {
            s->creds = creds;
        } else {
            tls_creds_unref(creds);
        }
    }
    if (s->tls_id != NULL && s->creds == NULL) {
        img_error("No TLS credentials with id '%s'", s->tls_id);
        return false;
    }
    if (s->creds != NULL && !tls_creds_config(s->creds)->server) {
        img_error("Expecting TLS credentials with a server endpoint");
        return false;
    }
    return true;
}

/* Opens the image; the export is its only user. */
static coroutine_fn RUNS_IN_MAIN bool serve_co_open(Img *img, Serve *s, const ImgOpen *open)
{
    BlockBackend *blk = img_co_open(img, "image", open);
    bool ok = blk != NULL && (s->snapshot == NULL || img_co_view(blk, s->snapshot));
    if (ok) {
        s->node = blk_root(blk);
        block_node_ref(s->node);
    }
    blk_co_free(blk);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool serve_co_export(Serve *s, const ImgOpen *open)
{
    g_autoptr(GError) error = NULL;
    g_autofree NbdExportBitmap *bitmaps = g_new0(NbdExportBitmap, s->bitmaps->len + 1);
    for (unsigned i = 0; i < s->bitmaps->len; i++) {
        bitmaps[i].name = s->bitmaps->pdata[i];
    }
    NbdExportConfig config = {.id = SERVE_ID,
                              .name = s->name,
                              .description = s->description,
                              .node = s->node,
                              .writable = open->writable,
                              .writethrough = open->cache.through,
                              .allocation_depth = s->depth,
                              .bitmaps = bitmaps,
                              .bitmap_count = s->bitmaps->len};
    bool ok = nbd_export_co_add(&config, &error);
    if (!ok) {
        img_error("%s", error->message);
    }
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool serve_co_listen(Serve *s)
{
    g_autoptr(GError) error = NULL;
    SocketAddressOptions address = {0};
    if (s->socket != NULL) {
        address.path = (char *)(uintptr_t)s->socket;
    } else {
        address.host = (char *)(uintptr_t)s->bind;
        address.port = (char *)(uintptr_t)s->port;
    }
    NbdServerConfig config = {.address = &address,
                              .tls = s->creds,
                              .max_connections = (unsigned)s->shared,
                              .handshake_ns = s->handshake_s * 1000000000u};
    bool ok = nbd_server_co_start(&config, &error);
    if (!ok) {
        img_error("%s", error->message);
    }
    return ok;
}

static coroutine_fn RUNS_IN_MAIN int serve_co_wait(Serve *s)
{
    if (s->verbose) {
        g_autofree char *address = nbd_server_address();
        fprintf(stderr, "skiff-img: NBD server on %s\n", address);
    }
    if (!serve_report_ready(s)) {
        return 1;
    }
    if (!s->stopping) {
        s->waiting = true;
        s->waiter = co_arm();
        co_wait(s->waiter);
    }
    return 0;
}

static coroutine_fn RUNS_IN_MAIN int serve_co_run(Img *img, Serve *s, const ImgOpen *open)
{
    NbdHost host = {.client_left = serve_client_left};
    s->ctx = aio_context_current();
    nbd_init(s->ctx, &host, s);
    if (!serve_co_find_creds(s) || !serve_co_open(img, s, open)) {
        return 1;
    }
    int status = 1;
    if (serve_watch_signals(s) && serve_co_listen(s) && serve_co_export(s, open)) {
        status = serve_co_wait(s);
    }
    nbd_co_shutdown();
    nbd_init(s->ctx, NULL, NULL);
    aio_handler_remove(s->signals);
    int ret = block_node_co_complete(s->node);
    if (ret < 0) {
        img_error("Could not complete '%s': %s", open->filename, g_strerror(-ret));
        status = 1;
    }
    block_co_unref(s->node);
    if (s->pid_file != NULL && status == 0) {
        unlink(s->pid_file);
    }
    return status;
}

/* ---- options ---- */

static bool serve_check(Serve *s, ImgOpen *o)
{
    if (s->socket != NULL && (s->port != NULL || s->bind != NULL)) {
        img_error("--socket and --port or --bind exclude each other");
        return false;
    }
    s->port = s->port != NULL ? s->port : SERVE_PORT;
    s->bind = s->bind != NULL ? s->bind : "0.0.0.0";
    s->name = s->name != NULL ? s->name : "";
    if (s->cache != NULL && !img_parse_cache(s->cache, &o->cache)) {
        img_error("Invalid cache mode `%s'", s->cache);
        return false;
    }
    o->cache.direct = o->cache.direct || s->no_cache;
    o->unmap = s->discard != NULL && strcmp(s->discard, "unmap") == 0;
    if (s->discard != NULL && !o->unmap && strcmp(s->discard, "ignore") != 0) {
        img_error("Invalid discard mode `%s'", s->discard);
        return false;
    }
    if (s->shared > INT32_MAX || s->handshake_s > UINT32_MAX) {
        img_error("Invalid shared device number");
        return false;
    }
    o->writable = !s->read_only && s->snapshot == NULL;
    return true;
}

int img_co_serve(Img *img)
{
    g_autoptr(GPtrArray) bitmaps = g_ptr_array_new(), objects = g_ptr_array_new();
    Serve s = {.shared = 1,
               .handshake_s = NBD_HANDSHAKE_SECONDS_DEFAULT,
               .bitmaps = bitmaps,
               .objects = objects};
    ImgOpen o = {0};
    const ImgOption options[] = {
        {"format", 'f', IMG_TEXT, &o.format},
        {"read-only", 'r', IMG_FLAG, &s.read_only},
        {"socket", 'k', IMG_TEXT, &s.socket},
        {"port", 'p', IMG_TEXT, &s.port},
        {"bind", 'b', IMG_TEXT, &s.bind},
        {"export-name", 'x', IMG_TEXT, &s.name},
        {"description", 'D', IMG_TEXT, &s.description},
        {"shared", 'e', IMG_NUMBER, &s.shared},
        {"persistent", 't', IMG_FLAG, &s.persistent},
        {"bitmap", 'B', IMG_TEXTS, bitmaps},
        {"allocation-depth", 'A', IMG_FLAG, &s.depth},
        {"load-snapshot", 'l', IMG_TEXT, &s.snapshot},
        {"cache", 0, IMG_TEXT, &s.cache},
        {"nocache", 'n', IMG_FLAG, &s.no_cache},
        {"aio", 0, IMG_TEXT, &o.aio},
        {"discard", 0, IMG_TEXT, &s.discard},
        {"handshake-limit", 0, IMG_NUMBER, &s.handshake_s},
        {"object", 0, IMG_TEXTS, objects},
        {"tls-creds", 0, IMG_TEXT, &s.tls_id},
        {"pid-file", 0, IMG_TEXT, &s.pid_file},
        {"fork", 0, IMG_FLAG, &s.fork},
        {"verbose", 'v', IMG_FLAG, &s.verbose},
        {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    if (!serve_check(&s, &o)) {
        return 1;
    }
    o.filename = img->files[0];
    status = serve_co_run(img, &s, &o);
    tls_creds_unref(s.creds);
    return status;
}
