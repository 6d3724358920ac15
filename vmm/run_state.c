/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/run_state.h"

#include <stdatomic.h>
#include "util/log.h"
#include "util/sched_point.h"

enum { REQUEST_STOP = 1, REQUEST_START = 2, REQUEST_RESET = 4, REQUEST_REASON = 8 };
/* Why a stop is wanted travels with it: REQUEST_REASON << StopReason. */

void assert_run_state(const RunState *rs)
{
    if (rs->stopped.count != 0 && rs->phase != RUN_STOPPED) {
        bug_abort("invariant 3: a VmStopped token is out while the VM is not stopped");
    }
    if (rs->reason >= STOP_REASON_COUNT) {
        bug_abort("the run state has no reason");
    }
}

static void run_state_move(RunState *rs, RunPhase from, RunPhase to)
{
    if (!held_has(&rs->operation)) {
        bug_abort("invariant 1: the run state is moved without the VM operation lock");
    }
    if (rs->phase != from) {
        bug_abort("the run state moves to %d from %d, expected %d", to, rs->phase, from);
    }
    rs->phase = to;
    assert_run_state(rs);
    SP("run_state.moved", rs);
    if (rs->ops->changed != NULL) {
        rs->ops->changed(rs->opaque, to, rs->reason);
    }
}

NO_THREAD_SAFETY_ANALYSIS void vm_operation_begin(RunState *rs)
{
    co_mutex_lock(&rs->operation);
}

NO_THREAD_SAFETY_ANALYSIS void vm_operation_end(RunState *rs)
{
    co_mutex_unlock(&rs->operation);
}

/* Of two reasons to be stopped, the one to tell: the first, unless that is only that somebody asked
 * for it. */
static StopReason run_state_weightier(StopReason first, StopReason second)
{
    return first == STOP_PAUSED || first == STOP_PRELAUNCH ? second : first;
}

static coroutine_fn RUNS_IN_MAIN void run_state_co_stop_run(RunState *rs, StopReason reason)
{
    rs->reason = reason;
    held_push(RANK_RUN_STATE, rs, "run-state transition", false);
    run_state_move(rs, RUN_RUNNING, RUN_PARKING);
    rs->ops->co_park(rs->opaque);
    run_state_move(rs, RUN_PARKING, RUN_BACKENDS_STOPPING);
    rs->ops->co_stop_backends(rs->opaque);
    run_state_move(rs, RUN_BACKENDS_STOPPING, RUN_DRAINING);
    rs->ops->co_drain(rs->opaque);
    run_state_move(rs, RUN_DRAINING, RUN_STOPPED);
    held_pop(RANK_RUN_STATE, rs);
}

VmStopped *co_vm_stop(RunState *rs, StopReason reason)
{
    if (rs->phase == RUN_RUNNING) {
        run_state_co_stop_run(rs, reason);
    } else if (rs->phase != RUN_STOPPED) {
        bug_abort("a stop finds another under way that the operation lock should have kept out");
    } else {
        rs->reason = run_state_weightier(rs->reason, reason);
    }
    rs->stopped.count++;
    assert_run_state(rs);
    return &rs->stopped;
}

void vm_stopped_put(RunState *rs, VmStopped *token)
{
    if (token != &rs->stopped || token->count == 0) {
        bug_abort("a VmStopped token is returned that was not handed out");
    }
    token->count--;
}

void co_vm_start(RunState *rs)
{
    if (rs->phase == RUN_RUNNING) {
        return;
    }
    if (rs->stopped.count != 0) {
        bug_abort("invariant 3: the VM is started while %u VmStopped tokens are out",
                  rs->stopped.count);
    }
    held_push(RANK_RUN_STATE, rs, "run-state transition", false);
    rs->ops->co_start_backends(rs->opaque);
    run_state_move(rs, RUN_STOPPED, RUN_RUNNING);
    rs->ops->unpark(rs->opaque);
    held_pop(RANK_RUN_STATE, rs);
}

bool co_vm_reset(RunState *rs, GError **error)
{
    StopReason before = rs->reason;
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    bool ok = rs->ops->co_reset(rs->opaque, error);
    vm_stopped_put(rs, token);
    if (!ok) {
        rs->reason = STOP_INTERNAL_ERROR;
        return false;
    }
    if (rs->wants_to_run) {
        co_vm_start(rs);
    } else {
        rs->reason = before == STOP_PRELAUNCH ? STOP_PRELAUNCH : STOP_PAUSED;
    }
    return true;
}

/* ---- messages ---- */

