/* SPDX-License-Identifier: Apache-2.0 */
/* The process's chardevs: making, claiming, flushing them. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "vmm/chardev_stream.h"
#include "vmm/crash.h"
#include "vmm/terminal.h"

#define CHARDEV_DEFAULT_ESCAPE 0x01 /* Ctrl-A */

static const ChardevBackend *const chardev_backends[] = {
    &chardev_null_backend, &chardev_stdio_backend,  &chardev_file_backend,
    &chardev_pty_backend,  &chardev_socket_backend,
};

static AioContext *chardev_ctx;
static ChardevStream *_Atomic chardev_list;    /* crash paths walk it; main changes it */
static ChardevStream *_Atomic chardev_opening; /* as above; may wait for a client for ever */
static bool chardev_held;
static uint8_t chardev_escape_byte = CHARDEV_DEFAULT_ESCAPE;
static void (*terminate_fn)(void *opaque);
static void *terminate_opaque;

AioContext *chardev_context(void)
{
    return chardev_ctx;
}

ChardevStream *chardev_streams(void)
{
    return atomic_load(&chardev_list);
}

/* ---- set-up ---- */

static void chardev_unlink_names(ChardevStream *s)
{
    for (; s; s = s->next) {
        if (s->backend->unlink) {
            s->backend->unlink(s);
        }
    }
}

void chardev_leave(void)
{
    terminal_restore(); /* first: what follows may fail, in a sandbox */
    chardev_unlink_names(chardev_streams());
    chardev_unlink_names(atomic_load(&chardev_opening));
}

static void chardev_crash(void)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        sink_flush_crash(&s->out);
        sink_flush_crash(&s->log);
    }
    chardev_leave();
}

void chardev_setup(AioContext *main_ctx)
{
    static bool caught;

    chardev_ctx = main_ctx;
    signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error code, not our death */
    if (!caught) {
        caught = true;
        crash_catch_signals(chardev_crash);
    }
}

void chardev_co_shutdown(void)
{
    ChardevStream *s;

    while ((s = chardev_streams())) {
        atomic_store(&chardev_list, s->next);
        stream_co_free(s);
    }
    chardev_set_terminate_handler(NULL, NULL);
    chardev_held = false;
    chardev_escape_byte = CHARDEV_DEFAULT_ESCAPE;
}

void chardev_set_terminate_handler(void (*fn)(void *opaque), void *opaque)
{
    terminate_fn = fn;
    terminate_opaque = opaque;
}

void chardev_terminate(void)
{
    if (terminate_fn) {
        terminate_fn(terminate_opaque);
    }
}

void chardev_hold_input(bool held)
{
    chardev_held = held;
    for (ChardevStream *s = chardev_streams(); s && !held; s = s->next) {
        stream_input_kick(s);
    }
}

bool chardev_input_held(void)
{
    return chardev_held;
}

void chardev_set_escape(uint8_t byte)
{
    chardev_escape_byte = byte;
}

uint8_t chardev_escape(void)
{
    return chardev_escape_byte;
}

/* ---- making one ---- */

static const OptSpec chardev_common_options[] = {
    OPT_SPEC(ChardevStream, "mux", OPT_BOOL, mux_wanted,
             .help = "several users share it, Ctrl-A c switches", .def = "off"),
    OPT_SPEC(ChardevStream, "logfile", OPT_STRING, logfile, .help = "output goes there as well"),
    OPT_SPEC(ChardevStream, "logappend", OPT_BOOL, logappend, .help = "keep what the log file has",
             .def = "off"),
    OPT_SPEC(ChardevStream, "logtimestamp", OPT_BOOL, logtimestamp,
             .help = "begin each line of the log file with the time since start", .def = "off"),
    OPT_SPEC(ChardevStream, "timestamps", OPT_BOOL, timestamps,
             .help = "begin each line with the time since start", .def = "off"),
    {0},
};

/* The options common to all and @backend's own, in one table. Freed by the caller. */
static OptSpec *chardev_option_table(const ChardevBackend *backend)
{
    GArray *table = g_array_new(TRUE, TRUE, sizeof(OptSpec));

    for (const OptSpec *o = backend->options; o && o->type != OPT_END; o++) {
        g_array_append_val(table, *o);
    }
    for (const OptSpec *o = chardev_common_options; o->type != OPT_END; o++) {
        g_array_append_val(table, *o);
    }
    return (OptSpec *)(void *)g_array_free(table, FALSE);
}

