/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The home loop's work on the queues it owns. Three messages pass between it and main: a command
 * (run, or return the queues), its answer, and "the driver broke a queue". virtio_owner.c has
 * main's side of them.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio.h"
#include "util/loop/sched_point.h"

#define COMMAND_RUN 1u

void virtio_queues_command(VirtioDevice *vdev, bool run)
{
    uint32_t number = (atomic_load(&vdev->command) >> 1) + 1;
    atomic_store(&vdev->command, number << 1 | (run ? COMMAND_RUN : 0));
    aio_bh_schedule(&vdev->home_bh);
}

bool virtio_taking(const VirtioDevice *vdev)
{
    return vdev->running && !vdev->stopping && !vdev->broken && !vdev->quiesced;
}

static RUNS_IN_LOOP void queue_check_broken(VirtioQueue *q)
{
    VirtioDevice *vdev = q->vdev;
    const char *why = virtqueue_broken(q->vq);
    if (!why || vdev->broken) {
        return;
    }
    vdev->broken = true;
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
    if (!virtio_taking(vdev) || !q->active) {
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
        if (!virtio_taking(vdev) || virtio_admission_waits(vdev, q->index)) {
            return; /* kicks stay off: the queue is served when there is room */
        }
        if (!q->budget) {
            aio_bh_schedule(&q->again);
            return;
        }
        SP("virtio.processed", vdev);
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
    enter_loop(q->vdev->home);
    queue_process(q);
}

static void queue_kicked(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->vdev->home);
    eventfd_t count;
    if (eventfd_read(q->kick_fd, &count) == 0) {
        queue_process(q);
    }
}

static bool queue_poll(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->vdev->home);
    return virtio_taking(q->vdev) && virtqueue_has_new(q->vq);
}

static void queue_poll_begin(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->vdev->home);
    q->polling = true;
    virtqueue_set_notification(q->vq, false);
}

static void queue_poll_end(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->vdev->home);
    q->polling = false;
    virtqueue_set_notification(q->vq, true);
}

/* End of a turn: one interrupt for all requests completed in it. */
static void queue_flush(void *opaque)
{
    VirtioQueue *q = opaque;
    enter_loop(q->vdev->home);
    SP("virtio.flush", q);
    if (virtqueue_flush(q->vq)) {
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

static RUNS_IN_LOOP void queues_start(VirtioDevice *vdev)
{
    vdev->running = true;
    vdev->stopping = false;
    vdev->broken = false;
    virtio_admission_start(vdev);
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        if (!q->active) {
            continue;
        }
        virtqueue_start(q->vq, vdev->dev->env->ram, &q->setup, &q->position);
        q->polling = false;
        q->handler = aio_handler_add(vdev->home, q->kick_fd, &queue_handler_ops, q);
        queue_check_broken(q);
    }
    if (vdev->ops->started) {
        vdev->ops->started(vdev);
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        queue_process(&vdev->queues[i]);
    }
}

static RUNS_IN_LOOP bool queues_idle(const VirtioDevice *vdev)
{
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        if (vdev->queues[i].active && virtqueue_in_flight(vdev->queues[i].vq)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_LOOP void queues_stop(VirtioDevice *vdev)
{
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        aio_bh_cancel(&q->again);
        if (q->active) {
            queue_flush(q);
            aio_handler_remove(q->handler);
            q->handler = NULL;
            virtqueue_stop(q->vq, &q->position);
        }
    }
    virtio_admission_stop(vdev);
    if (vdev->ops->stopped) {
        vdev->ops->stopped(vdev);
    }
    vdev->running = false;
    vdev->stopping = false;
}

/* Executes the last command. The queues are returned when nothing is in flight any more; the last
 * completion then calls this again. */
static void queues_command_execute(void *opaque)
{
    VirtioDevice *vdev = opaque;
    enter_loop(vdev->home);
    SP("virtio.command", vdev);
    if (atomic_load(&vdev->command) & COMMAND_RUN) {
        if (!vdev->running) {
            queues_start(vdev);
        }
        return;
    }
    if (vdev->running) {
        if (!vdev->stopping) {
            if (vdev->ops->stopping) {
                vdev->ops->stopping(vdev);
            }
            vdev->stopping = true;
        }
        if (!queues_idle(vdev)) {
            return;
        }
        queues_stop(vdev);
    }
    /* After the answer main owns the queues and @vdev, so this must not run again. */
    aio_bh_cancel(&vdev->home_bh);
    aio_bh_schedule(&vdev->returned_bh);
}

static RUNS_IN_LOOP void request_gone(VirtioDevice *vdev)
{
    assert_home(vdev->home);
    virtio_admission_gone(vdev);
    if (vdev->stopping && queues_idle(vdev)) {
        aio_bh_schedule(&vdev->home_bh);
    }
}

void *virtio_pop(VirtioDevice *vdev, unsigned index)
{
    VirtioQueue *q = &vdev->queues[index];
    assert_home(vdev->home); /* R7: a queue has one owner */
    if (!virtio_taking(vdev) || !q->active || (q->processing && !q->budget) ||
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
    vdev->admission.in_flight++;
    return e;
}

void virtio_unpop(VirtioDevice *vdev, unsigned index, VirtQueueElement *e)
{
    virtqueue_unpop(vdev->queues[index].vq, e);
    request_gone(vdev);
}

void virtio_complete(VirtioDevice *vdev, unsigned index, VirtQueueElement *e, uint32_t len)
{
    virtqueue_push(vdev->queues[index].vq, e, len);
    request_gone(vdev);
}

void virtio_flush(VirtioDevice *vdev, unsigned index)
{
    assert_home(vdev->home);
    if (vdev->queues[index].active) {
        queue_flush(&vdev->queues[index]);
    }
}

void virtio_park(VirtioDevice *vdev, unsigned index, VirtQueueElement *e)
{
    virtqueue_park(vdev->queues[index].vq, e);
    request_gone(vdev);
}

void virtio_fail_request(VirtioDevice *vdev, unsigned index, VirtQueueElement *e,
                         const char *reason)
{
    VirtioQueue *q = &vdev->queues[index];
    virtqueue_break(q->vq, "head %u: %s", e->head, reason);
    virtqueue_park(q->vq, e);
    queue_check_broken(q);
    request_gone(vdev);
}

void virtio_look(VirtioDevice *vdev, unsigned index)
{
    if (virtio_taking(vdev) && vdev->queues[index].active) {
        aio_bh_schedule(&vdev->queues[index].again);
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
        virtio_look(vdev, i); /* kicks were ignored since virtio_quiesce() */
    }
}

/* ==== set-up and cleanup ==== */

bool virtio_queues_init(VirtioDevice *vdev, GError **error)
{
    size_t request_size = vdev->request_size ? vdev->request_size : sizeof(VirtQueueElement);
    virtio_admission_init(vdev);
    aio_bh_init(&vdev->home_bh, vdev->home, queues_command_execute, vdev);
    aio_bh_init(&vdev->returned_bh, vdev->dev->env->main_ctx, virtio_queues_returned, vdev);
    aio_bh_init(&vdev->broken_bh, vdev->dev->env->main_ctx, virtio_broken_reported, vdev);
    for (unsigned i = 0; i < VIRTIO_MAX_QUEUES; i++) {
        vdev->queues[i].kick_fd = vdev->queues[i].relay_fd = -1;
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        q->vdev = vdev;
        q->index = i;
        aio_bh_init(&q->again, vdev->home, queue_again, q);
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
}
