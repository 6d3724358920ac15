/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The number of requests that a lane of a device has in flight, and the order in which its queues
 * take them.
 *
 * A request that is a coroutine keeps a stack while it waits. A device takes at most its share of
 * the home loop's requests (co_requests_limit()), and no more than there are stacks; the rest stays
 * in the rings. Queues without a request slot wait and take turns of at most VIRTIO_QUEUE_BUDGET
 * requests each. The completion of a request begins the next turn.
 *
 * A queue of commands that end requests (task management) is not limited: it must be served while
 * requests hang and occupy all slots. What it takes counts, so other queues take less meanwhile.
 */
#include <assert.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio.h"

/* Delay before a retry when no stack was available. A timer is needed since the device may have no
 * request in flight whose end would retry. */
#define ADMISSION_RETRY_NS 10000000

/* The requests of a lane may be executed in the home of the device, so each lane is a source there
 * too. */
static RUNS_IN_LOOP bool admission_room(const VirtioLane *lane)
{
    unsigned limit = co_requests_limit(lane->home);
    if (lane->home != lane->vdev->home) {
        limit = MIN(limit, co_requests_limit(lane->vdev->home));
    }
    return lane->admission.in_flight < limit;
}

static RUNS_IN_LOOP bool admission_stack(VirtioLane *lane)
{
    VirtioAdmission *a = &lane->admission;
    if (co_request_ready(lane->home)) {
        return true;
    }
    if (!a->retry.heap_index) {
        trace_virtio_no_stack(device_label(lane->vdev->dev), a->in_flight);
        aio_timer_arm(&a->retry, aio_now_ns(lane->home) + ADMISSION_RETRY_NS);
    }
    return false;
}

/* The waiting queue after the one that had the last turn. */
static unsigned admission_next(const VirtioAdmission *a)
{
    uint64_t after = a->last + 1 < 64 ? a->waiting & ~0ull << (a->last + 1) : 0;
    return (unsigned)__builtin_ctzll(after ? after : a->waiting);
}

static RUNS_IN_LOOP void admission_grant(VirtioLane *lane)
{
    VirtioAdmission *a = &lane->admission;
    if (!a->waiting || a->turn != VIRTIO_NO_QUEUE || !virtio_lane_taking(lane) ||
        !admission_room(lane)) {
        return;
    }
    a->turn = admission_next(a);
    a->last = a->turn;
    a->waiting &= ~(1ull << a->turn);
    aio_bh_schedule(&lane->vdev->queues[a->turn].again);
}

static void admission_retry(void *opaque)
{
    VirtioLane *lane = opaque;
    enter_loop(lane->home);
    admission_grant(lane);
}

bool virtio_admit(VirtioDevice *vdev, unsigned index)
{
    VirtioLane *lane = vdev->queues[index].lane;
    VirtioAdmission *a = &lane->admission;
    if (!vdev->request_coroutines || (vdev->unlimited_queues >> index & 1)) {
        return true;
    }
    bool turn = a->turn == index || (a->turn == VIRTIO_NO_QUEUE && !a->waiting);
    if (turn && admission_room(lane) && admission_stack(lane)) {
        return true;
    }
    a->waiting |= 1ull << index;
    return false;
}

bool virtio_admission_waits(const VirtioDevice *vdev, unsigned index)
{
    return vdev->queues[index].lane->admission.waiting >> index & 1;
}

void virtio_admission_pass(VirtioDevice *vdev, unsigned index)
{
    VirtioLane *lane = vdev->queues[index].lane;
    VirtioAdmission *a = &lane->admission;
    if (a->turn == index) {
        a->turn = VIRTIO_NO_QUEUE;
    }
    if (!a->retry.heap_index) { /* not armed: the last allocation of a stack did not fail */
        admission_grant(lane);
    }
}

void virtio_admission_gone(VirtioLane *lane)
{
    VirtioAdmission *a = &lane->admission;
    assert(a->in_flight);
    a->in_flight--;
    /* The request's stack is freed when its coroutine ends, before the next turn. */
    aio_timer_disarm(&a->retry);
    admission_grant(lane);
}

/* The requests that the queues of @lane can have in flight. */
static unsigned admission_entries(const VirtioLane *lane)
{
    const VirtioDevice *vdev = lane->vdev;
    unsigned entries = 0;
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        const VirtioQueue *q = &vdev->queues[i];
        entries += q->lane == lane && q->active && q->at_home ? q->setup.size : 0;
    }
    return entries;
}

/* Begins or ends the sources of requests that @lane has in its loop. */
static RUNS_IN_LOOP void admission_reserve(const VirtioLane *lane, bool begin)
{
    const VirtioDevice *vdev = lane->vdev;
    void (*reserve)(AioContext *, unsigned) = begin ? co_requests_begin : co_requests_end;
    if (!vdev->request_coroutines) {
        return;
    }
    reserve(lane->home, admission_entries(lane));
    for (unsigned i = 1; lane == vdev->lanes && i < vdev->num_lanes; i++) {
        reserve(lane->home, admission_entries(&vdev->lanes[i]));
    }
}

void virtio_admission_start(VirtioLane *lane)
{
    VirtioAdmission *a = &lane->admission;
    a->in_flight = 0;
    a->waiting = 0;
    a->turn = VIRTIO_NO_QUEUE;
    a->last = VIRTIO_MAX_QUEUES - 1;
    admission_reserve(lane, true);
}

void virtio_admission_stop(VirtioLane *lane)
{
    aio_timer_disarm(&lane->admission.retry);
    admission_reserve(lane, false);
}

void virtio_admission_init(VirtioLane *lane)
{
    G_STATIC_ASSERT(VIRTIO_MAX_QUEUES <= 64); /* bits of `waiting` */
    aio_timer_init(&lane->admission.retry, lane->home, admission_retry, lane);
}
