/* SPDX-License-Identifier: Apache-2.0 */
/* The owner of the queues: hand-over and recall, in main and vCPUs under the BQL. virtio.h has the
 * states, moves and invariants; virtio_back_end.h has the duties of a back end. */
#include <assert.h>
#include <string.h>
#include <sys/eventfd.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_back_end.h"
#include "util/loop/sched_point.h"

/* The function that makes each move. */
static const char *const owner_moves[VIRTIO_OWNERS][VIRTIO_OWNERS] = {
    [VIRTIO_OWNER_MAIN] =
        {[VIRTIO_OWNER_HOME] = "virtio_hand_over", [VIRTIO_OWNER_STARTING] = "virtio_hand_over"},
    [VIRTIO_OWNER_HOME] = {[VIRTIO_OWNER_RECALLING] = "virtio_recall"},
    [VIRTIO_OWNER_RECALLING] = {[VIRTIO_OWNER_MAIN] = "virtio_queues_returned"},
    [VIRTIO_OWNER_STARTING] = {[VIRTIO_OWNER_BACK_END] = "virtio_back_end_started",
                               [VIRTIO_OWNER_HOME] = "back_end_refused",
                               [VIRTIO_OWNER_MAIN] = "back_end_refused",
                               [VIRTIO_OWNER_CANCELLING] = "virtio_recall"},
    [VIRTIO_OWNER_CANCELLING] = {[VIRTIO_OWNER_STOPPING] = "virtio_back_end_started",
                                 [VIRTIO_OWNER_MAIN] = "back_end_refused"},
    [VIRTIO_OWNER_BACK_END] = {[VIRTIO_OWNER_STOPPING] = "virtio_recall"},
    [VIRTIO_OWNER_STOPPING] = {[VIRTIO_OWNER_MAIN] = "stop_answered"},
};

static BQL_HELD void owner_move_by(VirtioDevice *vdev, VirtioOwner to, const char *by)
{
    const char *maker = owner_moves[vdev->owner][to];
    trace_virtio_owner(device_label(vdev->dev), vdev->owner, to, vdev->resetting);
    if (!maker || strcmp(maker, by) != 0) {
        bug_abort("%s() moves the queues' owner from %d to %d", by, vdev->owner, to);
    }
    vdev->owner = to;
}
#define owner_move(vdev, to) owner_move_by(vdev, to, __func__)

/* ---- hand-over ---- */

static BQL_HELD void queues_fill_in(VirtioDevice *vdev)
{
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        const VirtioQueueState *from = &vdev->state->queues[i];
        q->active = from->enabled;
        q->at_home = !vdev->back_end || vdev->back_end_off || (vdev->home_queues >> i & 1);
        q->setup = (VirtQueueSetup){.desc_gpa = from->desc_gpa,
                                    .avail_gpa = from->avail_gpa,
                                    .used_gpa = from->used_gpa,
                                    .size = from->size,
                                    .event_idx = virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX),
                                    .indirect = virtio_has_feature(vdev, VIRTIO_F_INDIRECT_DESC)};
        q->position.last_avail = from->last_avail;
        q->position.used = from->used;
        memcpy(q->position.parked, from->parked, sizeof(from->parked));
    }
    vdev->running_generation = vdev->generation;
    atomic_store(&vdev->broken, false);
}

static BQL_HELD bool back_end_lingers(const VirtioDevice *vdev)
{
    return vdev->back_end && vdev->back_end->lingers && vdev->back_end->lingers(vdev);
}

void virtio_hand_over(VirtioDevice *vdev)
{
    VirtioState *s = vdev->state;
    uint8_t bad = VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED;
    if (!vdev->vm_running || vdev->dma_blocked || vdev->owner != VIRTIO_OWNER_MAIN ||
        !(s->status & VIRTIO_STATUS_DRIVER_OK) || (s->status & bad)) {
        return;
    }
    if (back_end_lingers(vdev)) {
        log_limited(&vdev->dev->log_limit,
                    "%s: a back end that does not answer may still use the queues; the device "
                    "needs a reset",
                    device_label(vdev->dev));
        virtio_set_needs_reset(vdev);
        return;
    }
    queues_fill_in(vdev);
    if (vdev->back_end && !vdev->back_end_off) {
        owner_move(vdev, VIRTIO_OWNER_STARTING);
        virtio_interrupts_hand_over(vdev);
        vdev->back_end->start(vdev);
    } else {
        owner_move(vdev, VIRTIO_OWNER_HOME);
        virtio_queues_command(vdev, true);
    }
    assert_virtio_state(vdev);
}

