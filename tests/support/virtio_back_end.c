/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/virtio_back_end.h"

#include <string.h>
#include <sys/eventfd.h>

static BackEndDevice *back_end_of(VirtioDevice *vdev)
{
    return (BackEndDevice *)(void *)((uint8_t *)vdev - offsetof(BackEndDevice, base.vdev));
}

/* ---- the back end ---- */

static BQL_HELD void back_end_ask(BackEndDevice *be, BackEndQuestion question)
{
    g_assert(be->open == BACK_END_NONE); /* invariant 1 */
    be->open = question;
    if (!be->manual) {
        be->left = be->turns;
        aio_bh_schedule(&be->answer_bh);
    }
}

static void back_end_start(VirtioDevice *vdev)
{
    BackEndDevice *be = back_end_of(vdev);
    assert_bql();
    be->starts++;
    back_end_ask(be, BACK_END_START);
}

static void back_end_stop(VirtioDevice *vdev)
{
    BackEndDevice *be = back_end_of(vdev);
    assert_bql();
    be->stops++;
    back_end_ask(be, BACK_END_STOP);
}

/* ---- interrupts ---- */

void back_end_signal(BackEndDevice *be, unsigned index)
{
    VirtioDevice *vdev = &be->base.vdev;
    if (!vdev->back_end->interrupt_changed) {
        vdev->transport->notify_queue(vdev->transport_opaque, index);
    } else if (be->lines[index].event_fd >= 0) {
        eventfd_write(be->lines[index].event_fd, 1);
    }
}

void back_end_switch(BackEndDevice *be, unsigned index)
{
    bool other = be->lines[index].event_fd != be->next_lines[index].event_fd;
    be->lines[index] = be->next_lines[index];
    if (other) {
        virtio_interrupt_switched(&be->base.vdev, index);
    }
}

static void back_end_interrupt_changed(VirtioDevice *vdev, unsigned index, VirtioInterrupt to)
{
    BackEndDevice *be = back_end_of(vdev);
    assert_bql();
    be->line_changes++;
    be->next_lines[index] = to;
    if (!be->late_lines) {
        back_end_switch(be, index);
    }
}

/* ---- questions ---- */

/* Serves queue 0 for a moment. */
static RUNS_IN_MAIN void back_end_serve_before_refusal(BackEndDevice *be)
{
    VirtioQueue *q = &be->base.vdev.queues[0];
    g_assert(virtqueue_start(be->vq[0], q->vdev->dev->env->ram, &q->setup, &q->position));
    be->serving = true;
    back_end_serve(be, 0);
    be->serving = false;
    virtqueue_stop(be->vq[0], &q->position);
}

static RUNS_IN_MAIN void back_end_answer_start(BackEndDevice *be)
{
    VirtioDevice *vdev = &be->base.vdev;
    if (be->refusal) {
        if (be->refuses_late) {
            back_end_serve_before_refusal(be);
        }
        g_autoptr(GError) error = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, be->refusal);
        virtio_back_end_started(vdev, error);
        return;
    }
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        bql_lock();
        be->lines[i] = be->next_lines[i] = virtio_queue_interrupt(vdev, i);
        bql_unlock();
        if (q->active && !q->at_home) {
            g_assert(virtqueue_start(be->vq[i], vdev->dev->env->ram, &q->setup, &q->position));
        }
    }
    be->serving = true;
    virtio_back_end_started(vdev, NULL);
}

static RUNS_IN_MAIN void back_end_answer_stop(BackEndDevice *be)
{
    VirtioDevice *vdev = &be->base.vdev;
    g_assert(be->serving);
    be->serving = false;
    for (unsigned i = 0; i < vdev->num_queues; i++) {
        VirtioQueue *q = &vdev->queues[i];
        if (q->active && !q->at_home) {
            virtqueue_stop(be->vq[i], &q->position);
        }
    }
    virtio_back_end_stopped(vdev);
}

void back_end_answer(BackEndDevice *be)
{
    enter_main();
    bql_lock();
    BackEndQuestion question = be->open;
    be->open = BACK_END_NONE;
    bql_unlock();
    g_assert(question != BACK_END_NONE);
    if (question == BACK_END_START) {
        back_end_answer_start(be);
    } else {
        back_end_answer_stop(be);
    }
}

static void back_end_answer_later(void *opaque)
{
    BackEndDevice *be = opaque;
    if (be->left) {
        be->left--;
        aio_bh_schedule(&be->answer_bh);
        return;
    }
    back_end_answer(be);
}

