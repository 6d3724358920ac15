/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of a session: qmp_session.c (the chardev, events, functions for handlers) and
 * qmp_connection.c (one client, from its input bytes to its replies). */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_SESSION_INT_H
#define SKIFF_VMM_MONITOR_QMP_QMP_SESSION_INT_H

#include "vmm/monitor/qmp/qmp_framer.h"
#include "vmm/monitor/qmp/qmp_request.h"
#include "vmm/monitor/qmp/qmp_session.h"

#define QMP_INPUT_BYTES 4096

/* One client. Lives until the client has left and none of its commands runs. */
typedef struct QmpConnection {
    QmpSession *session; /* a reference */
    bool gone;           /* the client has left; its requests are still executed */
    bool negotiated, oob;

    /* received bytes; cut into requests when the queue has room */
    QmpFramer framer;
    uint8_t input[QMP_INPUT_BYTES];
    size_t input_at, input_size;
    int fds[QMP_REQUEST_FDS]; /* came with `input`, or earlier with the unfinished value */
    unsigned fd_count;

    QmpRequest queue[QMP_QUEUE];
    unsigned head, count;
    size_t queued_bytes;
    bool running;               /* the coroutine that serves `queue` exists */
    void (*left)(void *opaque); /* ends the running command when the client leaves; may be NULL */
    void *left_opaque;
    AioBh left_bh; /* calls `left` if the client left before its command began */
    QmpRequest urgent;
    bool urgent_running; /* `urgent` is an out-of-band request, and its coroutine exists */

    GString *output;    /* bytes that the chardev had no room for */
    size_t event_bytes; /* bytes of events since `output` was last empty */
    bool dropping;      /* events are dropped because event_bytes is at its bound; logged */
} QmpConnection;

struct QmpSession {
    Vm *vm;
    AioContext *ctx;
    Chardev *chardev; /* NULL once freed, while commands still run */
    bool pretty;
    unsigned references;
    QmpEventListener events;
    QmpConnection *connection; /* NULL without a client */
    unsigned orphans;          /* running commands of clients that have left */
    GHashTable *fds;           /* name -> descriptor */
    /* the running handler's, until its first yield */
    QmpConnection *caller;
    QmpRequest *request;
};

/* ---- qmp_session.c ---- */
void qmp_session_unref(QmpSession *s) RUNS_IN_MAIN;

/* ---- qmp_connection.c ---- */
QmpConnection *qmp_connection_new(QmpSession *s) RUNS_IN_MAIN;
/* Called when the client has left: its requests are still executed, its replies dropped. The
 * connection is freed when none of its commands runs. */
void qmp_connection_leave(QmpConnection *c) RUNS_IN_MAIN;
/* Drops received requests that have not begun. */
void qmp_connection_drop_input(QmpConnection *c) RUNS_IN_MAIN;
/* Writes as much of the output as the chardev takes. */
void qmp_connection_flush(QmpConnection *c) RUNS_IN_MAIN;
/* Whether input may be read: all earlier input was cut into requests, and the queue has room. */
bool qmp_connection_may_receive(const QmpConnection *c) RUNS_IN_MAIN;
/* Takes at most QMP_INPUT_BYTES and the chardev's received descriptors. Only called when
 * qmp_connection_may_receive(). */
void qmp_connection_receive(QmpConnection *c, const uint8_t *data, size_t size) RUNS_IN_MAIN;
/* Whether replies are still outstanding. */
bool qmp_connection_is_answering(const QmpConnection *c) RUNS_IN_MAIN;
/* Cuts input into requests and starts them while the queue has room, then allows more input. */
void qmp_connection_pump(QmpConnection *c) RUNS_IN_MAIN;

#endif
