/* SPDX-License-Identifier: Apache-2.0 */
/* Creating a chardev: from options to an entry in the list, or a pending one that is called off. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "hw/chardev/chardev_int.h"

static const ChardevBackend *const chardev_backends[] = {
    &chardev_null_backend, &chardev_stdio_backend,  &chardev_file_backend,
    &chardev_pty_backend,  &chardev_socket_backend,
};

/* A chardev that is being opened. The coroutine that opens it waits, possibly for ever. */
typedef struct ChardevOpening {
    ChardevStream *_Atomic stream; /* NULL: it is open, or gone */
    const char *id;
    bool called_off;
    struct ChardevOpening *next;
} ChardevOpening;

static ChardevOpening *_Atomic chardev_openings; /* crash paths walk it; main changes it */
static CoQueue chardev_opening_ended;

void chardev_add_setup(void)
{
    co_queue_init(&chardev_opening_ended);
}

void chardev_unlink_opening(void)
{
    for (ChardevOpening *o = atomic_load(&chardev_openings); o; o = o->next) {
        ChardevStream *s = atomic_load(&o->stream);

        if (s && s->opened && s->backend->unlink) {
            s->backend->unlink(s);
        }
    }
}

/* ---- options and backends ---- */

static const OptSpec chardev_common_options[] = {
    OPT_SPEC(ChardevStream, "mux", OPT_BOOL, mux_wanted,
             .help = "several users share it, Ctrl-A c switches", .def = "off"),
    OPT_SPEC(ChardevStream, "logfile", OPT_STRING, logfile,
             .help = "file that output is also written to"),
    OPT_SPEC(ChardevStream, "logappend", OPT_BOOL, logappend, .help = "append to the log file",
             .def = "off"),
    OPT_SPEC(ChardevStream, "logtimestamp", OPT_BOOL, logtimestamp,
             .help = "begin each line of the log file with the time since start", .def = "off"),
    OPT_SPEC(ChardevStream, "timestamps", OPT_BOOL, timestamps,
             .help = "begin each line with the time since start", .def = "off"),
    {0},
};

/* The common options and @backend's own, in one table. The caller frees it. */
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

/* The nearest substitute for a chardev of QEMU that skiff does not have. */
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

/* ---- the log file ---- */

typedef struct ChardevLogOpen {
    const ChardevStream *stream;
    int fd;
    const char *failure;
} ChardevLogOpen;

static int chardev_open_log_in_worker(void *opaque)
{
    ChardevLogOpen *o = opaque;
    const ChardevStream *s = o->stream;

    enter_worker();
    o->fd = open(s->logfile,
                 O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
                     (s->logappend ? O_APPEND : O_TRUNC),
                 0666);
    if (o->fd < 0) {
        int err = errno;

        o->failure = chardev_open_failure(s->logfile, err);
        return -err;
    }
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool chardev_co_open_log(ChardevStream *s, GError **error)
{
    ChardevLogOpen o = {.stream = s};
    int ret;

    if (!s->logfile) {
        if (s->logappend || s->logtimestamp) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "%s needs logfile=", s->logappend ? "logappend" : "logtimestamp");
        }
        return !s->logappend && !s->logtimestamp;
    }
    ret = co_run_in_worker(chardev_open_log_in_worker, &o);
    if (ret < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(-ret), "can't open log '%s': %s",
                    s->logfile, o.failure);
        return false;
    }
    sink_start(&s->log, o.fd, chardev_fd_mode(o.fd), s->logfile);
    return true;
}

/* ---- chardevs that are being opened ---- */

static RUNS_IN_MAIN ChardevOpening *chardev_opening_find(const char *id)
{
    ChardevOpening *o = atomic_load(&chardev_openings);

    while (o && strcmp(o->id, id) != 0) {
        o = o->next;
    }
    return o;
}

static RUNS_IN_MAIN void chardev_opening_remove(ChardevOpening *o)
{
    ChardevOpening *before = atomic_load(&chardev_openings);

    if (before == o) {
        atomic_store(&chardev_openings, o->next);
    } else {
        while (before->next != o) {
            before = before->next;
        }
        before->next = o->next;
    }
    co_queue_wake_all(&chardev_opening_ended);
}

bool chardev_call_off(const char *id)
{
    ChardevOpening *o = chardev_opening_find(id);
    ChardevStream *s = o ? atomic_load(&o->stream) : NULL;

    if (!s) {
        return false;
    }
    o->called_off = true;
    s->closing = true;
    if (s->opened && s->backend->stop) {
        s->backend->stop(s);
    }
    return true;
}

void chardev_co_await_opening(const char *id)
{
    while (chardev_opening_find(id)) {
        co_queue_wait(&chardev_opening_ended, "a chardev that was called off");
    }
}

/* ---- opening ---- */

static coroutine_fn RUNS_IN_MAIN bool chardev_co_open_stream(ChardevStream *s, const OptDict *opts,
                                                             const ChardevOpening *o,
                                                             GError **error)
{
    g_autoptr(GError) failure = NULL;
    bool ok;

    ok = opts_bind(s->options_table, s, opts, NULL, &failure);
    if (ok) {
        stream_set_up_stamps(s);
        ok = chardev_co_open_log(s, &failure);
    }
    if (ok && !o->called_off) {
        s->opened = true;
        ok = s->backend->co_open(s, &failure);
    }
    if (o->called_off) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "chardev '%s' was called off", o->id);
        return false;
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&failure));
    }
    return ok;
}

/* Binds the options, opens, and adds it to the list; frees it on failure. */
static coroutine_fn RUNS_IN_MAIN bool
chardev_co_open(const ChardevBackend *backend, const OptDict *opts, const char *id, GError **error)
{
    ChardevStream *s = g_malloc0(backend->instance_size);
    ChardevOpening o = {.stream = s, .id = id};
    bool ok;

    s->options_table = chardev_option_table(backend);
    opts_init(s->options_table, s);
    stream_init(s, backend, chardev_context(), g_strdup(id));
    o.next = atomic_load(&chardev_openings);
    atomic_store(&chardev_openings, &o);
    ok = chardev_co_open_stream(s, opts, &o, error);
    atomic_store(&o.stream, NULL);
    if (ok) {
        s->mux = s->mux_wanted ? mux_new(s) : NULL;
        chardev_enter(s);
    } else {
        stream_co_free(s);
    }
    chardev_opening_remove(&o);
    return ok;
}

bool chardev_co_add(OptDict *opts, GError **error)
{
    g_autoptr(OptDict) d = opts;
    g_autofree char *name = opt_dict_take(d, "backend");
    g_autofree char *id = opt_dict_take(d, "id");
    const ChardevBackend *backend;

    if (!name || !id || !*id) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "%s is missing: -chardev needs BACKEND,id=ID", name ? "id=" : "the backend");
        return false;
    }
    if (!opt_id_check(id, error)) {
        return false;
    }
    backend = chardev_backend_find(name, error);
    if (backend && (chardev_find(id) || chardev_opening_find(id))) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "there is a chardev '%s' already", id);
        backend = NULL;
    }
    return backend && chardev_co_open(backend, d, id, error);
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
    return chardev_co_open(&chardev_inherited_backend, d, id, error);
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
