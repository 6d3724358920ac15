/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loops' work on the queues they own. Three messages pass between them and main: a command to all
 * lanes (run, or return the queues), the first lane's answer, and "the driver broke a queue".
 * virtio_owner.c has main's side of them.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio.h"
#include "util/loop/sched_point.h"

/* Whether a lane has the queue: not with a back end, nor left unused by the driver. */
static bool queue_served(const VirtioQueue *q)
{
    return q->active && q->at_home;
}

/* Each kind of message has a bottom half of its own, so a lane executes each command once, in the order
 * of the commands. */
void virtio_queues_command(VirtioDevice *vdev, bool run)
{
    for (unsigned i = 0; i < vdev->num_lanes; i++) {
        aio_bh_schedule(run ? &vdev->lanes[i].run_bh : &vdev->lanes[i].stop_bh);
    }
}

bool virtio_lane_taking(const VirtioLane *lane)
{
    const VirtioDevice *vdev = lane->vdev;
    return lane->running && !lane->stopping &&
           !atomic_load_explicit(&vdev->broken, memory_order_relaxed) &&
           !(lane == vdev->lanes && vdev->quiesced);
}

bool virtio_taking(const VirtioDevice *vdev)
{
    return virtio_lane_taking(&vdev->lanes[0]);
}

static RUNS_IN_LOOP void queue_check_broken(VirtioQueue *q)
{
    VirtioDevice *vdev = q->vdev;
    const char *why = virtqueue_broken(q->vq);
    if (!why || atomic_exchange(&vdev->broken, true)) {
        return;
    }
    trace_virtio_broken(device_label(vdev->dev), q->index, why);
    virtio_guest_error(vdev, "queue %u: %s; the device needs a reset", q->index, why);
    atomic_store(&vdev->broken_generation, vdev->running_generation);
    aio_bh_schedule(&vdev->broken_bh);
}

/* Takes available requests, up to the budget. Then enables kicks and checks once more for requests
 * that came before that. */
static RUNS_IN_LOOP void queue_take(VirtioQueue *q)
{
    VirtioDevice *vdev = q->vdev;
    if (!virtio_lane_taking(q->lane) || !queue_served(q)) {
        return; /* served by virtio_resume() or the next start */
    }
    q->budget = VIRTIO_QUEUE_BUDGET;
    do {
        virtqueue_set_notification(q->vq, false);
        virtqueue_look(q->vq);
        queue_check_broken(q);
        q->processing = true;
        vdev->ops->handle_queue(vdev, q->index);
        q->processing = false;
        if (!virtio_lane_taking(q->lane) || virtio_admission_waits(vdev, q->index)) {
            return; /* kicks stay off: the queue is served when there is room */
        }
        if (!q->budget) {
            aio_bh_schedule(&q->again);
            return;
        }
        SP("virtio.processed", vdev);
        if (q->silent) {
            return;
        }
        if (!q->polling) {
            virtqueue_set_notification(q->vq, true);
        }
    } while (virtqueue_has_new(q->vq));
}

static RUNS_IN_LOOP void queue_process(VirtioQueue *q)
{
    queue_take(q);
    virtio_admission_pass(q->vdev, q->index);
}

static void queue_again(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    queue_process(q);
}

static void queue_kicked(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    eventfd_t count;
    if (eventfd_read(q->kick_fd, &count) == 0) {
        queue_process(q);
    }
}

static bool queue_poll(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    return virtio_lane_taking(q->lane) && !q->silent && virtqueue_has_new(q->vq);
}

static void queue_poll_begin(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    q->polling = true;
    virtqueue_set_notification(q->vq, false);
}

static void queue_poll_end(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    q->polling = false;
    if (!q->silent) {
        virtqueue_set_notification(q->vq, true);
    }
}

/* End of a turn: one interrupt for all requests completed in it. */
static void queue_flush(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->lane->home);
    SP("virtio.flush", q);
    if (virtqueue_flush(q->vq)) {
        SP("virtio.interrupt", q);
        q->vdev->transport->notify_queue(q->vdev->transport_opaque, q->index);
    }
}

static const AioHandlerOps queue_handler_ops = {
    .readable = queue_kicked,
    .poll = queue_poll,
    .poll_ready = queue_again,
    .poll_begin = queue_poll_begin,
    .poll_end = queue_poll_end,
    .flush = queue_flush,
};

static bool queue_runs_in(const VirtioQueue *q, const VirtioLane *lane)
{
    return q->lane == lane && queue_served(q);
}

static bool lane_is_first(const VirtioLane *lane)
{
    return lane == lane->vdev->lanes;
}

static RUNS_IN_LOOP void lane_start(VirtioLane *lane)
{
    VirtioDevice *vdev = lane->vdev;
    lane->running = true;
    lane->stopping = false;
    lane->runs++;
    virtio_admission_start(lane);
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        if (!queue_runs_in(q, lane)) {
            continue;
        }
        virtqueue_start(q->vq, vdev->dev->env->ram, &q->setup, &q->position);
        q->polling = q->silent = false;
        q->handler = aio_handler_add(lane->home, q->kick_fd, &queue_handler_ops, q);
        queue_check_broken(q);
    }
    if (lane_is_first(lane) && vdev->ops->started) {
        vdev->ops->started(vdev);
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        if (vdev->queues[i].lane == lane) {
            queue_process(&vdev->queues[i]);
        }
    }
}

