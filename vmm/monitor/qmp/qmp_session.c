/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_session.h"

#include <string.h>
#include <unistd.h>
#include "util/log.h"
#include "vmm/monitor/qmp/qmp_session_int.h"
#include "vmm/monitor/qmp/qmp_turns.h"

void qmp_session_unref(QmpSession *s)
{
    if (--s->references == 0) {
        qmp_turns_unref();
        g_hash_table_destroy(s->fds);
        g_free(s);
    }
}

/* ---- events ---- */

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
            log_warn("QMP client on '%s' does not read: events are dropped until it does",
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

/* ---- clients ---- */

static RUNS_IN_MAIN void qmp_session_disconnect(QmpSession *s)
{
    QmpConnection *c = g_steal_pointer(&s->connection);
    if (c != NULL) {
        qmp_connection_leave(c);
    }
}

static RUNS_IN_MAIN void qmp_session_connect(QmpSession *s)
{
    qmp_session_disconnect(s);
    s->connection = qmp_connection_new(s);
    qmp_greeting_write(s->pretty, s->connection->output);
    qmp_connection_flush(s->connection);
}

static size_t qmp_session_can_receive(void *opaque)
{
    enter_main();
    const QmpSession *s = opaque;
    return s->connection != NULL && qmp_connection_may_receive(s->connection) ? QMP_INPUT_BYTES : 0;
}

static void qmp_session_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    QmpSession *s = opaque;
    if (s->connection != NULL) { /* NULL if the client left after the read */
        qmp_connection_receive(s->connection, data, size);
    }
}

static bool qmp_session_is_answering(void *opaque)
{
    enter_main();
    const QmpSession *s = opaque;
    return s->connection != NULL && qmp_connection_is_answering(s->connection);
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
        .is_answering = qmp_session_is_answering,
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
    if (s->connection != NULL) {
        qmp_connection_drop_input(s->connection);
    }
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
        if (c->gone) {
            aio_bh_schedule(&c->left_bh);
        }
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
                    "there are %d named descriptors already; close one with closefd",
                    QMP_NAMED_FDS);
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
