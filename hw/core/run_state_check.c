/* SPDX-License-Identifier: Apache-2.0 */
/* The invariants of run_state.h. run_state.c checks each move where it is made: its order, the
 * function that makes it, and that skiff does not end. */
#include "hw/core/run_state.h"
#include "util/loop/held.h"

/* Returns the queued requests: bits 1 << RunRequest. */
static unsigned assert_run_state_queue(const RunState *rs)
{
    bool start = false;
    unsigned seen = 0;
    for (unsigned i = 0; i < rs->queued; i++) {
        RunRequest request = rs->queue[i];
        if ((seen & 1u << request) != 0 || request >= RUN_REQUEST_COUNT) {
            bug_abort("invariant 5: a request is queued twice");
        }
        seen |= 1u << request;
        start |= request == RUN_REQUEST_START;
        if (start && request == RUN_REQUEST_STOP) {
            bug_abort("invariant 8: a start is queued before a stop");
        }
    }
    if (rs->queued != 0 && !rs->serving) {
        bug_abort("invariant 5: requests are queued and no coroutine serves them");
    }
    return seen;
}

void assert_run_state(const RunState *rs)
{
    bool moving = rs->starting || (rs->phase != RUN_STOPPED && rs->phase != RUN_RUNNING);
    if ((moving || rs->busy || rs->brief) && rs->operation.owner == NULL) {
        bug_abort("invariant 1: a transition is under way without the VM operation lock");
    }
    if (rs->starting && rs->phase != RUN_STOPPED) {
        bug_abort("invariant 2: a start is under way while the VM is not stopped");
    }
    if (rs->stopped.count != 0 && (rs->phase != RUN_STOPPED || rs->starting)) {
        bug_abort("invariant 3: a VmStopped token is out while the VM is not stopped");
    }
    if (rs->stopped.count != 0 && rs->stopped.quiet == NULL) {
        bug_abort(
            "invariant 3: a VmStopped token was issued without the proof that memory is quiet");
    }
    if (moving && rs->operation.owner == co_self() && !held_has(rs)) {
        bug_abort("invariant 4: the coroutine that moves the run state does not hold its rank");
    }
    bool stop_queued = (assert_run_state_queue(rs) & 1u << RUN_REQUEST_STOP) != 0;
    if (stop_queued && rs->phase == RUN_STOPPED && !rs->starting && !rs->brief) {
        bug_abort("invariants 6, 7: a stop is queued while the VM is stopped");
    }
    if (rs->leaving && rs->run_requested) {
        bug_abort("invariant 9: skiff ends and the VM is to run");
    }
    if (rs->start_error[0] != '\0' &&
        (rs->phase != RUN_STOPPED || rs->starting || rs->run_requested)) {
        bug_abort("invariant 10: a start has failed and the VM does not stay stopped");
    }
    if (rs->reason >= STOP_REASON_COUNT) {
        bug_abort("the stop reason is out of range");
    }
}