static RUNS_IN_LOOP bool lane_idle(const VirtioLane *lane)
{
    const VirtioDevice *vdev = lane->vdev;
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        const VirtioQueue *q = &vdev->queues[i];
        if (queue_runs_in(q, lane) && virtqueue_in_flight(q->vq)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_LOOP void lane_stop(VirtioLane *lane)
{
    VirtioDevice *vdev = lane->vdev;
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        if (q->lane != lane) {
            continue;
        }
        aio_bh_cancel(&q->again);
        if (queue_served(q)) {
            queue_flush(q);
            aio_handler_remove(q->handler);
            q->handler = NULL;
            if (vdev->back_end) { /* which may rely on the driver's kicks without asking for them */
                virtqueue_set_notification(q->vq, true);
            }
            virtqueue_stop(q->vq, &q->position);
        }
    }
    virtio_admission_stop(lane);
    if (lane_is_first(lane) && vdev->ops->stopped) {
        vdev->ops->stopped(vdev);
    }
    lane->running = false;
    lane->stopping = false;
}

static void lane_run(void *opaque)
{
    VirtioLane *lane = opaque;
    enter_loop(lane->home);
    SP("virtio.command", lane->vdev);
    lane_start(lane);
    co_queue_wake_all(&lane->run_begun);
}

void virtio_lane_co_await_run(VirtioLane *lane, uint32_t runs)
{
    assert_home(lane->home);
    while ((int32_t)(lane->runs - runs) < 0) {
        co_queue_wait(&lane->run_begun, "the start of another iothread's queues");
    }
}

/* Returns the queues when nothing is in flight any more, those of the first lane after all others. */
static RUNS_IN_LOOP void lane_try_return(VirtioLane *lane)
{
    VirtioDevice *vdev = lane->vdev;
    if (!lane->stopping || !lane_idle(lane) ||
        (lane_is_first(lane) && vdev->lanes_back < vdev->num_lanes - 1)) {
        return;
    }
    lane_stop(lane);
    /* After the answer main owns the queues and @vdev, so this must not run again. */
    aio_bh_cancel(&lane->idle_bh);
    if (lane_is_first(lane)) {
        vdev->lanes_back = 0;
        aio_bh_schedule(&vdev->returned_bh);
    } else {
        aio_bh_schedule(&lane->returned_bh);
    }
}

/* The last completion calls lane_try_return() again, and so does the answer of each other lane for the
 * first one. */
static void lane_stop_requested(void *opaque)
{
    VirtioLane *lane = opaque;
    VirtioDevice *vdev = lane->vdev;
    enter_loop(lane->home);
    SP("virtio.command", vdev);
    if (lane_is_first(lane) && vdev->ops->stopping) {
        vdev->ops->stopping(vdev);
    }
    lane->stopping = true;
    lane_try_return(lane);
}

static void lane_is_idle(void *opaque)
{
    VirtioLane *lane = opaque;
    enter_loop(lane->home);
    lane_try_return(lane);
}

/* In the home of the first lane. */
static void lane_returned(void *opaque)
{
    const VirtioLane *lane = opaque;
    VirtioDevice *vdev = lane->vdev;
    enter_loop(vdev->home);
    vdev->lanes_back++;
    lane_try_return(&vdev->lanes[0]);
}

static RUNS_IN_LOOP void request_gone(VirtioLane *lane)
{
    assert_home(lane->home);
    virtio_admission_gone(lane);
    if (lane->stopping && lane_idle(lane)) {
        aio_bh_schedule(&lane->idle_bh);
    }
}

void *virtio_pop(VirtioDevice *vdev, unsigned index)
{
    VirtioQueue *q = &vdev->queues[index];
    assert_home(q->lane->home); /* R7: a queue has one owner */
    if (!virtio_lane_taking(q->lane) || !queue_served(q) || (q->processing && !q->budget) ||
        !virtio_admit(vdev, index)) {
        return NULL;
    }
    void *e = virtqueue_pop(q->vq);
    if (!e) {
        queue_check_broken(q);
        return NULL;
    }
    if (q->processing) {
        q->budget--;
    }
    q->lane->admission.in_flight++;
    return e;
}

void virtio_unpop(VirtioDevice *vdev, unsigned index, VirtQueueElement *e)
{
    virtqueue_unpop(vdev->queues[index].vq, e);
    request_gone(vdev->queues[index].lane);
}

void virtio_complete(VirtioDevice *vdev, unsigned index, VirtQueueElement *e, uint32_t len)
{
    virtqueue_push(vdev->queues[index].vq, e, len);
    request_gone(vdev->queues[index].lane);
}

void virtio_fill(VirtioDevice *vdev, unsigned index, VirtQueueElement *e, uint32_t len)
{
    virtqueue_fill(vdev->queues[index].vq, e, len);
    request_gone(vdev->queues[index].lane);
}

void virtio_set_silent(VirtioDevice *vdev, unsigned index, bool silent)
{
    VirtioQueue *q = &vdev->queues[index];
    assert_home(q->lane->home);
    if (q->silent == silent) {
        return;
    }
    q->silent = silent;
    if (!silent) { /* its processing enables kicks, and finds what came before that */
        virtio_look(vdev, index);
    } else if (queue_served(q) && !q->polling) {
        virtqueue_set_notification(q->vq, false);
    }
}

void virtio_flush(VirtioDevice *vdev, unsigned index)
{
    assert_home(vdev->queues[index].lane->home);
    if (queue_served(&vdev->queues[index])) {
        queue_flush(&vdev->queues[index]);
    }
}

void virtio_yield(VirtioDevice *vdev, unsigned index)
{
    VirtioQueue *q = &vdev->queues[index];
    assert_home(q->lane->home);
    assert(q->processing);
    q->budget = 0;
}

void virtio_park(VirtioDevice *vdev, unsigned index, VirtQueueElement *e)
{
    virtqueue_park(vdev->queues[index].vq, e);
    request_gone(vdev->queues[index].lane);
}

void virtio_fail_request(VirtioDevice *vdev, unsigned index, VirtQueueElement *e,
                         const char *reason)
{
    VirtioQueue *q = &vdev->queues[index];
    virtqueue_break(q->vq, "head %u: %s", e->head, reason);
    virtqueue_park(q->vq, e);
    queue_check_broken(q);
    request_gone(q->lane);
}

void virtio_look(VirtioDevice *vdev, unsigned index)
{
    VirtioQueue *q = &vdev->queues[index];
    if (virtio_lane_taking(q->lane) && queue_served(q)) {
        aio_bh_schedule(&q->again);
    }
}

void virtio_quiesce(VirtioDevice *vdev)
{
    vdev->quiesced++;
}

void virtio_resume(VirtioDevice *vdev)
{
    assert(vdev->quiesced);
    if (--vdev->quiesced) {
        return;
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        if (vdev->queues[i].lane != vdev->lanes) {
            continue;
        }
        virtio_look(vdev, i); /* kicks were ignored since virtio_quiesce() */
    }
}

/* ==== set-up and cleanup ==== */

static RUNS_IN_MAIN void lanes_init(VirtioDevice *vdev)
{
    vdev->num_lanes = MAX(vdev->num_lanes, 1);
    vdev->lanes = g_new0(VirtioLane, vdev->num_lanes);
    for (unsigned i = 0; i < vdev->num_lanes; i++) {
        VirtioLane *lane = &vdev->lanes[i];
        lane->vdev = vdev;
        lane->home = vdev->lane_homes ? vdev->lane_homes[i] : vdev->home;
        virtio_admission_init(lane);
        co_queue_init(&lane->run_begun);
        aio_bh_init(&lane->run_bh, lane->home, lane_run, lane);
        aio_bh_init(&lane->stop_bh, lane->home, lane_stop_requested, lane);
        aio_bh_init(&lane->idle_bh, lane->home, lane_is_idle, lane);
        aio_bh_init(&lane->returned_bh, vdev->home, lane_returned, lane);
    }
}

bool virtio_queues_init(VirtioDevice *vdev, GError **error)
{
    size_t request_size = vdev->request_size ? vdev->request_size : sizeof(VirtQueueElement);
    lanes_init(vdev);
    aio_bh_init(&vdev->returned_bh, vdev->dev->env->main_ctx, virtio_queues_returned, vdev);
    aio_bh_init(&vdev->broken_bh, vdev->dev->env->main_ctx, virtio_broken_reported, vdev);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        vdev->queues[i].kick_fd = vdev->queues[i].relay_fd = -1;
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        q->vdev = vdev;
        q->index = i;
        q->lane = &vdev->lanes[vdev->queue_lanes ? vdev->queue_lanes[i] : 0];
        aio_bh_init(&q->again, q->lane->home, queue_again, q);
        q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (q->kick_fd < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "%s: no eventfd for queue %u: %s", device_label(vdev->dev), i,
                        g_strerror(errno));
            virtio_queues_cleanup(vdev);
            return false;
        }
        if (!virtio_relay_init(q, error)) {
            virtio_queues_cleanup(vdev);
            return false;
        }
        q->vq = virtqueue_new(vdev->queue_size, request_size);
    }
    return true;
}

void virtio_queues_cleanup(VirtioDevice *vdev)
{
    assert(vdev->owner == VIRTIO_OWNER_MAIN && !vdev->pended.waiters);
    aio_bh_cancel(&vdev->broken_bh);
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        virtqueue_free(q->vq);
        q->vq = NULL;
        virtio_relay_cleanup(q);
        if (q->kick_fd >= 0) {
            close(q->kick_fd);
            q->kick_fd = -1;
        }
    }
    g_clear_pointer(&vdev->lanes, g_free);
}
