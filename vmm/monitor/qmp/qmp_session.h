/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QMP session: the protocol on one chardev, for one client after another. In main.
 *
 * Each client is a connection of its own, from the chardev's CHARDEV_OPENED to its CHARDEV_CLOSED:
 *
 *   receive --> framer --> queue (8) --> coroutine: check, run --> output --> chardev
 *                  \--> out of band (1) --> coroutine --------------^   ^
 *                                                             events ---'
 *
 * Invariants
 *   1. What a connection asks is answered to that connection or to nobody: its requests, output and
 *      capabilities are in the connection. When the client leaves, what was received is still
 *      carried out, without replies; a command that may never end by itself is ended
 *      (qmp_session_on_left()).
 *   2. In-band requests run one after another, in order, at most one per turn of the loop, and none
 *      while more than QMP_OUTPUT_MAX bytes of output wait for the client to read. Of the clients
 *      that have more than one waiting a few are served in each turn, one after the other.
 *   3. Out of band (exec-oob, once negotiated) only QMP_INSTANT commands run: at most one per turn.
 *   4. Bounded: QMP_QUEUE requests of QMP_QUEUE_BYTES or one that is longer, one value in the
 *      framer, what one receive() brought, and output of QMP_OUTPUT_MAX, one reply and
 *      QMP_OUTPUT_MAX of events. A full queue stops the reading. Events beyond are dropped,
 *      which is logged once, until the client has read all.
 *   5. Of clients that have left the commands of at most QMP_ORPHANS go on at a time; at that bound
 *      other clients may run QMP_INSTANT commands only.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_SESSION_H
#define SKIFF_VMM_MONITOR_QMP_QMP_SESSION_H

#include "hw/core/chardev.h"
#include "vmm/monitor/qmp/qmp.h"

#define QMP_QUEUE 8
#define QMP_QUEUE_BYTES (64 * 1024) /* parsed, that may be some 30 times as much */
#define QMP_ORPHANS 8
#define QMP_OUTPUT_MAX (64 * 1024)
#define QMP_REQUEST_FDS 4
#define QMP_NAMED_FDS 256

/* Attaches to @chardev (borrowed); greets each client. @pretty: replies over several lines. */
QmpSession *qmp_session_new(Vm *vm, AioContext *ctx, Chardev *chardev, bool pretty) RUNS_IN_MAIN;
/* Detaches. Commands that run keep what they need of it until they end. */
void qmp_session_free(QmpSession *s) RUNS_IN_MAIN;

/* ---- for handlers, which have QmpCall.session; only before they first yield ---- */
/* The end of the capabilities negotiation. False + @error when it is over, or no session asks. */
bool qmp_session_negotiate(QmpSession *s, bool oob, GError **error) RUNS_IN_MAIN;
/* Has @fn called when the client leaves before the command has ended, which may never end by
 * itself; in the next turn when it has left already. Without a client (@s NULL) nothing. */
void qmp_session_on_left(QmpSession *s, void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* The next descriptor that came with the request that is executed (SCM_RIGHTS), the caller's from
 * now on; -1: none. */
int qmp_session_take_passed_fd(QmpSession *s) RUNS_IN_MAIN;

/* ---- descriptors with names (getfd, closefd): the chardev's clients share them ---- */
/* Keeps @fd (taken, also on failure) as @name, in place of what had that name. False + @error when
 * there are QMP_NAMED_FDS of them. */
bool qmp_session_set_fd(QmpSession *s, const char *name, int fd, GError **error) RUNS_IN_MAIN;
/* The descriptor @name, the caller's from now on; -1 + @error: there is none. */
int qmp_session_take_fd(QmpSession *s, const char *name, GError **error) RUNS_IN_MAIN;

#endif