void virtio_allow_dma(VirtioDevice *vdev)
{
    vdev->dma_blocked = false;
    virtio_hand_over(vdev);
}

/* ---- recall ---- */

void virtio_recall(VirtioDevice *vdev)
{
    switch (vdev->owner) {
    case VIRTIO_OWNER_HOME:
        owner_move(vdev, VIRTIO_OWNER_RECALLING);
        virtio_queues_command(vdev, false);
        return;
    case VIRTIO_OWNER_STARTING: /* recalled after its answer */
        owner_move(vdev, VIRTIO_OWNER_CANCELLING);
        return;
    case VIRTIO_OWNER_BACK_END:
        owner_move(vdev, VIRTIO_OWNER_STOPPING);
        vdev->back_end_done = false;
        if (vdev->home_part) {
            virtio_queues_command(vdev, false);
        }
        vdev->back_end->stop(vdev);
        return;
    default: /* main owns them, or a recall is under way */
        return;
    }
}

bool virtio_block_dma(VirtioDevice *vdev)
{
    vdev->dma_blocked = true;
    virtio_recall(vdev);
    return vdev->owner == VIRTIO_OWNER_MAIN;
}

void virtio_use_back_end(VirtioDevice *vdev, bool use)
{
    if (vdev->back_end_off == !use) {
        return;
    }
    vdev->back_end_off = !use;
    if (vdev->owner != VIRTIO_OWNER_MAIN) {
        vdev->hand_over_again = true;
        virtio_recall(vdev);
    }
}

static BQL_HELD void positions_take(VirtioDevice *vdev)
{
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        VirtioQueueState *to = &vdev->state->queues[i];
        if (q->active) {
            to->last_avail = q->position.last_avail;
            to->used = q->position.used;
            memcpy(to->parked, q->position.parked, sizeof(to->parked));
        }
    }
}

/* Main owns the queues: the reset and the accesses that waited for them continue. */
static BQL_HELD void queues_back(VirtioDevice *vdev)
{
    if (vdev->resetting) {
        virtio_finish_reset(vdev);
    }
    pended_finish(&vdev->pended);
    if (vdev->hand_over_again) {
        vdev->hand_over_again = false;
        virtio_hand_over(vdev);
    }
}

/* An answer to a stop of the back end: its own, or that of the home loop with the rest of the queues.
 * Main owns the queues when all answers are in. */
static BQL_HELD void stop_answered(VirtioDevice *vdev)
{
    if (!vdev->back_end_done || vdev->home_part) {
        return;
    }
    virtio_interrupts_take_back(vdev);
    owner_move(vdev, VIRTIO_OWNER_MAIN);
    positions_take(vdev);
    queues_back(vdev);
}

/* The home loop's answer. */
void virtio_queues_returned(void *opaque)
{
    VirtioDevice *vdev = opaque;
    enter_main();
    SP("virtio.returned", vdev);
    bql_lock();
    if (vdev->home_part) {
        vdev->home_part = false;
        stop_answered(vdev);
    } else {
        owner_move(vdev, VIRTIO_OWNER_MAIN);
        positions_take(vdev);
        queues_back(vdev);
    }
    assert_virtio_state(vdev);
    bql_unlock();
    co_queue_wake_all(&vdev->returned);
}

/* The home loop found a driver error. A reset may have come since. */
void virtio_broken_reported(void *opaque)
{
    VirtioDevice *vdev = opaque;
    enter_main();
    bql_lock();
    if (atomic_load(&vdev->broken_generation) == vdev->generation && !vdev->resetting) {
        virtio_set_needs_reset(vdev);
    }
    bql_unlock();
}

/* ---- the back end's answers ---- */

