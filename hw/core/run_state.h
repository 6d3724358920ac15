/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The run state: the state machine that starts and stops the VM.
 *
 *               co_vm_start                                     co_vm_stop
 *   STOPPED ------------------> RUNNING ----------------------------+
 *      ^                                                            v
 *      |  drained, flushed            virtqueues stopped         PARKING   (vCPUs parked)
 *      +----------------- DRAINING <----------------- BACKENDS_STOPPING
 *
 * The VM is in STOPPED for one of two reasons. Either a stop was requested (!run_requested); the VM
 * then stays stopped until a start is requested. Or an operation (a reset, a dump) stopped it
 * briefly; run_requested then says whether it runs afterwards, and stop and start requests change
 * that:
 *
 *                  stop: at once (run_state_join_stop)
 *   run_requested ------------------------------------> !run_requested
 *        ^                                                    |
 *        +----------------------------------------------------+
 *                  start: in its turn (co_vm_start)
 *
 * Invariants
 *   1. Only the holder of the VM operation lock moves the state.
 *   2. The order of a stop is fixed: park vCPUs, stop kicks and virtqueues, drain, STOPPED. A start
 *      is the reverse.
 *   3. A VmStopped token is issued in STOPPED only; while one is out the VM does not start. Nobody
 *      outside the process (vhost) accesses guest memory while one is out: issuing it needs the proof
 *      (memory_users.h), and clang refuses code that starts the VM or a back end while it holds one.
 *   4. No stop is requested inside a drained section (checked by rank).
 *   5. Code that is not a control operation sends a message (run_state_request_*) to stop, start or
 *      reset the VM.
 *   6. An operation that stopped the VM briefly does not start it after a stop request that came
 *      before its end: it ends in co_vm_resume(), which first takes the posted requests.
 *   7. A stop request for a stopped VM makes no move and takes effect whoever holds the lock. It is
 *      reported (RunStateOps.changed) in STOPPED, with the reason.
 *   8. No start is queued before a stop.
 *   9. After run_state_leave() nothing starts the VM. A start under way stops its backends again.
 *  10. A start that fails (RunStateOps.co_start_backends) stops its backends again. The VM stays in
 *      STOPPED, !run_requested, for the reason "io-error". The next start tries again.
 *
 * run_moves[] (run_state.c) names the function that makes each move; a move by any other aborts.
 */
#ifndef SKIFF_HW_CORE_RUN_STATE_H
#define SKIFF_HW_CORE_RUN_STATE_H

#include <glib.h>
#include <stdbool.h>
#include "hw/core/memory_users.h"
#include "util/loop/coroutine.h"

typedef enum RunPhase {
    RUN_STOPPED,
    RUN_RUNNING,
    RUN_PARKING,
    RUN_BACKENDS_STOPPING,
    RUN_DRAINING,
    RUN_PHASE_COUNT,
} RunPhase;

/* Why the VM is stopped: QEMU's RunState names. Saved states have the numbers: new ones go to the end. */
typedef enum StopReason {
    STOP_PRELAUNCH,
    STOP_PAUSED,
    STOP_IO_ERROR,
    STOP_INTERNAL_ERROR,
    STOP_GUEST_PANICKED,
    STOP_SHUTDOWN,
    STOP_WATCHDOG,
    STOP_DEBUG,      /* stopped by gdb */
    STOP_SAVE_VM,    /* for a saved state */
    STOP_RESTORE_VM, /* for the load of one */
    STOP_REASON_COUNT,
} StopReason;

/* The machine's operations. All in main; co_* may yield. Tests implement them with counters. */
typedef struct RunStateOps {
    void (*co_park)(void *opaque);
    void (*unpark)(void *opaque);
    void (*co_stop_backends)(void *opaque);
    /* False + error: a device cannot start. Others may have; co_stop_backends stops those again. */
    bool (*co_start_backends)(void *opaque, GError **error);
    void (*co_drain)(void *opaque);
    /* Sets devices, RAM image and vCPUs to power-on; called in STOPPED. */
    bool (*co_reset)(void *opaque, GError **error);
    /* The state changed, or the reason reported in STOPPED. For events and logs. A stop may be
     * reported more than once. */
    void (*changed)(void *opaque, RunPhase phase, StopReason reason);
} RunStateOps;

/* A queued request (run_state_request_*). */
typedef enum RunRequest {
    RUN_REQUEST_STOP,
    RUN_REQUEST_RESET,
    RUN_REQUEST_START,
    RUN_REQUEST_COUNT,
} RunRequest;

typedef struct RunStateWaiter RunStateWaiter;

typedef struct VmStopped {
    unsigned count;           /* tokens out */
    const MemoryQuiet *quiet; /* of the last one */
} VmStopped;

/* Held, for clang, between co_vm_stop() and vm_stopped_put(). What starts the VM or a back end of a
 * device is NOT_WHILE_VM_STOPPED. */
typedef struct SKIFF_TSA(capability("stopped VM")) VmStoppedCapability {
    char unused;
} VmStoppedCapability;
extern VmStoppedCapability vm_is_stopped;
#define NOT_WHILE_VM_STOPPED SKIFF_TSA(locks_excluded(vm_is_stopped))

