/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP session: the protocol on one chardev, for one client after another. In main.
 *
 * Each client has its own connection, from the chardev's CHARDEV_OPENED to its CHARDEV_CLOSED:
 *
 *   receive --> framer --> queue (8) --> coroutine: check, run --> output --> chardev
 *                  \--> out of band (1) --> coroutine --------------^   ^
 *                                                             events ---'
 *
 * Invariants
 *   1. A reply goes to the connection that sent the request, or is dropped: requests, output and
 *      capabilities are in the connection. When the client leaves, received requests are still
 *      executed, without replies; a command that may never end by itself is ended
 *      (qmp_session_on_left()).
 *   2. In-band requests run in order, at most one per turn of the loop, and none while more than
 *      QMP_OUTPUT_MAX bytes of output wait for the client to read. Clients that have more than one
 *      request waiting share a few executions per turn (qmp_turns.h).
 *   3. Out of band (exec-oob, once negotiated) only QMP_INSTANT commands run, at most one per turn.
 *   4. Memory is bounded: QMP_QUEUE requests of QMP_QUEUE_BYTES in all, or one longer request; one
 *      value in the framer; the input of one receive(); output of QMP_OUTPUT_MAX, one reply and
 *      QMP_OUTPUT_MAX of events. A full queue stops the reading. Further events are dropped until
 *      the client has read all output; one log line reports it.
 *   5. At most QMP_ORPHANS commands of clients that have left run at a time. At that bound other
 *      clients may run QMP_INSTANT commands only.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_SESSION_H
#define SKIFF_VMM_MONITOR_QMP_QMP_SESSION_H

#include "hw/core/chardev.h"
#include "vmm/monitor/qmp/qmp.h"

#define QMP_QUEUE 8
#define QMP_QUEUE_BYTES (64 * 1024) /* bytes of text; the parsed form may take 30 times as much */
#define QMP_ORPHANS 8
#define QMP_OUTPUT_MAX (64 * 1024)
#define QMP_REQUEST_FDS 4
#define QMP_NAMED_FDS 256

/* Attaches to @chardev (borrowed); greets each client. @pretty spreads replies over lines. */
QmpSession *qmp_session_new(Vm *vm, AioContext *ctx, Chardev *chardev, bool pretty) RUNS_IN_MAIN;
/* Detaches. A running command holds a reference to the session until it ends. */
void qmp_session_free(QmpSession *s) RUNS_IN_MAIN;

/* ---- for handlers, with QmpCall.session; only before their first yield ---- */
/* Ends the capabilities negotiation. Returns false and sets @error if it is complete already, or if
 * @s is NULL. */
bool qmp_session_negotiate(QmpSession *s, bool oob, GError **error) RUNS_IN_MAIN;
/* For a command that may never end by itself: calls @fn when the client leaves before the command
 * has ended, or in the next turn if it has left already. Does nothing if @s is NULL. */
void qmp_session_on_left(QmpSession *s, void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* Returns the next descriptor that came with the current request (SCM_RIGHTS), owned by the caller;
 * -1 if there is none. */
int qmp_session_take_passed_fd(QmpSession *s) RUNS_IN_MAIN;

/* ---- descriptors with names (getfd, closefd): the chardev's clients share them ---- */
/* Stores @fd (taken, also on failure) as @name and closes an earlier one of that name. Returns
 * false and sets @error if there are QMP_NAMED_FDS already. */
bool qmp_session_set_fd(QmpSession *s, const char *name, int fd, GError **error) RUNS_IN_MAIN;
/* Removes and returns the descriptor @name, owned by the caller; -1 and @error if there is none. */
int qmp_session_take_fd(QmpSession *s, const char *name, GError **error) RUNS_IN_MAIN;

#endif