/* The back end has nothing any more. It may have served some queues for a moment. */
static BQL_HELD void back_end_refused(VirtioDevice *vdev, const GError *error)
{
    const char *label = device_label(vdev->dev);
    bool cancelled = vdev->owner == VIRTIO_OWNER_CANCELLING, lingers = back_end_lingers(vdev);
    trace_virtio_refused(label, error->message);
    positions_take(vdev);
    if (!cancelled && !lingers && vdev->back_end->falls_back) {
        log_limited(&vdev->dev->log_limit, "%s: %s; its iothread serves the queues", label,
                    error->message);
        owner_move(vdev, VIRTIO_OWNER_HOME);
        for (unsigned i = 0; i < vdev->num_queues; i++) {
            vdev->queues[i].at_home = true;
        }
        virtio_queues_command(vdev, true);
        return;
    }
    owner_move(vdev, VIRTIO_OWNER_MAIN);
    if (!cancelled && !lingers && vdev->start_error) {
        *vdev->start_error = g_error_copy(error);
        g_prefix_error(vdev->start_error, "%s: ", label);
        vdev->vm_running = false;
    } else if (!cancelled) {
        log_limited(&vdev->dev->log_limit, "%s: %s; the device needs a reset", label,
                    error->message);
        virtio_set_needs_reset(vdev);
    }
    queues_back(vdev);
}

void virtio_back_end_started(VirtioDevice *vdev, const GError *error)
{
    SP("virtio.back_end_started", vdev);
    bql_lock();
    if (vdev->owner != VIRTIO_OWNER_STARTING && vdev->owner != VIRTIO_OWNER_CANCELLING) {
        bug_abort("a back end answers a start that it was not asked for");
    }
    if (error) {
        back_end_refused(vdev, error);
    } else if (vdev->owner == VIRTIO_OWNER_CANCELLING) {
        owner_move(vdev, VIRTIO_OWNER_STOPPING);
        vdev->back_end_done = false;
        vdev->back_end->stop(vdev);
    } else {
        owner_move(vdev, VIRTIO_OWNER_BACK_END);
        if (vdev->home_queues) {
            vdev->home_part = true;
            virtio_queues_command(vdev, true);
        }
    }
    assert_virtio_state(vdev);
    bql_unlock();
    co_queue_wake_all(&vdev->returned);
}

void virtio_back_end_stopped(VirtioDevice *vdev)
{
    SP("virtio.back_end_stopped", vdev);
    bql_lock();
    if (vdev->owner != VIRTIO_OWNER_STOPPING || vdev->back_end_done) {
        bug_abort("a back end answers a stop that it was not asked for");
    }
    vdev->back_end_done = true;
    stop_answered(vdev);
    assert_virtio_state(vdev);
    bql_unlock();
    co_queue_wake_all(&vdev->returned);
}

void virtio_back_end_broken(VirtioDevice *vdev, const char *why)
{
    bql_lock();
    if (vdev->owner == VIRTIO_OWNER_BACK_END) {
        log_limited(&vdev->dev->log_limit, "%s: %s; the device needs a reset",
                    device_label(vdev->dev), why);
        virtio_set_needs_reset(vdev);
    }
    bql_unlock();
}

/* ---- start and stop ---- */

/* Only main moves the owner on while a coroutine waits for that, so no change is missed. */
static RUNS_IN_MAIN VirtioOwner owner_now(VirtioDevice *vdev)
{
    bql_lock();
    VirtioOwner owner = vdev->owner;
    bql_unlock();
    return owner;
}

bool virtio_co_start(VirtioDevice *vdev, GError **error)
{
    GError *refused = NULL;
    bql_lock();
    vdev->vm_running = true;
    vdev->start_error = &refused;
    virtio_hand_over(vdev);
    bql_unlock();
    while (owner_now(vdev) == VIRTIO_OWNER_STARTING) {
        co_queue_wait(&vdev->returned, "the start of a back end");
    }
    bql_lock();
    vdev->start_error = NULL;
    bql_unlock();
    if (refused) {
        g_propagate_error(error, refused);
    }
    return !refused;
}

void virtio_co_stop(VirtioDevice *vdev)
{
    bql_lock();
    vdev->vm_running = false;
    virtio_recall(vdev);
    bql_unlock();
    while (owner_now(vdev) != VIRTIO_OWNER_MAIN) {
        co_queue_wait(&vdev->returned, "the return of the virtqueues");
    }
}

void virtio_kick(VirtioDevice *vdev, unsigned index)
{
    if (index < vdev->num_queues) {
        eventfd_write(vdev->queues[index].kick_fd, 1);
    }
}
