/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/run_state.h"

#include <stdatomic.h>
#include <string.h>
#include "util/log.h"
#include "util/loop/sched_point.h"

/* Bits of posted_requests: one per RunRequest, and POSTED_REASON << StopReason for stops. */
#define POSTED(request) (1u << (request))
#define POSTED_REASON POSTED(RUN_REQUEST_COUNT)

/* The function that makes each move. NULL: no such move. */
static const char *const run_moves[RUN_PHASE_COUNT][RUN_PHASE_COUNT] = {
    [RUN_STOPPED] = {[RUN_RUNNING] = "co_vm_start"},
    [RUN_RUNNING] = {[RUN_PARKING] = "run_state_co_stop_run"},
    [RUN_PARKING] = {[RUN_BACKENDS_STOPPING] = "run_state_co_stop_run"},
    [RUN_BACKENDS_STOPPING] = {[RUN_DRAINING] = "run_state_co_stop_run"},
    [RUN_DRAINING] = {[RUN_STOPPED] = "run_state_co_stop_run"},
};

static void run_state_notify(RunState *rs)
{
    if (rs->ops->changed != NULL) {
        rs->ops->changed(rs->opaque, rs->phase, rs->reason);
    }
}

static void run_state_move_by(RunState *rs, RunPhase from, RunPhase to, const char *by)
{
    if (!held_has(&rs->operation)) {
        bug_abort("invariant 1: the run state moves without the VM operation lock");
    }
    if (rs->phase != from) {
        bug_abort("the run state moves to %d from %d, expected %d", to, rs->phase, from);
    }
    const char *maker = run_moves[from][to];
    if (maker == NULL || strcmp(maker, by) != 0) {
        bug_abort("invariant 2: %s() moves the run state from %d to %d", by, from, to);
    }
    if (to == RUN_RUNNING && rs->leaving) {
        bug_abort("invariant 9: the VM is started while skiff ends");
    }
    rs->phase = to;
    if (to != RUN_STOPPED) { /* in STOPPED co_vm_stop() checks, after run_state_join_stop() */
        assert_run_state(rs);
    }
    SP("run_state.moved", rs);
    run_state_notify(rs);
}
#define run_state_move(rs, from, to) run_state_move_by(rs, from, to, __func__)

NO_THREAD_SAFETY_ANALYSIS void vm_operation_begin(RunState *rs)
{
    co_mutex_lock(&rs->operation);
}

NO_THREAD_SAFETY_ANALYSIS void vm_operation_end(RunState *rs)
{
    co_mutex_unlock(&rs->operation);
}

/* Picks the stop reason to report: the first, unless the second is more severe. A guest that has
 * ended is the most severe; a stop by request is the least. */
static StopReason run_state_more_severe(StopReason first, StopReason second)
{
    static const uint8_t severity[STOP_REASON_COUNT] = {
        [STOP_PRELAUNCH] = 0,      [STOP_PAUSED] = 0,         [STOP_SAVE_VM] = 0,
        [STOP_RESTORE_VM] = 0,     [STOP_DEBUG] = 1,          [STOP_IO_ERROR] = 2,
        [STOP_WATCHDOG] = 2,       [STOP_GUEST_PANICKED] = 2, [STOP_SHUTDOWN] = 3,
        [STOP_INTERNAL_ERROR] = 3,
    };
    return severity[second] > severity[first] ? second : first;
}

/* ---- the queue of requests ---- */

static bool run_state_queue_has(const RunState *rs, RunRequest request)
{
    bool found = false;
    for (unsigned i = 0; i < rs->queued; i++) {
        found |= rs->queue[i] == request;
    }
    return found;
}

/* Removes @request. False if it is not queued. */
static bool run_state_queue_remove(RunState *rs, RunRequest request)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < rs->queued; i++) {
        if (rs->queue[i] != request) {
            rs->queue[kept++] = rs->queue[i];
        }
    }
    bool removed = kept < rs->queued;
    rs->queued = kept;
    return removed;
}

struct RunStateWaiter {
    RunState *rs;
    CoToken token;
    AioTimer timer;
    bool settled;
    RunStateWaiter *next;
};

/* Whether every request has taken effect. */
static bool run_state_is_settled(const RunState *rs)
{
    return atomic_load(&rs->posted_requests) == 0 && rs->queued == 0 && !rs->busy;
}

