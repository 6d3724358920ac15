/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a VirtioVhost: from the device's queues to vrings and back, starts and stops, losses. */
#include <stdatomic.h>
#include <string.h>
#include "hw/virtio/virtio_vhost_int.h"
#include "hw/virtio/vring.h"
#include "util/loop/sched_point.h"

/* ---- vrings ---- */

/* The vrings of the queues that the driver uses, from their present positions. */
static RUNS_IN_MAIN BQL_HELD void virtio_vhost_part_fill_in(VirtioVhost *v, VirtioVhostPart *part)
{
    VirtioDevice *vdev = v->vdev;
    part->start = (VhostStart){.features = vdev->state->driver_features, .vrings = part->vrings};
    for (unsigned i = 0; i < part->count; i++) {
        const VirtioQueue *q = &vdev->queues[part->first_queue + i];
        if (!q->active || q->at_home) {
            continue;
        }
        part->vrings[part->start.count++] =
            (VhostVring){.index = i,
                         .size = q->setup.size,
                         .base = q->position.last_avail,
                         .desc_gpa = q->setup.desc_gpa,
                         .avail_gpa = q->setup.avail_gpa,
                         .used_gpa = q->setup.used_gpa,
                         .kick_fd = q->kick_fd,
                         .call_fd = virtio_queue_interrupt(vdev, q->index).event_fd,
                         .err_fd = v->err_fd};
    }
}

VirtioQueue *virtio_vhost_vring_queue(const VirtioVhost *v, const VirtioVhostPart *part,
                                      const VhostVring *vring)
{
    return &v->vdev->queues[part->first_queue + vring->index];
}

/* Stores where the back end has stopped. A back end completes what it takes, so the used ring's index is
 * the position of the used ring. */
static RUNS_IN_MAIN void virtio_vhost_part_keep_positions(VirtioVhost *v,
                                                          const VirtioVhostPart *part)
{
    for (unsigned i = 0; i < part->start.count; i++) {
        const VhostVring *vring = &part->vrings[i];
        const VringUsed *used = vring->used;
        VirtQueuePosition *position = &virtio_vhost_vring_queue(v, part, vring)->position;
        position->last_avail = vring->base;
        position->used = atomic_load_explicit(&used->idx, memory_order_acquire);
        memset(position->parked, 0, sizeof(position->parked));
    }
}

/* ---- all parts ---- */

bool virtio_vhost_all_usable(const VirtioVhost *v)
{
    for (unsigned i = 0; i < v->wanted; i++) {
        if (!v->parts[i].dev->usable) {
            return false;
        }
    }
    return true;
}

bool virtio_vhost_all_reconnect(const VirtioVhost *v)
{
    for (unsigned i = 0; i < v->wanted; i++) {
        if (!v->parts[i].dev->usable && !v->parts[i].dev->reconnects) {
            return false;
        }
    }
    return true;
}

const VirtioVhostPart *virtio_vhost_lost_part(const VirtioVhost *v)
{
    for (unsigned i = 0; i < MAX(v->wanted, v->running); i++) {
        const VhostDev *dev = v->parts[i].dev;
        if (!dev->usable || dev->phase == VHOST_LOST) {
            return &v->parts[i];
        }
    }
    return NULL;
}

unsigned virtio_vhost_losses(const VirtioVhost *v)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < v->num_parts; i++) {
        sum += v->parts[i].dev->losses;
    }
    return sum;
}

static void virtio_vhost_part_stop_run(void *opaque)
{
    VirtioVhostPart *part = opaque;
    VirtioVhost *v = part->of;
    enter_main();
    enter_coroutine();
    vhost_co_stop(part->dev, &part->start);
    virtio_vhost_part_keep_positions(v, part);
    if (--v->stopping == 0) {
        co_queue_wake_all(&v->stopped);
    }
}

/* All at the same time: however many of them hang, it takes one time limit. */
void virtio_vhost_co_stop_from(VirtioVhost *v, unsigned first)
{
    for (unsigned i = first; i < v->running; i++) {
        v->stopping++;
        co_start(v->vdev->dev->env->main_ctx, virtio_vhost_part_stop_run, &v->parts[i]);
    }
    while (v->stopping) {
        co_queue_wait(&v->stopped, "a stop of vhost");
    }
    v->running = MIN(v->running, first);
}

void virtio_vhost_co_stop_parts(VirtioVhost *v)
{
    virtio_vhost_co_stop_from(v, 0);
    if (v->hooks && v->hooks->co_stopped) {
        v->hooks->co_stopped(v);
    }
}

bool virtio_vhost_co_start_wanted(VirtioVhost *v, GError **error)
{
    while (v->running < v->wanted) {
        VirtioVhostPart *part = &v->parts[v->running];
        SP("virtio_vhost.starting", v);
        bql_lock();
        virtio_vhost_part_fill_in(v, part);
        bql_unlock();
        if (!vhost_co_start(part->dev, &part->start, error)) {
            if (part->dev->vrings_set != 0) {
                virtio_vhost_part_keep_positions(v, part);
            }
            return false;
        }
        v->running++;
    }
    return true;
}

bool virtio_vhost_co_start_parts(VirtioVhost *v, GError **error)
{
    if (v->hooks && v->hooks->co_starting && !v->hooks->co_starting(v, error)) {
        return false;
    }
    if (!virtio_vhost_co_start_wanted(v, error)) {
        virtio_vhost_co_stop_parts(v);
        return false;
    }
    return true;
}
