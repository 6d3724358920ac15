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
 * Invariants
 *   1. Only the holder of the VM operation lock moves the state.
 *   2. The order of a stop is law: park vCPUs, stop kicks and take back the virtqueues, drain,
 * STOPPED. A start is the reverse.
 *   3. A VmStopped token is handed out in STOPPED only; while one is out the VM does not start.
 *   4. Nobody asks for a stop from inside a drained section (checked by rank).
 *   5. Whoever wants a stop, start or reset and is not a control operation itself sends a message
 * (run_state_request_*).
 *
 *   move                             made by
 *   RUNNING -> PARKING               run_state_co_stop_run()
 *   PARKING -> BACKENDS_STOPPING     "
 *   BACKENDS_STOPPING -> DRAINING    "
 *   DRAINING -> STOPPED              "
 *   STOPPED -> RUNNING               co_vm_start()
 */
#ifndef SKIFF_VMM_RUN_STATE_H
#define SKIFF_VMM_RUN_STATE_H

#include <glib.h>
#include <stdbool.h>
#include "util/coroutine.h"

typedef enum RunPhase {
    RUN_STOPPED,
    RUN_RUNNING,
    RUN_PARKING,
    RUN_BACKENDS_STOPPING,
    RUN_DRAINING,
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
    void (*co_start_backends)(void *opaque);
    void (*co_drain)(void *opaque);
    /* Devices, RAM image and vCPUs to power-on; called STOPPED. */
    bool (*co_reset)(void *opaque, GError **error);
    /* The state changed: for events and logs. */
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
    bool wants_to_run; /* what the user asked for last: a reset ends in it */
    bool resetting;    /* the stop and start that are under way are a reset's */
    VmStopped stopped;
    AioBh request_bh;
    _Atomic unsigned posted_requests;
    /* what waits for its turn, each kind at most once; one coroutine serves them all */
    RunRequest queue[RUN_REQUEST_COUNT];
    unsigned queued;
    bool serving;
    StopReason stop_reason;  /* of the stop in the queue */
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
/* Under the operation lock, no token out: starts the VM if it is stopped. */
void co_vm_start(RunState *rs) coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: stop, reset, and start again if it ran or is wanted to. */
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

/* Whether a stop is under way, or asked for and waits for its turn. */
bool run_state_stopping(const RunState *rs) RUNS_IN_MAIN;
/* Powered off, or KVM can't go on: only a reset lets it run again. */
bool run_state_has_ended(const RunState *rs) RUNS_IN_MAIN;
/* QEMU's word (RunState): "running", else why it is stopped or stops. */
const char *run_state_qemu_name(const RunState *rs) RUNS_IN_MAIN;
/* "running", "paused", "io-error", ...; "stopping" is not a QEMU word: during a stop it is told as
 * running=false and this phase's name. */
const char *run_state_name(const RunState *rs) RUNS_IN_MAIN;
void assert_run_state(const RunState *rs) ANY_THREAD;

#endif