static void run_state_wake_waiters(RunState *rs)
{
    if (!run_state_is_settled(rs)) {
        return;
    }
    RunStateWaiter *next;
    for (RunStateWaiter *w = g_steal_pointer(&rs->waiters); w != NULL; w = next) {
        next = w->next;
        w->settled = true;
        co_wake(w->token); /* @w is invalid once its coroutine runs */
    }
}

/* Takes the reason of the queued stop. False if the only one is the breakpoint of a debugger that
 * has disconnected. */
static RUNS_IN_MAIN bool run_state_take_reason(RunState *rs, StopReason *reason)
{
    unsigned reasons = rs->stop_reasons & ~(rs->debugged ? 0 : 1u << STOP_DEBUG);
    bool any = false;
    rs->stop_reasons = 0;
    for (unsigned i = 0; i < STOP_REASON_COUNT; i++) {
        if ((reasons & (1u << i)) != 0) {
            *reason = any ? run_state_more_severe(*reason, (StopReason)i) : (StopReason)i;
            any = true;
        }
    }
    return any;
}

/* In STOPPED a queued stop takes effect at once, whoever holds the operation lock: it changes only
 * run_requested and the reported reason. During a start or a brief operation it stays queued until
 * that ends. */
static RUNS_IN_MAIN void run_state_join_stop(RunState *rs)
{
    StopReason reason;
    if (rs->phase != RUN_STOPPED || rs->starting || rs->brief ||
        !run_state_queue_remove(rs, RUN_REQUEST_STOP)) {
        return;
    }
    if (run_state_take_reason(rs, &reason)) {
        rs->run_requested = false;
        rs->reason = run_state_more_severe(rs->reason, reason);
        SP("run_state.joined", rs);
        run_state_notify(rs);
    }
    run_state_wake_waiters(rs);
}

/* ---- stop, start, reset ---- */

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

VmStoppedCapability vm_is_stopped;

/* The only place that issues a token. */
static NO_THREAD_SAFETY_ANALYSIS VmStopped *run_state_issue(RunState *rs, const MemoryQuiet *quiet)
{
    rs->stopped.quiet = quiet;
    rs->stopped.count++;
    assert_run_state(rs);
    return &rs->stopped;
}

NO_THREAD_SAFETY_ANALYSIS VmStopped *co_vm_stop(RunState *rs, StopReason reason)
{
    if (rs->phase == RUN_RUNNING) {
        run_state_co_stop_run(rs, reason);
        run_state_join_stop(rs);
    } else if (rs->phase != RUN_STOPPED) {
        bug_abort("invariant 1: a stop begins while another one is under way");
    } else {
        rs->reason = run_state_more_severe(rs->reason, reason);
    }
    return run_state_issue(rs, memory_quiet());
}

NO_THREAD_SAFETY_ANALYSIS void vm_stopped_put(RunState *rs, VmStopped *token)
{
    if (token != &rs->stopped || token->count == 0) {
        bug_abort("a VmStopped token is returned that is not out");
    }
    token->count--;
}

/* A device cannot start. The VM stays stopped, as after an I/O error, and can be started again. */
static RUNS_IN_MAIN void run_state_start_failed(RunState *rs, const GError *error)
{
    g_strlcpy(rs->start_error, error->message, sizeof(rs->start_error));
    log_error("the VM stays stopped: %s", error->message);
    rs->run_requested = false;
    rs->reason = run_state_more_severe(rs->reason, STOP_IO_ERROR);
    run_state_notify(rs);
}

void co_vm_start(RunState *rs)
{
    if (rs->phase == RUN_RUNNING || rs->leaving) {
        return;
    }
    if (rs->stopped.count != 0) {
        bug_abort("invariant 3: the VM is started while %u VmStopped tokens are out",
                  rs->stopped.count);
    }
    g_autoptr(GError) error = NULL;
    rs->starting = true;
    rs->start_error[0] = '\0';
    held_push(RANK_RUN_STATE, rs, "run-state transition", false);
    assert_run_state(rs);
    bool ok = rs->ops->co_start_backends(rs->opaque, &error);
    if (!ok || rs->leaving) { /* stop the started backends again */
        rs->ops->co_stop_backends(rs->opaque);
        rs->ops->co_drain(rs->opaque);
        rs->starting = false;
    } else {
        rs->starting = false;
        run_state_move(rs, RUN_STOPPED, RUN_RUNNING);
        rs->ops->unpark(rs->opaque);
    }
    held_pop(RANK_RUN_STATE, rs);
    if (!ok) {
        run_state_start_failed(rs, error);
    }
    run_state_join_stop(rs);
    assert_run_state(rs);
}