typedef struct RunState {
    AioContext *ctx;
    const RunStateOps *ops;
    void *opaque;
    CoMutex operation; /* the VM operation lock */
    RunPhase phase;
    StopReason reason;  /* in STOPPED its reason; during a stop that stop's reason */
    bool run_requested; /* the last request: an operation that stopped the VM ends in it */
    bool starting;      /* a start is under way, from STOPPED */
    bool brief;         /* the stop under way belongs to a reset or the like and is not reported */
    bool debugged;      /* run_state_set_debugged() */
    bool leaving;       /* run_state_leave() */
    char start_error[256]; /* reason of the last start's failure; empty: it did not fail */
    VmStopped stopped;
    AioBh request_bh;
    _Atomic unsigned posted_requests;
    /* queued requests, each kind at most once; one coroutine serves them */
    RunRequest queue[RUN_REQUEST_COUNT];
    unsigned queued;
    unsigned stop_reasons;   /* of the queued stop: 1 << StopReason */
    bool serving;            /* the coroutine exists */
    bool busy;               /* it executes a request taken from the queue */
    RunStateWaiter *waiters; /* run_state_co_settle() */
} RunState;

void run_state_init(RunState *rs, AioContext *ctx, const RunStateOps *ops, void *opaque)
    RUNS_IN_MAIN;

/* ---- a control operation holds the lock from its begin to its end ---- */
void vm_operation_begin(RunState *rs) coroutine_fn RUNS_IN_MAIN;
void vm_operation_end(RunState *rs) coroutine_fn RUNS_IN_MAIN;

/* Under the operation lock: stops the VM if it runs. Returns a token for vm_stopped_put(). */
VmStopped *co_vm_stop(RunState *rs, StopReason reason)
    coroutine_fn RUNS_IN_MAIN SKIFF_TSA(acquire_capability(vm_is_stopped));
void vm_stopped_put(RunState *rs, VmStopped *token)
    RUNS_IN_MAIN SKIFF_TSA(release_capability(vm_is_stopped));
/* Under the operation lock, no token out: starts the VM if it is stopped. The VM stays stopped
 * after run_state_leave(), also when that is called during the start, and when a device cannot
 * start: that is logged, and start_error has the reason. */
void co_vm_start(RunState *rs) coroutine_fn RUNS_IN_MAIN NOT_WHILE_VM_STOPPED;
/* Ends an operation that stopped the VM briefly (STOP_PAUSED): starts the VM if run_requested,
 * which a stop request may have cleared since. */
void co_vm_resume(RunState *rs) coroutine_fn RUNS_IN_MAIN NOT_WHILE_VM_STOPPED;
/* Under the operation lock: stops, resets, and starts again if run_requested. */
bool co_vm_reset(RunState *rs, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- messages: any thread, return at once. They are served in order; the last of stop and start
 * counts. At most one of each kind is queued, however often it is sent ---- */
void run_state_request_stop(RunState *rs, StopReason reason) ANY_THREAD;
/* A guest that has ended (powered off, internal error) starts only after a reset. */
void run_state_request_start(RunState *rs) ANY_THREAD;
void run_state_request_reset(RunState *rs) ANY_THREAD;

/* Waits until no request is pending, for at most @timeout_ns. False: one still is (storage hangs).
 * A sender waits for the effect of its request here, without the operation lock. */
bool run_state_co_settle(RunState *rs, int64_t timeout_ns) coroutine_fn RUNS_IN_MAIN;

/* Whether a stop is under way, or requested while the VM runs. */
bool run_state_stopping(const RunState *rs) RUNS_IN_MAIN;
/* Whether the VM is stopped, or being stopped, until a start is requested: not only for an
 * operation. */
bool run_state_stays_stopped(const RunState *rs) RUNS_IN_MAIN;
/* Whether a debugger is connected, for which STOP_DEBUG stops the VM. Without one, a breakpoint
 * that was hit before it disconnected does not keep the VM stopped and is not reported. */
void run_state_set_debugged(RunState *rs, bool debugged) RUNS_IN_MAIN;
/* Whether the VM will be reset: a reset was requested and waits for its turn. */
bool run_state_will_reset(RunState *rs) RUNS_IN_MAIN;
/* After a load: why the VM that was saved did not run; STOP_PAUSED if it ran. A guest that had ended has ended. */
void run_state_set_loaded(RunState *rs, const VmStopped *token, StopReason reason) RUNS_IN_MAIN;
/* The same for a machine that had run: drops a reset that is queued, which the guest that was there has asked for. */
void run_state_drop_reset(RunState *rs, const VmStopped *token) RUNS_IN_MAIN;
/* skiff ends: a stopped VM stays stopped, and pending and later starts have no effect. */
void run_state_leave(RunState *rs) RUNS_IN_MAIN;
/* Powered off, or KVM failed: only a reset lets the VM run again. */
bool run_state_has_ended(const RunState *rs) RUNS_IN_MAIN;
/* QEMU's name (RunState): "running", else the reason why the VM is stopped or stopping. */
const char *run_state_qemu_name(const RunState *rs) RUNS_IN_MAIN;
/* As run_state_qemu_name(), but "stopping" during a stop, which QEMU does not have. */
const char *run_state_name(const RunState *rs) RUNS_IN_MAIN;
/* Aborts when an invariant is broken. Called after each move and each change of the queue, and
 * after each request. */
void assert_run_state(const RunState *rs) ANY_THREAD;

#endif
