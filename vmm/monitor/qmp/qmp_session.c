/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_session.h"

#include <string.h>
#include <unistd.h>
#include "util/log.h"
#include "util/loop/sched_point.h"
#include "vmm/monitor/qmp/qmp_framer.h"
#include "vmm/monitor/qmp/qmp_request.h"
#include "vmm/monitor/qmp/qmp_turns.h"

#define QMP_INPUT_BYTES 4096

/* One client. Lives until it has left and nothing of it runs. */
typedef struct QmpConnection {
    QmpSession *session; /* a reference */
    bool gone;
    bool negotiated, oob;

    /* what has been received: cut into requests as there is room for them */
    QmpFramer framer;
    uint8_t input[QMP_INPUT_BYTES];
    size_t input_at, input_size;
    int fds[QMP_REQUEST_FDS]; /* came with `input`, or with the value begun before */
    unsigned fd_count;

    QmpRequest queue[QMP_QUEUE];
    unsigned head, count;
    size_t queued_bytes;
    bool running;               /* the coroutine that serves `queue` exists */
    void (*left)(void *opaque); /* what its command wants to be told; NULL: nothing */
    void *left_opaque;
    QmpRequest urgent;
    bool urgent_running; /* there is an out-of-band request, and its coroutine */

    GString *output;    /* what the chardev had no room for */
    size_t event_bytes; /* of events, since `output` was empty */
    bool dropping;      /* events, since there are too many of these; told */
} QmpConnection;

struct QmpSession {
    Vm *vm;
    AioContext *ctx;
    Chardev *chardev; /* NULL: freed, but for what still runs */
    bool pretty;
    unsigned references;
    QmpEventListener events;
    QmpConnection *connection; /* NULL: nobody is there */
    unsigned orphans;          /* commands that run for clients who have left */
    GHashTable *fds;           /* name -> descriptor */
    /* what a handler that has not yielded may ask about */
    QmpConnection *caller;
    QmpRequest *request;
};

static RUNS_IN_MAIN void qmp_session_unref(QmpSession *s)
{
    if (--s->references == 0) {
        qmp_turns_unref();
        g_hash_table_destroy(s->fds);
        g_free(s);
    }
}

/* ---- output ---- */

static RUNS_IN_MAIN void qmp_connection_flush(QmpConnection *c)
{
    size_t taken =
        chardev_write(c->session->chardev, (const uint8_t *)c->output->str, c->output->len);
    g_string_erase(c->output, 0, (gssize)taken);
    if (c->output->len == 0) {
        c->event_bytes = 0;
        c->dropping = false;
    }
}

static bool qmp_connection_backed_up(const QmpConnection *c)
{
    return c->output->len > QMP_OUTPUT_MAX;
}

static void qmp_session_event(QmpEventListener *l, const QmpEvent *event, struct json_object *data,
                              int64_t realtime_us)
{
    enter_main();
    QmpSession *s = (QmpSession *)((char *)l - offsetof(QmpSession, events));
    QmpConnection *c = s->connection;
    if (c == NULL || !c->negotiated) {
        return;
    }
    if (c->event_bytes > QMP_OUTPUT_MAX) {
        if (!c->dropping) {
            log_warn("QMP client on '%s' does not read: events are dropped until it has",
                     s->chardev->id);
        }
        c->dropping = true;
        return;
    }
    size_t before = c->output->len;
    qmp_event_write(event, data, realtime_us, s->pretty, c->output);
    c->event_bytes += c->output->len - before;
    qmp_connection_flush(c);
}

/* ---- the life of a connection ---- */

static RUNS_IN_MAIN void qmp_connection_pump(QmpConnection *c);

static RUNS_IN_MAIN QmpConnection *qmp_connection_new(QmpSession *s)
{
    QmpConnection *c = g_new0(QmpConnection, 1);
    c->session = s;
    s->references++;
    qmp_framer_init(&c->framer);
    c->output = g_string_new(NULL);
    return c;
}