void run_state_set_loaded(RunState *rs, const VmStopped *token, StopReason reason)
{
    if (token != &rs->stopped || token->count == 0) {
        bug_abort("invariant 3: a load without a VmStopped token");
    }
    rs->reason = reason;
    assert_run_state(rs);
}

bool run_state_has_ended(const RunState *rs)
{
    return rs->phase == RUN_STOPPED &&
           (rs->reason == STOP_SHUTDOWN || rs->reason == STOP_INTERNAL_ERROR);
}

static RUNS_IN_MAIN void run_state_take_posted(void *opaque);

void co_vm_resume(RunState *rs)
{
    run_state_take_posted(rs);
    if (rs->run_requested && !run_state_has_ended(rs)) {
        co_vm_start(rs);
    }
}

bool co_vm_reset(RunState *rs, GError **error)
{
    bool ran = rs->phase == RUN_RUNNING;
    bool prelaunch = !ran && rs->reason == STOP_PRELAUNCH;
    rs->brief = true;
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    bool ok = rs->ops->co_reset(rs->opaque, error);
    vm_stopped_put(rs, token);
    rs->brief = false;
    rs->reason = !ok ? STOP_INTERNAL_ERROR : prelaunch ? STOP_PRELAUNCH : STOP_PAUSED;
    if (ran && !ok) {
        run_state_notify(rs); /* the VM stays stopped after the reset */
    }
    co_vm_resume(rs);
    return ok;
}

/* ---- messages ---- */

/* Executes the first request of the queue, under the operation lock. */
static coroutine_fn RUNS_IN_MAIN void run_state_co_serve_first(RunState *rs)
{
    g_autoptr(GError) error = NULL;
    StopReason reason;
    RunRequest request = rs->queue[0];
    run_state_queue_remove(rs, request);
    rs->busy = true;
    switch (request) {
    case RUN_REQUEST_STOP:
        if (run_state_take_reason(rs, &reason)) {
            rs->run_requested = false;
            vm_stopped_put(rs, co_vm_stop(rs, reason));
        } else { /* the stop parks the vCPU that hit the breakpoint */
            rs->brief = true;
            vm_stopped_put(rs, co_vm_stop(rs, STOP_PAUSED));
            rs->brief = false;
            co_vm_resume(rs);
        }
        break;
    case RUN_REQUEST_RESET:
        if (!co_vm_reset(rs, &error)) {
            log_error("reset: %s; the VM stays stopped", error->message);
        }
        break;
    case RUN_REQUEST_START:
        if (run_state_has_ended(rs) && !rs->leaving) {
            log_warn("the guest has ended (%s): only a reset lets it run again",
                     run_state_name(rs));
        } else if (!rs->leaving) {
            rs->run_requested = true;
            co_vm_start(rs);
        }
        break;
    case RUN_REQUEST_COUNT:
        break;
    }
    rs->busy = false;
    assert_run_state(rs);
}

/* The coroutine that serves the queue. A request stays in the queue until the operation lock is
 * taken; until then another of its kind joins it. */
static void run_state_serve(void *opaque)
{
    enter_main();
    enter_coroutine();
    RunState *rs = opaque;
    while (rs->queued != 0) {
        vm_operation_begin(rs);
        if (rs->queued != 0) { /* a stop may have been joined since */
            run_state_co_serve_first(rs);
        }
        vm_operation_end(rs);
    }
    rs->serving = false;
    run_state_wake_waiters(rs);
}

/* Moves the posted requests into the queue, and starts the coroutine that serves it. A request
 * joins one of its kind that is queued, else it goes to the end. A stop cancels a queued start and
 * goes to the end, so no start is before a stop. A start cancels no stop: a device that requested
 * the stop retries its I/O at the start after it. */
