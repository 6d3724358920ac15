/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of virtio-scsi in queues of other iothreads than the home (iothread-vq-mapping).
 *
 *   queue's iothread: popped --visits--> home: parsed, executed, ended --results--> used ring, or parked
 *
 * Control queue, event queue and task sets are the home's. A task management function first brings the
 * requests to the home that the driver made available before it, and answers after the used entries of
 * the requests that it cancelled are published.
 */
#include <assert.h>
#include "hw/virtio/virtio_scsi.h"

/* NULL: the home serves the queue. */
static VirtioScsiLane *lane_of(VirtioScsi *s, unsigned queue)
{
    unsigned lane = s->mapping.homes ? s->mapping.queue_lanes[queue] : 0;
    return lane > 0 ? &s->lanes[lane] : NULL;
}

static VirtioScsiRequest *request_of(LoopBatchItem *item)
{
    return (VirtioScsiRequest *)(void *)((uint8_t *)item - offsetof(VirtioScsiRequest, item));
}

/* ---- the end of a request ---- */

/* In the loop of the queue. */
static RUNS_IN_LOOP void request_return(VirtioScsiRequest *r)
{
    VirtioDevice *vdev = &r->dev->base.vdev;
    switch (r->end) {
    case VIRTIO_SCSI_COMPLETE:
        virtio_complete(vdev, r->queue, &r->elem, r->written);
        return;
    case VIRTIO_SCSI_PARK:
        virtio_park(vdev, r->queue, &r->elem);
        return;
    case VIRTIO_SCSI_FAIL:
        virtio_fail_request(vdev, r->queue, &r->elem, r->reason);
        return;
    }
}

void virtio_scsi_request_end(VirtioScsiRequest *r, VirtioScsiEnd end, const char *reason)
{
    VirtioScsiLane *lane = lane_of(r->dev, r->queue);
    r->end = end;
    r->reason = reason;
    if (!lane) {
        request_return(r);
        return;
    }
    lane->ended++;
    loop_batch_add(&lane->results, &r->item);
    loop_batch_send_later(&lane->results);
}

static void lane_result(void *opaque, LoopBatchItem *item)
{
    VirtioScsiLane *lane = opaque;
    enter_loop(lane->home);
    lane->returned++;
    co_queue_wake_all(&lane->returns);
    request_return(request_of(item));
}

/* ---- the way to the home ---- */

bool virtio_scsi_send_home(VirtioScsi *s, unsigned index, unsigned max)
{
    VirtioScsiLane *lane = lane_of(s, index);
    VirtioScsiRequest *r;
    if (!lane) {
        return false;
    }
    while (max-- && (r = virtio_pop(&s->base.vdev, index))) {
        r->dev = s;
        r->queue = index;
        lane->sent++;
        loop_batch_add(&lane->visits, &r->item);
    }
    loop_batch_send(&lane->visits);
    return true;
}

static RUNS_IN_LOOP void visit_begin(VirtioScsiRequest *r)
{
    virtio_scsi_begin(r, &lane_of(r->dev, r->queue)->arrived);
}

/* Other iothreads may see the start before the home. */
static void lane_visit(void *opaque, LoopBatchItem *item)
{
    VirtioScsi *s = ((VirtioScsiLane *)opaque)->dev;
    enter_loop(s->base.vdev.home);
    if (virtio_running(&s->base.vdev)) {
        visit_begin(request_of(item));
        return;
    }
    item->next = NULL;
    *s->early_tail = item;
    s->early_tail = &item->next;
}

void virtio_scsi_begin_early(VirtioScsi *s)
{
    LoopBatchItem *item = s->early;
    s->early = NULL;
    s->early_tail = &s->early;
    while (item) {
        LoopBatchItem *next = item->next;
        visit_begin(request_of(item));
        item = next;
    }
}

/* ---- task management ---- */

typedef struct LaneCall {
    VirtioScsiLane *lane;
    uint64_t count; /* requests sent so far; requests that have ended */
    unsigned index;
    uint32_t runs; /* of the first lane */
} LaneCall;

static void collect_at_lane(void *opaque)
{
    LaneCall *call = opaque;
    VirtioScsiLane *lane = call->lane;
    VirtioDevice *vdev = &lane->dev->base.vdev;
    enter_coroutine();
    enter_loop(lane->home);
    virtio_lane_co_await_run(&vdev->lanes[call->index], call->runs);
    for (unsigned i = VIRTIO_SCSI_FIRST_REQUEST_QUEUE; i < vdev->num_queues; i++) {
        if (virtio_queue_home(vdev, i) == lane->home) {
            virtio_scsi_send_home(lane->dev, i, vdev->queue_size);
        }
    }
    call->count = lane->sent;
}

/* One after the other, so that functions take effect in the order of the control queue. */
void virtio_scsi_co_collect(VirtioScsi *s)
{
    uint64_t ticket = s->collects_begun++;
    while (s->collects_ended != ticket) {
        co_queue_wait(&s->arrivals, "an earlier task management function");
    }
    for (unsigned i = 1; i < s->mapping.count; i++) {
        LaneCall call = {.lane = &s->lanes[i], .index = i, .runs = s->base.vdev.lanes[0].runs};
        co_call_in(call.lane->home, collect_at_lane, &call);
        while (call.lane->arrived < call.count) {
            co_queue_wait(&s->arrivals, "requests of another iothread");
        }
    }
    s->collects_ended++;
    co_queue_wake_all(&s->arrivals);
}

static void flush_at_lane(void *opaque)
{
    LaneCall *call = opaque;
    VirtioScsiLane *lane = call->lane;
    VirtioDevice *vdev = &lane->dev->base.vdev;
    enter_coroutine();
    enter_loop(lane->home);
    while (lane->returned < call->count) {
        co_queue_wait(&lane->returns, "results of the home");
    }
    for (unsigned i = VIRTIO_SCSI_FIRST_REQUEST_QUEUE; i < vdev->num_queues; i++) {
        if (virtio_queue_home(vdev, i) == lane->home) {
            virtio_flush(vdev, i);
        }
    }
}

void virtio_scsi_co_flush(VirtioScsi *s)
{
    VirtioDevice *vdev = &s->base.vdev;
    for (unsigned i = VIRTIO_SCSI_FIRST_REQUEST_QUEUE; i < vdev->num_queues; i++) {
        if (!lane_of(s, i)) {
            virtio_flush(vdev, i);
        }
    }
    for (unsigned i = 1; i < s->mapping.count; i++) {
        LaneCall call = {.lane = &s->lanes[i], .count = s->lanes[i].ended};
        co_call_in(call.lane->home, flush_at_lane, &call);
    }
}

/* ---- life cycle ---- */

void virtio_scsi_init_lanes(VirtioScsi *s)
{
    AioContext *home = s->base.vdev.home;
    s->early_tail = &s->early;
    co_queue_init(&s->arrivals);
    if (!s->mapping.homes) {
        return;
    }
    s->lanes = g_new0(VirtioScsiLane, s->mapping.count);
    for (unsigned i = 0; i < s->mapping.count; i++) {
        VirtioScsiLane *lane = &s->lanes[i];
        lane->dev = s;
        lane->home = s->mapping.homes[i];
        co_queue_init(&lane->returns);
        loop_batch_init(&lane->visits, lane->home, home, lane_visit, lane);
        loop_batch_init(&lane->results, home, lane->home, lane_result, lane);
    }
}

void virtio_scsi_free_lanes(VirtioScsi *s)
{
    g_clear_pointer(&s->lanes, g_free);
    virtio_mapping_clear(&s->mapping);
}