/* Takes the oldest request off the queue. */
static QmpRequest qmp_connection_dequeue(QmpConnection *c)
{
    QmpRequest r = c->queue[c->head];
    c->head = (c->head + 1) % QMP_QUEUE;
    c->count--;
    c->queued_bytes -= r.size;
    return r;
}

static void qmp_connection_drop_input(QmpConnection *c)
{
    while (c->fd_count > 0) {
        close(c->fds[--c->fd_count]);
    }
    while (c->count > 0) {
        QmpRequest r = qmp_connection_dequeue(c);
        qmp_request_clear(&r);
    }
    c->input_at = c->input_size = 0;
}

/* The last who uses it frees it: the session, or a coroutine. */
static RUNS_IN_MAIN void qmp_connection_end(QmpConnection *c)
{
    QmpSession *s = c->session;
    if (!c->gone || c->running || c->urgent_running) {
        return;
    }
    qmp_connection_drop_input(c);
    qmp_framer_clear(&c->framer);
    g_string_free(c->output, true);
    g_free(c);
    qmp_session_unref(s);
}

static RUNS_IN_MAIN void qmp_session_disconnect(QmpSession *s)
{
    QmpConnection *c = g_steal_pointer(&s->connection);
    if (c == NULL) {
        return;
    }
    c->gone = true;
    s->orphans += c->running;
    if (c->left != NULL) {
        c->left(c->left_opaque);
    }
    qmp_connection_drop_input(c);
    qmp_connection_end(c);
}

static RUNS_IN_MAIN void qmp_session_connect(QmpSession *s)
{
    qmp_session_disconnect(s);
    s->connection = qmp_connection_new(s);
    qmp_greeting_write(s->pretty, s->connection->output);
    qmp_connection_flush(s->connection);
}

/* ---- executing ---- */

/* What the state of the connection says against the command. */
static bool qmp_connection_allows(const QmpConnection *c, const QmpRequest *r, GError **error)
{
    const QmpCommand *command = qmp_command_find(r->name);
    bool negotiation = command != NULL && (command->flags & QMP_NEGOTIATION) != 0;
    bool instant = command != NULL && (command->flags & QMP_INSTANT) != 0;
    if (!c->negotiated && !negotiation) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_COMMAND_NOT_FOUND,
                    "Expecting capabilities negotiation with 'qmp_capabilities'");
        return false;
    }
    if (command == NULL) { /* qmp_co_execute() has the words for it */
        return true;
    }
    if (r->oob && !instant) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "The command %s does not support OOB",
                    r->name);
        return false;
    }
    if (!instant && c->session->orphans >= QMP_ORPHANS) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "%u commands of clients that have left still run: try again when they have "
                    "ended",
                    c->session->orphans);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN void qmp_connection_co_execute(QmpConnection *c, QmpRequest *r)
{
    QmpSession *s = c->session;
    struct json_object *result = NULL;
    g_autoptr(GError) error = g_steal_pointer(&r->error);
    if (error == NULL && qmp_connection_allows(c, r, &error)) {
        s->caller = c;
        s->request = r;
        result = qmp_co_execute(s->vm, s, r->name, r->args, &error);
        s->caller = NULL;
        s->request = NULL;
    }
    SP("qmp.executed", c);
    if (!c->gone) {
        qmp_request_reply(r, result, error, s->pretty, c->output);
        qmp_connection_flush(c);
    }
    json_object_put(result);
    qmp_request_clear(r);
}

static void qmp_connection_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    QmpConnection *c = opaque;
    while (c->count > 0 && !qmp_connection_backed_up(c)) {
        QmpRequest r = qmp_connection_dequeue(c);
        qmp_connection_co_execute(c, &r);
        c->left = NULL;
        if (c->count > 0) {
            qmp_turns_co_wait();
        } else {
            co_yield_turn();
        }
        qmp_connection_pump(c);
    }
    c->running = false;
    if (c->gone) {
        c->session->orphans--;
    }
    qmp_connection_end(c);
}