static void run_state_serve_stop(void *opaque)
{
    enter_main();
    enter_coroutine();
    RunState *rs = opaque;
    vm_operation_begin(rs);
    rs->pending_requests &= ~REQUEST_STOP;
    rs->wants_to_run = false;
    vm_stopped_put(rs, co_vm_stop(rs, rs->stop_reason));
    vm_operation_end(rs);
}

/* Powered off, or KVM can't go on: as in QEMU there is nothing to continue. */
static bool run_state_has_ended(const RunState *rs)
{
    return rs->phase == RUN_STOPPED &&
           (rs->reason == STOP_SHUTDOWN || rs->reason == STOP_INTERNAL_ERROR);
}

static void run_state_serve_start(void *opaque)
{
    enter_main();
    enter_coroutine();
    RunState *rs = opaque;
    vm_operation_begin(rs);
    rs->pending_requests &= ~REQUEST_START;
    if (run_state_has_ended(rs)) {
        log_warn("the guest has ended (%s): it goes on only after a reset", run_state_name(rs));
    } else {
        rs->wants_to_run = true;
        co_vm_start(rs);
    }
    vm_operation_end(rs);
}

static void run_state_serve_reset(void *opaque)
{
    enter_main();
    enter_coroutine();
    RunState *rs = opaque;
    g_autoptr(GError) error = NULL;
    vm_operation_begin(rs);
    rs->pending_requests &= ~REQUEST_RESET;
    if (!co_vm_reset(rs, &error)) {
        log_error("reset: %s; the VM stays stopped", error->message);
    }
    vm_operation_end(rs);
}

static RUNS_IN_MAIN void run_state_take_reasons(RunState *rs, unsigned posted)
{
    bool shared = (rs->pending_requests & REQUEST_STOP) != 0; /* with a stop that has not begun */
    for (unsigned i = 0; i < STOP_REASON_COUNT; i++) {
        if ((posted & (REQUEST_REASON << i)) != 0) {
            rs->stop_reason =
                shared ? run_state_weightier(rs->stop_reason, (StopReason)i) : (StopReason)i;
            shared = true;
        }
    }
}

static void run_state_take_requests(void *opaque)
{
    enter_main();
    RunState *rs = opaque;
    unsigned posted = atomic_exchange(&rs->posted_requests, 0);
    run_state_take_reasons(rs, posted);
    static const struct {
        unsigned bit, contrary;
        CoroutineEntry *serve;
    } kinds[] = {
        {REQUEST_STOP, REQUEST_START, run_state_serve_stop},
        {REQUEST_RESET, 0, run_state_serve_reset},
        {REQUEST_START, REQUEST_STOP, run_state_serve_start},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        /* One that waits for the lock serves all who ask, until somebody asks for the contrary:
         * what is asked for after that is to happen after that. */
        if ((posted & kinds[i].bit & ~rs->pending_requests) != 0) {
            rs->pending_requests = (rs->pending_requests | kinds[i].bit) & ~kinds[i].contrary;
            co_start(rs->ctx, kinds[i].serve, rs);
        }
    }
}

/* @instead_of: what the request takes back if it has not been looked at yet. */
static void run_state_post(RunState *rs, unsigned request, unsigned instead_of)
{
    unsigned posted = atomic_load(&rs->posted_requests);
    while (!atomic_compare_exchange_weak(&rs->posted_requests, &posted,
                                         (posted & ~instead_of) | request)) {
    }
    aio_bh_schedule(&rs->request_bh);
}

void run_state_request_stop(RunState *rs, StopReason reason)
{
    run_state_post(rs, REQUEST_STOP | (REQUEST_REASON << reason), REQUEST_START);
}

void run_state_request_start(RunState *rs)
{
    /* Takes no stop back: the start that follows a stop is what makes a device try again. */
    run_state_post(rs, REQUEST_START, 0);
}

void run_state_request_reset(RunState *rs)
{
    run_state_post(rs, REQUEST_RESET, 0);
}

void run_state_init(RunState *rs, AioContext *ctx, const RunStateOps *ops, void *opaque)
{
    *rs = (RunState){.ctx = ctx, .ops = ops, .opaque = opaque, .reason = STOP_PRELAUNCH};
    co_mutex_init(&rs->operation, RANK_OPERATION, "VM operation lock");
    aio_bh_init(&rs->request_bh, ctx, run_state_take_requests, rs);
}

const char *run_state_name(const RunState *rs)
{
    static const char *const reasons[] = {"prelaunch",      "paused",         "io-error",
                                          "internal-error", "guest-panicked", "shutdown",
                                          "watchdog"};
    switch (rs->phase) {
    case RUN_RUNNING:
        return "running";
    case RUN_STOPPED:
        return reasons[rs->reason];
    default:
        return "stopping";
    }
}
