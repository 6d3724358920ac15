/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>
#include "util/loop/sched_point.h"
#include "vmm/monitor/qmp/qmp_session_int.h"
#include "vmm/monitor/qmp/qmp_turns.h"

/* ---- output ---- */

void qmp_connection_flush(QmpConnection *c)
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

/* ---- life ---- */

/* Runs a turn later, so that the command has begun the wait that it cancels. */
static void qmp_connection_call_left(void *opaque)
{
    enter_main();
    QmpConnection *c = opaque;
    if (c->left != NULL) {
        c->left(c->left_opaque);
    }
}

QmpConnection *qmp_connection_new(QmpSession *s)
{
    QmpConnection *c = g_new0(QmpConnection, 1);
    c->session = s;
    s->references++;
    qmp_framer_init(&c->framer);
    aio_bh_init(&c->left_bh, s->ctx, qmp_connection_call_left, c);
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

void qmp_connection_drop_input(QmpConnection *c)
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

/* Frees the connection if neither the session nor a coroutine uses it. */
static RUNS_IN_MAIN void qmp_connection_end(QmpConnection *c)
{
    QmpSession *s = c->session;
    if (!c->gone || c->running || c->urgent_running) {
        return;
    }
    qmp_connection_drop_input(c);
    qmp_framer_clear(&c->framer);
    aio_bh_cancel(&c->left_bh);
    g_string_free(c->output, true);
    g_free(c);
    qmp_session_unref(s);
}

/* ---- executing ---- */

/* Whether the state of the connection allows the command. */
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
    if (command == NULL) { /* qmp_co_execute() makes the error */
        return true;
    }
    if (r->oob && !instant) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "The command %s does not support OOB",
                    r->name);
        return false;
    }
    if (!instant && c->session->orphans - c->gone >= QMP_ORPHANS) {
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
        c->session->orphans += c->gone;
        co_start(c->session->ctx, qmp_connection_run, c);
    }
}

/* ---- input ---- */

/* Descriptors belong to the last value of the input that they came with, complete or not. */
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

/* Whether there is room for the next value, in band or out of band. */
static bool qmp_connection_has_room(const QmpConnection *c)
{
    return c->count < QMP_QUEUE && c->queued_bytes < QMP_QUEUE_BYTES && !c->urgent_running &&
           !qmp_connection_backed_up(c);
}

bool qmp_connection_may_receive(const QmpConnection *c)
{
    return c->input_at == c->input_size && qmp_connection_has_room(c);
}

bool qmp_connection_is_answering(const QmpConnection *c)
{
    return c->input_at < c->input_size || c->count > 0 || c->running || c->urgent_running ||
           c->output->len > 0;
}

void qmp_connection_pump(QmpConnection *c)
{
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
    if (!c->gone && qmp_connection_may_receive(c)) {
        chardev_accept_input(c->session->chardev);
    }
}

void qmp_connection_receive(QmpConnection *c, const uint8_t *data, size_t size)
{
    int fd;
    g_assert(size <= QMP_INPUT_BYTES && c->input_at == c->input_size);
    memcpy(c->input, data, size);
    c->input_at = 0;
    c->input_size = size;
    while (c->fd_count < QMP_REQUEST_FDS && (fd = chardev_take_fd(c->session->chardev)) >= 0) {
        c->fds[c->fd_count++] = fd;
    }
    qmp_connection_pump(c);
}

void qmp_connection_leave(QmpConnection *c)
{
    c->gone = true;
    c->session->orphans += c->running;
    g_string_truncate(c->output, 0);
    if (c->left != NULL) {
        c->left(c->left_opaque);
    }
    qmp_connection_pump(c);
    qmp_connection_end(c);
}