/* What QEMU has and skiff does not, with what comes nearest. */
static const char *chardev_nearest(const char *name)
{
    static const char *const nearest[][2] = {
        {"vc", "pty"},
        {"pipe", "file (to a FIFO) or socket"},
        {"udp", "socket"},
        {"ringbuf", "file"},
        {"memory", "file"},
        {"console", "stdio"},
        {"serial", "socket"},
        {"tty", "socket"},
        {"parallel", "file"},
        {"parport", "file"},
        {"msmouse", "null"},
        {"braille", "null"},
        {"testdev", "null"},
        {"wctablet", "null"},
        {"spicevmc", "socket"},
        {"spiceport", "socket"},
        {"qemu-vdagent", "null"},
        {"dbus", "socket"},
        {"hub", "socket with mux=on"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(nearest); i++) {
        if (!strcmp(nearest[i][0], name)) {
            return nearest[i][1];
        }
    }
    return "socket, pty, file, stdio or null";
}

static const ChardevBackend *chardev_backend_find(const char *name, GError **error)
{
    for (size_t i = 0; i < G_N_ELEMENTS(chardev_backends); i++) {
        if (!strcmp(chardev_backends[i]->name, name)) {
            return chardev_backends[i];
        }
    }
    g_autofree char *shown = opt_excerpt(name);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "skiff has no chardev '%s'; nearest is %s",
                shown, chardev_nearest(name));
    return NULL;
}

const char *const *chardev_backend_names(void)
{
    static const char *names[G_N_ELEMENTS(chardev_backends) + 1];

    for (size_t i = 0; i < G_N_ELEMENTS(chardev_backends); i++) {
        names[i] = chardev_backends[i]->name;
    }
    return names;
}

static ChardevStream *chardev_find(const char *id)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        if (!strcmp(s->base.id, id)) {
            return s;
        }
    }
    return NULL;
}

static int chardev_open_log_in_worker(void *opaque)
{
    ChardevStream *s = opaque;
    int fd;

    enter_worker();
    fd = open(s->logfile,
              O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                  (s->logappend ? O_APPEND : O_TRUNC),
              0666);
    return fd < 0 ? -errno : fd;
}

static coroutine_fn RUNS_IN_MAIN bool chardev_co_open_log(ChardevStream *s, GError **error)
{
    int fd;

    if (!s->logfile) {
        if (s->logappend || s->logtimestamp) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "%s wants logfile=", s->logappend ? "logappend" : "logtimestamp");
        }
        return !s->logappend && !s->logtimestamp;
    }
    fd = co_run_in_worker(chardev_open_log_in_worker, s);
    if (fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-fd), "can't open log '%s': %s",
                    s->logfile, g_strerror(-fd));
        return false;
    }
    sink_start(&s->log, fd, FD_BLOCKING, s->logfile);
    return true;
}

static RUNS_IN_MAIN void chardev_opening_remove(ChardevStream *s)
{
    ChardevStream *before = atomic_load(&chardev_opening);
    while (before != s && before->next != s) {
        before = before->next;
    }
    if (before == s) {
        atomic_store(&chardev_opening, s->next);
    } else {
        before->next = s->next;
    }
}

/* Binds, opens and enters it into the list; on failure it is gone. */
static coroutine_fn RUNS_IN_MAIN bool
chardev_co_open(const ChardevBackend *backend, const OptDict *opts, char *id_taken, GError **error)
{
    ChardevStream *s = g_malloc0(backend->instance_size);
    bool ok;

    s->options_table = chardev_option_table(backend);
    opts_init(s->options_table, s);
    stream_init(s, backend, chardev_ctx, id_taken);
    ok = opts_bind(s->options_table, s, opts, NULL, error);
    if (ok) {
        stream_set_up_stamps(s);
        ok = chardev_co_open_log(s, error);
    }
    if (ok) {
        s->opened = true;
        s->next = atomic_load(&chardev_opening);
        atomic_store(&chardev_opening, s);
        ok = backend->co_open(s, error);
        chardev_opening_remove(s);
    }
    if (ok && chardev_find(id_taken)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "there is a chardev '%s' already",
                    id_taken);
        ok = false;
    }
    if (!ok) {
        stream_co_free(s);
        return false;
    }
    if (s->mux_wanted) {
        s->mux = mux_new(s);
    }
    s->next = chardev_streams();
    atomic_store(&chardev_list, s);
    return true;
}

bool chardev_co_add(OptDict *opts, GError **error)
{
    g_autoptr(OptDict) d = opts;
    g_autofree char *name = opt_dict_take(d, "backend");
    g_autofree char *id = opt_dict_take(d, "id");
    const ChardevBackend *backend;

    if (!name || !id || !*id) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "%s is missing: -chardev wants BACKEND,id=ID", name ? "id=" : "the backend");
        return false;
    }
    backend = chardev_backend_find(name, error);
    if (backend && chardev_find(id)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "there is a chardev '%s' already", id);
        backend = NULL;
    }
    return backend && chardev_co_open(backend, d, g_steal_pointer(&id), error);
}