static void run_state_take_posted(void *opaque)
{
    enter_main();
    RunState *rs = opaque;
    unsigned posted = atomic_exchange(&rs->posted_requests, 0);
    rs->stop_reasons |= posted / POSTED_REASON;
    for (RunRequest request = 0; request < RUN_REQUEST_COUNT; request++) {
        if ((posted & POSTED(request)) == 0) {
            continue;
        }
        if (request == RUN_REQUEST_STOP && run_state_queue_remove(rs, RUN_REQUEST_START)) {
            run_state_queue_remove(rs, RUN_REQUEST_STOP);
        }
        if (!run_state_queue_has(rs, request)) {
            rs->queue[rs->queued++] = request;
        }
    }
    run_state_join_stop(rs);
    if (rs->queued != 0 && !rs->serving) {
        rs->serving = true;
        co_start(rs->ctx, run_state_serve, rs);
    }
    assert_run_state(rs);
}

bool run_state_will_reset(RunState *rs)
{
    run_state_take_posted(rs);
    return run_state_queue_has(rs, RUN_REQUEST_RESET);
}

void run_state_drop_reset(RunState *rs, const VmStopped *token)
{
    if (token != &rs->stopped || token->count == 0) {
        bug_abort("invariant 3: a load without a VmStopped token");
    }
    run_state_take_posted(rs);
    if (run_state_queue_remove(rs, RUN_REQUEST_RESET)) {
        run_state_wake_waiters(rs);
    }
}

/* Posts the bits @request and cancels the bits @instead_of that are still posted. */
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
    run_state_post(rs, POSTED(RUN_REQUEST_STOP) | (POSTED_REASON << reason),
                   POSTED(RUN_REQUEST_START));
}

void run_state_request_start(RunState *rs)
{
    /* cancels no stop: a device retries its I/O at the start after a stop */
    run_state_post(rs, POSTED(RUN_REQUEST_START), 0);
}

void run_state_request_reset(RunState *rs)
{
    run_state_post(rs, POSTED(RUN_REQUEST_RESET), 0);
}

/* ---- run_state_co_settle() ---- */

static void run_state_waiter_expired(void *opaque)
{
    enter_main();
    RunStateWaiter *w = opaque;
    for (RunStateWaiter **at = &w->rs->waiters; *at != NULL; at = &(*at)->next) {
        if (*at == w) {
            *at = w->next;
            co_wake(w->token);
            return;
        }
    }
}

bool run_state_co_settle(RunState *rs, int64_t timeout_ns)
{
    if (run_state_is_settled(rs)) {
        return true;
    }
    RunStateWaiter w = {.rs = rs, .token = co_arm(), .next = rs->waiters};
    rs->waiters = &w;
    aio_timer_init(&w.timer, rs->ctx, run_state_waiter_expired, &w);
    aio_timer_arm(&w.timer, aio_now_ns(rs->ctx) + timeout_ns);
    co_wait(w.token);
    aio_timer_disarm(&w.timer);
    return w.settled;
}

void run_state_init(RunState *rs, AioContext *ctx, const RunStateOps *ops, void *opaque)
{
    *rs = (RunState){.ctx = ctx, .ops = ops, .opaque = opaque, .reason = STOP_PRELAUNCH};
    co_mutex_init(&rs->operation, RANK_OPERATION, "VM operation lock");
    aio_bh_init(&rs->request_bh, ctx, run_state_take_posted, rs);
}

bool run_state_stopping(const RunState *rs)
{
    bool asked_for = (atomic_load(&rs->posted_requests) & POSTED(RUN_REQUEST_STOP)) != 0 ||
                     run_state_queue_has(rs, RUN_REQUEST_STOP);
    switch (rs->phase) {
    case RUN_STOPPED: /* in STOPPED a stop takes effect at once, except during a start */
        return rs->starting && asked_for;
    case RUN_RUNNING:
        return asked_for;
    default:
        return true;
    }
}

bool run_state_stays_stopped(const RunState *rs)
{
    return rs->phase != RUN_RUNNING && !rs->brief &&
           (!rs->run_requested || run_state_has_ended(rs));
}

void run_state_set_debugged(RunState *rs, bool debugged)
{
    rs->debugged = debugged;
}

void run_state_leave(RunState *rs)
{
    rs->leaving = true;
    rs->run_requested = false;
}
