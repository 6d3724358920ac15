/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupts of a back end that writes to an eventfd (virtio_back_end.h). With MSI-X it is the
 * vector's eventfd, whose counter is the pending bit (hw/pci/pci.h), so a mask loses nothing. With
 * INTx it is the queue's relay: main reads it and interrupts through the transport.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_back_end.h"

static bool by_event_fd(const VirtioDevice *vdev)
{
    return vdev->back_end && vdev->back_end->interrupt_changed;
}

/* ---- the relay ---- */

static ANY_THREAD void relay_pass_on(VirtioQueue *q)
{
    VirtioDevice *vdev = q->vdev;
    eventfd_t count;
    if (eventfd_read(q->relay_fd, &count) == 0) {
        vdev->transport->notify_queue(vdev->transport_opaque, q->index);
    }
}

static void relay_readable(void *opaque)
{
    enter_main();
    relay_pass_on(opaque);
}

static const AioHandlerOps relay_ops = {.readable = relay_readable};

bool virtio_relay_init(VirtioQueue *q, GError **error)
{
    VirtioDevice *vdev = q->vdev;
    if (!by_event_fd(vdev)) {
        return true;
    }
    q->relay_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->relay_fd < 0) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "%s: no eventfd for interrupts of queue %u: %s", device_label(vdev->dev),
                    q->index, g_strerror(errno));
        return false;
    }
    q->relay = aio_handler_add(vdev->dev->env->main_ctx, q->relay_fd, &relay_ops, q);
    return true;
}

void virtio_relay_cleanup(VirtioQueue *q)
{
    if (q->relay_fd >= 0) {
        aio_handler_remove(q->relay);
        close(q->relay_fd);
    }
    q->relay = NULL;
    q->relay_fd = -1;
}

/* ---- changes ---- */

static BQL_HELD VirtioInterrupt interrupt_now(const VirtioQueue *q)
{
    const VirtioDevice *vdev = q->vdev;
    VirtioInterrupt now = vdev->transport->queue_interrupt(vdev->transport_opaque, q->index);
    if (now.mode == VIRTIO_INTERRUPT_RELAY) {
        now.event_fd = q->relay_fd;
    }
    return now;
}

void virtio_interrupts_hand_over(VirtioDevice *vdev)
{
    for (unsigned i = 0; by_event_fd(vdev) && i < vdev->num_queues; i++) {
        vdev->queues[i].interrupt = interrupt_now(&vdev->queues[i]);
    }
}

void virtio_interrupts_take_back(VirtioDevice *vdev)
{
    for (unsigned i = 0; by_event_fd(vdev) && i < vdev->num_queues; i++) {
        relay_pass_on(&vdev->queues[i]);
    }
}

/* Whether the back end has the queues, or start() is unanswered. */
static BQL_HELD bool back_end_has_queues(const VirtioDevice *vdev)
{
    switch (vdev->owner) {
    case VIRTIO_OWNER_STARTING:
    case VIRTIO_OWNER_CANCELLING:
    case VIRTIO_OWNER_BACK_END:
    case VIRTIO_OWNER_STOPPING:
        return true;
    default:
        return false;
    }
}

void virtio_interrupts_changed(VirtioDevice *vdev)
{
    if (!by_event_fd(vdev) || !back_end_has_queues(vdev)) {
        return;
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        VirtioInterrupt now = interrupt_now(q);
        if (!q->active || q->at_home ||
            (now.mode == q->interrupt.mode && now.masked == q->interrupt.masked &&
             now.event_fd == q->interrupt.event_fd)) {
            continue;
        }
        trace_virtio_interrupt(device_label(vdev->dev), i, now.mode, now.event_fd, now.masked);
        q->interrupt = now;
        vdev->back_end->interrupt_changed(vdev, i, now);
    }
}

VirtioInterrupt virtio_queue_interrupt(const VirtioDevice *vdev, unsigned index)
{
    return vdev->queues[index].interrupt;
}

void virtio_interrupt_switched(VirtioDevice *vdev, unsigned index)
{
    vdev->transport->notify_queue(vdev->transport_opaque, index);
}