bool chardev_co_add_fd(const char *id, int in_fd, int out_fd, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_new();
    g_autofree char *in = g_strdup_printf("%d", in_fd);
    g_autofree char *out = g_strdup_printf("%d", out_fd);

    if (in_fd >= 0) {
        opt_dict_set(d, "in", in);
    }
    if (out_fd >= 0) {
        opt_dict_set(d, "out", out);
    }
    return chardev_co_open(&chardev_inherited_backend, d, g_strdup(id), error);
}

void chardev_print_help(const char *backend_name, FILE *out)
{
    const ChardevBackend *backend = backend_name ? chardev_backend_find(backend_name, NULL) : NULL;

    if (backend) {
        g_autofree OptSpec *table = chardev_option_table(backend);

        fprintf(out, "-chardev %s,id=ID options:\n", backend->name);
        opts_print_help(table, out);
        return;
    }
    fputs("Available chardev backend types:\n", out);
    for (size_t i = 0; i < G_N_ELEMENTS(chardev_backends); i++) {
        fprintf(out, "  %-8s %s\n", chardev_backends[i]->name, chardev_backends[i]->description);
    }
}

/* ---- users ---- */

Chardev *chardev_claim(const char *id, const char *who, GError **error)
{
    ChardevStream *s = chardev_find(id);

    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "there is no chardev '%s'", id);
        return NULL;
    }
    if (s->mux) {
        return mux_claim(s->mux, who, error);
    }
    if (s->user) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "chardev '%s' is in use by %s; with mux=on it can be shared", id, s->user);
        return NULL;
    }
    s->user = g_strdup(who);
    return &s->base;
}

bool chardev_has_focus(const Chardev *c)
{
    return !mux_owns(c) || mux_has_focus(c);
}

void chardev_release(Chardev *c)
{
    if (!c) {
        return;
    }
    if (mux_owns(c)) {
        mux_release(c);
        return;
    }
    chardev_attach(c, NULL, NULL);
    g_clear_pointer(&((ChardevStream *)c)->user, g_free);
}

void chardev_foreach(void (*fn)(const ChardevInfo *info, void *opaque), void *opaque)
{
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        ChardevInfo info = {.id = s->base.id,
                            .filename = s->filename ? s->filename : s->backend->name,
                            .connected = atomic_load(&s->connected),
                            .frontend_open = s->mux ? mux_in_use(s->mux) : s->user != NULL};

        fn(&info, opaque);
    }
}

bool chardev_co_remove(const char *id, GError **error)
{
    ChardevStream *s = chardev_find(id);

    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Chardev '%s' not found", id);
        return false;
    }
    if (s->user || (s->mux && mux_in_use(s->mux))) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "Chardev '%s' is busy", id);
        return false;
    }
    if (chardev_streams() == s) {
        atomic_store(&chardev_list, s->next);
    } else {
        ChardevStream *before = chardev_streams();

        while (before->next != s) {
            before = before->next;
        }
        before->next = s->next;
    }
    stream_co_free(s);
    return true;
}

bool chardev_send_break(const char *id, GError **error)
{
    ChardevStream *s = chardev_find(id);

    if (!s) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "Chardev '%s' not found", id);
        return false;
    }
    if (s->mux) {
        mux_send_break(s->mux);
    } else {
        stream_event(s, CHARDEV_BREAK);
    }
    return true;
}

static ChardevStream *chardev_stream_of(Chardev *c)
{
    if (!c) {
        return NULL;
    }
    if (mux_owns(c)) {
        return mux_stream(c);
    }
    return c->ops == &chardev_stream_ops ? (ChardevStream *)c : NULL;
}

bool chardev_is_stdio(Chardev *c)
{
    const ChardevStream *s = chardev_stream_of(c);

    return s && s->backend == &chardev_stdio_backend;
}

size_t chardev_tail(Chardev *c, uint8_t *buf, size_t size)
{
    ChardevStream *s = chardev_stream_of(c);

    return s ? stream_tail(s, buf, size) : 0;
}

void chardev_co_flush(Chardev *c)
{
    ChardevStream *s = chardev_stream_of(c);

    if (s) {
        stream_co_flush(s);
    }
}

bool chardev_flush_all_blocking(unsigned bound_ms)
{
    struct timespec now;
    int64_t deadline_ns;
    bool all = true;

    clock_gettime(CLOCK_MONOTONIC, &now);
    deadline_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec + bound_ms * INT64_C(1000000);
    for (ChardevStream *s = chardev_streams(); s; s = s->next) {
        all = sink_flush_blocking(&s->out, deadline_ns) && all;
        all = sink_flush_blocking(&s->log, deadline_ns) && all;
    }
    return all;
}