unsigned back_end_serve(BackEndDevice *be, unsigned index)
{
    VirtioDevice *vdev = &be->base.vdev;
    VirtQueueElement *e;
    unsigned served = 0;
    enter_main();
    eventfd_t count;
    (void)eventfd_read(vdev->queues[index].kick_fd, &count);
    while (be->serving && vdev->queues[index].active && !vdev->queues[index].at_home &&
           (e = virtqueue_pop(be->vq[index]))) {
        memset(e->in[0].iov_base, BACK_END_MARK, e->in[0].iov_len);
        virtqueue_push(be->vq[index], e, (uint32_t)e->in[0].iov_len);
        served++;
    }
    if (served && virtqueue_flush(be->vq[index])) {
        back_end_signal(be, index);
    }
    return served;
}

static const VirtioBackEndOps back_end_ops = {.start = back_end_start,
                                              .stop = back_end_stop,
                                              .interrupt_changed = back_end_interrupt_changed};
static const VirtioBackEndOps back_end_fallback_ops = {
    .start = back_end_start, .stop = back_end_stop, .falls_back = true};

/* ---- the device ---- */

static void device_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtQueueElement *e;
    enter_loop(vdev->home);
    while ((e = virtio_pop(vdev, index))) {
        memset(e->in[0].iov_base, HOME_MARK, e->in[0].iov_len);
        virtio_complete(vdev, index, e, (uint32_t)e->in[0].iov_len);
    }
}

static const VirtioOps device_ops = {.device_id = 40, .handle_queue = device_handle_queue};

static bool device_realize_with(Device *dev, const VirtioBackEndOps *ops, uint64_t home_queues,
                                GError **error)
{
    BackEndDevice *be = (BackEndDevice *)(void *)dev;
    VirtioDevice *vdev = &be->base.vdev;
    enter_main();
    vdev->home = dev->env->default_iothread;
    vdev->ops = &device_ops;
    vdev->back_end = ops;
    vdev->home_queues = home_queues;
    vdev->state = &be->state.virtio;
    vdev->num_queues = BACK_END_QUEUES;
    vdev->queue_size = 16;
    be->base.class_code = 0x00ff00;
    aio_bh_init(&be->answer_bh, dev->env->main_ctx, back_end_answer_later, be);
    for (unsigned i = 0; i < BACK_END_QUEUES; i++) {
        be->vq[i] = virtqueue_new(vdev->queue_size, sizeof(VirtQueueElement));
    }
    return virtio_pci_realize(&be->base, error);
}

static bool device_realize_back_end(Device *dev, GError **error)
{
    return device_realize_with(dev, &back_end_ops, 0, error);
}

static bool device_realize_fallback(Device *dev, GError **error)
{
    return device_realize_with(dev, &back_end_fallback_ops, 0, error);
}

static bool device_realize_mixed(Device *dev, GError **error)
{
    return device_realize_with(dev, &back_end_ops, 1u << BACK_END_HOME_QUEUE, error);
}

static void device_unrealize_back_end(Device *dev)
{
    BackEndDevice *be = (BackEndDevice *)(void *)dev;
    enter_main();
    g_assert(be->open == BACK_END_NONE && !be->serving);
    virtio_pci_unrealize(&be->base);
    for (unsigned i = 0; i < BACK_END_QUEUES; i++) {
        virtqueue_free(be->vq[i]);
    }
}

static const StateField device_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(struct BackEndState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    {0},
};

static const StateDesc device_state_desc =
    STATE_DESC("virtio-back-end-test", 1, BackEndDevice, state, struct BackEndState, device_fields);

static const OptSpec device_properties[] = {
    VIRTIO_PCI_PROPERTIES(BackEndDevice, base, "128"),
    {0},
};

#define BACK_END_TYPE(realize_fn)                                                                  \
    {                                                                                              \
        .name = "virtio-back-end-test", .description = "test device",                              \
        .instance_size = sizeof(BackEndDevice), .properties = device_properties,                   \
        .base_state = &pci_device_state_desc, .state = &device_state_desc, .bus = "pci",           \
        .realize = (realize_fn), .reset = virtio_pci_reset,                                        \
        .unrealize = device_unrealize_back_end, .co_start = virtio_pci_co_start,                   \
        .co_stop = virtio_pci_co_stop, .pre_save = virtio_pci_pre_save,                            \
        .check_state = virtio_pci_check_state, .post_load = virtio_pci_post_load,                  \
    }

const DeviceType back_end_type = BACK_END_TYPE(device_realize_back_end);
const DeviceType back_end_fallback_type = BACK_END_TYPE(device_realize_fallback);
const DeviceType back_end_mixed_type = BACK_END_TYPE(device_realize_mixed);