static void qmp_connection_run_urgent(void *opaque)
{
    enter_main();
    enter_coroutine();
    QmpConnection *c = opaque;
    qmp_connection_co_execute(c, &c->urgent);
    co_yield_turn();
    c->urgent_running = false;
    qmp_connection_pump(c);
    qmp_connection_end(c);
}

static RUNS_IN_MAIN void qmp_connection_start(QmpConnection *c)
{
    if (c->count > 0 && !c->running && !qmp_connection_backed_up(c)) {
        c->running = true;
        co_start(c->session->ctx, qmp_connection_run, c);
    }
}

/* ---- input ---- */

/* Descriptors belong to the value that came with them: the one that ends with the input or is not
 * complete at its end. */
static void qmp_connection_give_fds(QmpConnection *c, QmpRequest *r)
{
    for (size_t i = c->input_at; i < c->input_size; i++) {
        if (!g_ascii_isspace(c->input[i])) {
            return;
        }
    }
    memcpy(r->fds, c->fds, sizeof(r->fds));
    r->fd_count = c->fd_count;
    c->fd_count = 0;
}

static RUNS_IN_MAIN void qmp_connection_take_request(QmpConnection *c, QmpRequest *r)
{
    qmp_connection_give_fds(c, r);
    if (r->oob && r->error == NULL) {
        c->urgent = *r;
        c->urgent_running = true;
        co_start(c->session->ctx, qmp_connection_run_urgent, c);
        return;
    }
    c->queue[(c->head + c->count) % QMP_QUEUE] = *r;
    c->count++;
    c->queued_bytes += r->size;
}

/* Room for whatever the input's next value turns out to be. */
static bool qmp_connection_has_room(const QmpConnection *c)
{
    return c->count < QMP_QUEUE && c->queued_bytes < QMP_QUEUE_BYTES && !c->urgent_running &&
           !qmp_connection_backed_up(c);
}

/* Cuts input into requests and starts them, as far as there is room; then more may be read. */
static RUNS_IN_MAIN void qmp_connection_pump(QmpConnection *c)
{
    if (c->gone) {
        return;
    }
    while (c->input_at < c->input_size && qmp_connection_has_room(c)) {
        QmpRequest r;
        size_t used;
        const char *why;
        QmpFrame frame = qmp_framer_feed(&c->framer, c->input + c->input_at,
                                         c->input_size - c->input_at, &used, &why);
        c->input_at += used;
        if (frame == QMP_FRAME_NONE) {
            continue;
        }
        if (frame == QMP_FRAME_VALUE) {
            qmp_request_parse(&r, c->framer.text->str, c->framer.text->len, c->oob);
        } else {
            qmp_request_parse_error(&r, why);
        }
        qmp_connection_take_request(c, &r);
    }
    qmp_connection_start(c);
    if (c->input_at == c->input_size && qmp_connection_has_room(c)) {
        chardev_accept_input(c->session->chardev);
    }
}

static size_t qmp_session_can_receive(void *opaque)
{
    const QmpSession *s = opaque;
    const QmpConnection *c = s->connection;
    bool ready = c != NULL && c->input_at == c->input_size && qmp_connection_has_room(c);
    return ready ? QMP_INPUT_BYTES : 0;
}

static void qmp_session_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    QmpSession *s = opaque;
    QmpConnection *c = s->connection;
    int fd;
    if (c == NULL) {
        return; /* read for a client that has left meanwhile */
    }
    g_assert(size <= QMP_INPUT_BYTES && c->input_at == c->input_size);
    memcpy(c->input, data, size);
    c->input_at = 0;
    c->input_size = size;
    while (c->fd_count < QMP_REQUEST_FDS && (fd = chardev_take_fd(s->chardev)) >= 0) {
        c->fds[c->fd_count++] = fd;
    }
    qmp_connection_pump(c);
}

