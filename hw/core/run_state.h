/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run state: one machine through which the VM is started and stopped.
 *
 *               co_vm_start                                     co_vm_stop
 *   STOPPED ------------------> RUNNING ----------------------------+
 *      ^                                                            v
 *      |  drained, flushed             queues taken back         PARKING   (vCPUs parked)
 *      +----------------- DRAINING <----------------- BACKENDS_STOPPING
 *
 * The VM stands in STOPPED for one of two reasons. It was asked to (!wants_to_run): then it stays
 * so until it is asked to start. Or an operation has stopped it for its own time (a reset, a dump):
 * then wants_to_run is what becomes of it afterwards, and stop and start requests change that:
 *
 *               stop: at once (run_state_join_stop)
 *   wants_to_run ------------------------------------> !wants_to_run
 *        ^                                                   |
 *        +---------------------------------------------------+
 *                start: when its turn has come (co_vm_start)
 *
 * Invariants
 *   1. Only the holder of the VM operation lock moves the state.
 *   2. The order of a stop is law: park vCPUs, stop kicks and take back the virtqueues, drain,
 * STOPPED. A start is the reverse.
 *   3. A VmStopped token is handed out in STOPPED only; while one is out the VM does not start.
 *   4. Nobody asks for a stop from inside a drained section (checked by rank).
 *   5. Whoever wants a stop, start or reset and is not a control operation itself sends a message
 * (run_state_request_*).
 *   6. An operation that has stopped the VM for its own time never starts it against a stop that
 * was asked for before it ended: it ends in co_vm_go_on(), which looks at what is posted first.
 *   7. A stop that meets a stopped VM moves nothing and has its effect whoever holds the lock. It
 * is told (RunStateOps.changed) in STOPPED: who waits for a stop gets it, or learns the reason.
 *   8. In the queue no start stands before a stop.
 *   9. After run_state_leave() nothing starts the VM. A start under way stops its backends again.
 *  10. A start that fails (RunStateOps.co_start_backends) stops its backends again and leaves the VM
 * in STOPPED, !wants_to_run, for the reason "io-error". The next start tries again.
 *
 * run_moves[] (run_state.c) names the function that makes each move; a move by any other aborts.
 */
#ifndef SKIFF_HW_CORE_RUN_STATE_H
#define SKIFF_HW_CORE_RUN_STATE_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/coroutine.h"

typedef enum RunPhase {
    RUN_STOPPED,
    RUN_RUNNING,
    RUN_PARKING,
    RUN_BACKENDS_STOPPING,
    RUN_DRAINING,
    RUN_PHASE_COUNT,
} RunPhase;

/* Why the VM is stopped: QEMU's RunState names. */
typedef enum StopReason {
    STOP_PRELAUNCH,
    STOP_PAUSED,
    STOP_IO_ERROR,
    STOP_INTERNAL_ERROR,
    STOP_GUEST_PANICKED,
    STOP_SHUTDOWN,
    STOP_WATCHDOG,
    STOP_DEBUG, /* gdb has the VM */
    STOP_REASON_COUNT,
} StopReason;

/* What the machine drives. All in main; co_* may yield. Tests implement it with counters. */
typedef struct RunStateOps {
    void (*co_park)(void *opaque);
    void (*unpark)(void *opaque);
    void (*co_stop_backends)(void *opaque);
    /* False + error: a device cannot start. Some may have; co_stop_backends stops those again. */
    bool (*co_start_backends)(void *opaque, GError **error);
    void (*co_drain)(void *opaque);
    /* Devices, RAM image and vCPUs to power-on; called STOPPED. */
    bool (*co_reset)(void *opaque, GError **error);
    /* The state changed, or in STOPPED what is told of it: for events and logs. A stop that stays
     * may be told more than once. */
    void (*changed)(void *opaque, RunPhase phase, StopReason reason);
} RunStateOps;

/* A request that waits for its turn (run_state_request_*). */
typedef enum RunRequest {
    RUN_REQUEST_STOP,
    RUN_REQUEST_RESET,
    RUN_REQUEST_START,
    RUN_REQUEST_COUNT,
} RunRequest;

typedef struct RunStateWaiter RunStateWaiter;

typedef struct VmStopped {
    unsigned count; /* tokens out */
} VmStopped;

