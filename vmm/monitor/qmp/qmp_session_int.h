/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a session: qmp_session.c (the chardev, events, what handlers call) and
 * qmp_connection.c (what one client asks, from its bytes to its replies). */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_SESSION_INT_H
#define SKIFF_VMM_MONITOR_QMP_QMP_SESSION_INT_H

#include "vmm/monitor/qmp/qmp_framer.h"
#include "vmm/monitor/qmp/qmp_request.h"
#include "vmm/monitor/qmp/qmp_session.h"

#define QMP_INPUT_BYTES 4096

/* One client. Lives until it has left and nothing of it runs. */
typedef struct QmpConnection {
    QmpSession *session; /* a reference */
    bool gone;           /* the client; what it has asked for is carried out */
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
    void (*left)(void *opaque); /* its command's: ends it when the client leaves; NULL: nothing */
    void *left_opaque;
    AioBh left_bh; /* calls `left` of a command that a client asked for which has left before */
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

/* ---- qmp_session.c ---- */
void qmp_session_unref(QmpSession *s) RUNS_IN_MAIN;

/* ---- qmp_connection.c ---- */
QmpConnection *qmp_connection_new(QmpSession *s) RUNS_IN_MAIN;
/* The client has left: its requests are carried out, its replies dropped. Frees the connection when
 * nothing of it runs any more. */
void qmp_connection_leave(QmpConnection *c) RUNS_IN_MAIN;
/* Drops what has been received and has not begun. */
void qmp_connection_drop_input(QmpConnection *c) RUNS_IN_MAIN;
/* Offers the chardev the output. */
void qmp_connection_flush(QmpConnection *c) RUNS_IN_MAIN;
/* Whether input may come: all that did was cut into requests, and there is room for more. */
bool qmp_connection_may_receive(const QmpConnection *c) RUNS_IN_MAIN;
/* At most QMP_INPUT_BYTES, when it may; with descriptors that the chardev has. */
void qmp_connection_receive(QmpConnection *c, const uint8_t *data, size_t size) RUNS_IN_MAIN;
/* Whether replies are still to come. */
bool qmp_connection_is_answering(const QmpConnection *c) RUNS_IN_MAIN;
/* Cuts input into requests and starts them, as far as there is room; then more may be read. */
void qmp_connection_pump(QmpConnection *c) RUNS_IN_MAIN;

#endif