static void qmp_session_chardev_event(void *opaque, ChardevEvent event)
{
    enter_main();
    QmpSession *s = opaque;
    if (event == CHARDEV_OPENED) {
        qmp_session_connect(s);
        chardev_accept_input(s->chardev);
    } else if (event == CHARDEV_CLOSED) {
        qmp_session_disconnect(s);
    }
}

static void qmp_session_writable(void *opaque)
{
    enter_main();
    QmpSession *s = opaque;
    QmpConnection *c = s->connection;
    if (c != NULL) {
        qmp_connection_flush(c);
        qmp_connection_pump(c);
    }
}

/* ---- the session ---- */

static void qmp_close_fd(gpointer value)
{
    close(GPOINTER_TO_INT(value));
}

QmpSession *qmp_session_new(Vm *vm, AioContext *ctx, Chardev *chardev, bool pretty)
{
    static const ChardevFrontendOps ops = {
        .can_receive = qmp_session_can_receive,
        .receive = qmp_session_receive,
        .event = qmp_session_chardev_event,
        .writable = qmp_session_writable,
    };
    QmpSession *s = g_new0(QmpSession, 1);
    s->vm = vm;
    s->ctx = ctx;
    s->chardev = chardev;
    s->pretty = pretty;
    s->references = 1;
    qmp_turns_ref(ctx);
    s->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, qmp_close_fd);
    s->events.event = qmp_session_event;
    qmp_event_listen(&s->events);
    chardev_attach(chardev, &ops, s);
    return s;
}

void qmp_session_free(QmpSession *s)
{
    if (s == NULL) {
        return;
    }
    chardev_attach(s->chardev, NULL, NULL);
    qmp_event_unlisten(&s->events);
    qmp_session_disconnect(s);
    s->chardev = NULL;
    qmp_session_unref(s);
}

/* ---- for handlers ---- */

bool qmp_session_negotiate(QmpSession *s, bool oob, GError **error)
{
    QmpConnection *c = s != NULL ? s->caller : NULL;
    if (c == NULL || c->negotiated) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_COMMAND_NOT_FOUND,
                    "Capabilities negotiation is already complete, command ignored");
        return false;
    }
    c->negotiated = true;
    c->oob = oob;
    return true;
}

void qmp_session_on_left(QmpSession *s, void (*fn)(void *opaque), void *opaque)
{
    QmpConnection *c = s != NULL ? s->caller : NULL;
    if (c != NULL && s->request != &c->urgent) {
        c->left = fn;
        c->left_opaque = opaque;
    }
}

int qmp_session_take_passed_fd(QmpSession *s)
{
    QmpRequest *r = s != NULL ? s->request : NULL;
    if (r == NULL || r->fd_count == 0) {
        return -1;
    }
    int fd = r->fds[0];
    r->fd_count--;
    memmove(r->fds, r->fds + 1, r->fd_count * sizeof(r->fds[0]));
    return fd;
}

bool qmp_session_set_fd(QmpSession *s, const char *name, int fd, GError **error)
{
    if (g_hash_table_size(s->fds) >= QMP_NAMED_FDS && !g_hash_table_contains(s->fds, name)) {
        close(fd);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "there are %d named descriptors already; closefd makes room", QMP_NAMED_FDS);
        return false;
    }
    g_hash_table_replace(s->fds, g_strdup(name), GINT_TO_POINTER(fd));
    return true;
}

int qmp_session_take_fd(QmpSession *s, const char *name, GError **error)
{
    gpointer key = NULL, value;
    if (s == NULL || !g_hash_table_steal_extended(s->fds, name, &key, &value)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "File descriptor named '%s' not found",
                    name);
        return -1;
    }
    g_free(key);
    return GPOINTER_TO_INT(value);
}