typedef struct RunState {
    AioContext *ctx;
    const RunStateOps *ops;
    void *opaque;
    CoMutex operation; /* the VM operation lock */
    RunPhase phase;
    StopReason reason; /* in STOPPED; the reason of the stop under way otherwise */
    bool wants_to_run; /* what was asked for last: an operation that stopped the VM ends in it */
    bool starting;     /* a start is under way, from STOPPED */
    bool brief;        /* the stop under way is a reset's or the like: not told as a stop */
    bool debugged;     /* run_state_set_debugged() */
    bool leaving;      /* run_state_leave() */
    char start_error[256]; /* why the last start failed; empty: it did not */
    VmStopped stopped;
    AioBh request_bh;
    _Atomic unsigned posted_requests;
    /* what waits for its turn, each kind at most once; one coroutine serves them all */
    RunRequest queue[RUN_REQUEST_COUNT];
    unsigned queued;
    unsigned stop_reasons;   /* of the stop in the queue: 1 << StopReason */
    bool serving;            /* the coroutine is there */
    bool busy;               /* ... and serves a request that it has taken from the queue */
    RunStateWaiter *waiters; /* run_state_co_settle() */
} RunState;

void run_state_init(RunState *rs, AioContext *ctx, const RunStateOps *ops, void *opaque)
    RUNS_IN_MAIN;

/* ---- control operations take the lock around what they do ---- */
void vm_operation_begin(RunState *rs) coroutine_fn RUNS_IN_MAIN;
void vm_operation_end(RunState *rs) coroutine_fn RUNS_IN_MAIN;

/* Under the operation lock: stops the VM if it runs, and hands out a token. */
VmStopped *co_vm_stop(RunState *rs, StopReason reason) coroutine_fn RUNS_IN_MAIN;
void vm_stopped_put(RunState *rs, VmStopped *token) RUNS_IN_MAIN;
/* Under the operation lock, no token out: starts the VM if it is stopped. After run_state_leave(),
 * or when that is called during the start, the VM stays stopped. So it does when a device cannot
 * start: that is logged, and start_error has the reason. */
void co_vm_start(RunState *rs) coroutine_fn RUNS_IN_MAIN;
/* The same at the end of an operation that has stopped the VM for its own time (STOP_PAUSED):
 * starts it if it is wanted to run by now, which it is not if a stop was asked for meanwhile. */
void co_vm_go_on(RunState *rs) coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: stop, reset, and start again if it is wanted to run. */
bool co_vm_reset(RunState *rs, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- messages: any thread, return at once. They are served in turn; of stop and start the last
 * counts, and what waits is never more than one of each kind, however often they are sent ---- */
void run_state_request_stop(RunState *rs, StopReason reason) ANY_THREAD;
/* Of a guest that has ended (powered off, internal error) only after a reset. */
void run_state_request_start(RunState *rs) ANY_THREAD;
void run_state_request_reset(RunState *rs) ANY_THREAD;

/* Waits until no request is under way, for at most @timeout_ns. False: there still is one (storage
 * hangs). Whoever sent one waits for its effect so, and without the operation lock. */
bool run_state_co_settle(RunState *rs, int64_t timeout_ns) coroutine_fn RUNS_IN_MAIN;

/* Whether a stop is under way, or asked for and waits for its turn while the VM runs. */
bool run_state_stopping(const RunState *rs) RUNS_IN_MAIN;
/* Whether the VM is stopped, or being stopped, until it is asked to start: not just for the time of
 * an operation. */
bool run_state_stays_stopped(const RunState *rs) RUNS_IN_MAIN;
/* Whether a debugger is there for whom STOP_DEBUG stops the VM. What a breakpoint of one that is
 * gone has asked for stops nothing for good and is no reason to be told. */
void run_state_set_debugged(RunState *rs, bool debugged) RUNS_IN_MAIN;
/* skiff ends: a stopped VM stays so, and a start that waits for its turn or comes is void. */
void run_state_leave(RunState *rs) RUNS_IN_MAIN;
/* Powered off, or KVM can't go on: only a reset lets it run again. */
bool run_state_has_ended(const RunState *rs) RUNS_IN_MAIN;
/* QEMU's word (RunState): "running", else why it is stopped or stops. */
const char *run_state_qemu_name(const RunState *rs) RUNS_IN_MAIN;
/* "running", "paused", "io-error", ...; "stopping" is not a QEMU word: during a stop it is told as
 * running=false and this phase's name. */
const char *run_state_name(const RunState *rs) RUNS_IN_MAIN;
/* Aborts when an invariant is broken. Called after each move and each change of the queue, and
 * when a request has been served. */
void assert_run_state(const RunState *rs) ANY_THREAD;

#endif
