/* SPDX-License-Identifier: Apache-2.0 */
/* The common configuration structure of virtio over PCI (virtio 1.2 §4.1.4.3). */
#include "hw/virtio/virtio_pci.h"

/* Width of each field by its offset; 64-bit fields are two of 32 bits (§4.1.3.1). Offsets inside a
 * field have width 0. */
static const uint8_t widths[VIRTIO_COMMON_SIZE] = {
    [VIRTIO_COMMON_DEVICE_FEATURE_SELECT] = 4,
    [VIRTIO_COMMON_DEVICE_FEATURE] = 4,
    [VIRTIO_COMMON_DRIVER_FEATURE_SELECT] = 4,
    [VIRTIO_COMMON_DRIVER_FEATURE] = 4,
    [VIRTIO_COMMON_CONFIG_VECTOR] = 2,
    [VIRTIO_COMMON_NUM_QUEUES] = 2,
    [VIRTIO_COMMON_STATUS] = 1,
    [VIRTIO_COMMON_GENERATION] = 1,
    [VIRTIO_COMMON_QUEUE_SELECT] = 2,
    [VIRTIO_COMMON_QUEUE_SIZE] = 2,
    [VIRTIO_COMMON_QUEUE_VECTOR] = 2,
    [VIRTIO_COMMON_QUEUE_ENABLE] = 2,
    [VIRTIO_COMMON_QUEUE_NOTIFY_OFF] = 2,
    [VIRTIO_COMMON_QUEUE_DESC] = 4,
    [VIRTIO_COMMON_QUEUE_DESC + 4] = 4,
    [VIRTIO_COMMON_QUEUE_DRIVER] = 4,
    [VIRTIO_COMMON_QUEUE_DRIVER + 4] = 4,
    [VIRTIO_COMMON_QUEUE_DEVICE] = 4,
    [VIRTIO_COMMON_QUEUE_DEVICE + 4] = 4,
};

static BQL_HELD uint32_t queue_field_read(VirtioPci *p, unsigned field)
{
    const VirtioQueueState *q = virtio_selected_queue(&p->vdev);
    if (!q) {
        return field == VIRTIO_COMMON_QUEUE_VECTOR ? VIRTIO_NO_VECTOR : 0;
    }
    switch (field) {
    case VIRTIO_COMMON_QUEUE_SIZE:
        return q->size;
    case VIRTIO_COMMON_QUEUE_VECTOR:
        return q->vector;
    case VIRTIO_COMMON_QUEUE_ENABLE:
        return q->enabled;
    case VIRTIO_COMMON_QUEUE_NOTIFY_OFF:
        return p->vdev.state->queue_select;
    case VIRTIO_COMMON_QUEUE_DESC:
        return (uint32_t)q->desc_gpa;
    case VIRTIO_COMMON_QUEUE_DESC + 4:
        return (uint32_t)(q->desc_gpa >> 32);
    case VIRTIO_COMMON_QUEUE_DRIVER:
        return (uint32_t)q->avail_gpa;
    case VIRTIO_COMMON_QUEUE_DRIVER + 4:
        return (uint32_t)(q->avail_gpa >> 32);
    case VIRTIO_COMMON_QUEUE_DEVICE:
        return (uint32_t)q->used_gpa;
    default:
        return (uint32_t)(q->used_gpa >> 32);
    }
}

static BQL_HELD uint32_t field_read(VirtioPci *p, unsigned field)
{
    VirtioDevice *vdev = &p->vdev;
    const VirtioState *s = vdev->state;
    switch (field) {
    case VIRTIO_COMMON_DEVICE_FEATURE_SELECT:
        return s->device_feature_select;
    case VIRTIO_COMMON_DEVICE_FEATURE:
        return virtio_read_features(vdev, s->device_feature_select);
    case VIRTIO_COMMON_DRIVER_FEATURE_SELECT:
        return s->driver_feature_select;
    case VIRTIO_COMMON_DRIVER_FEATURE:
        return virtio_read_driver_features(vdev, s->driver_feature_select);
    case VIRTIO_COMMON_CONFIG_VECTOR:
        return s->config_vector;
    case VIRTIO_COMMON_NUM_QUEUES:
        return vdev->num_queues;
    case VIRTIO_COMMON_STATUS:
        return virtio_read_status(vdev);
    case VIRTIO_COMMON_GENERATION:
        return s->config_generation;
    case VIRTIO_COMMON_QUEUE_SELECT:
        return s->queue_select;
    default:
        return queue_field_read(p, field);
    }
}

/* Reads may have any width and are done byte by byte. They have no side effects here. */
uint32_t virtio_pci_common_read(VirtioPci *p, unsigned offset, unsigned size)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = offset + i, field = at;
        if (at >= VIRTIO_COMMON_SIZE) {
            break;
        }
        while (!widths[field]) {
            field--;
        }
        value |= (field_read(p, field) >> (8 * (at - field)) & 0xff) << (8 * i);
    }
    return value;
}

/* A vector beyond the table reads back as NO_VECTOR (§4.1.5.1.2). */
static uint16_t vector_check(const VirtioPci *p, uint32_t vector)
{
    return vector < p->pci.msix.count ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

static BQL_HELD void queue_field_write(VirtioPci *p, unsigned field, uint32_t value)
{
    VirtioDevice *vdev = &p->vdev;
    VirtioQueueState *q = virtio_selected_queue(vdev);
    if (!q) {
        return;
    }
    switch (field) {
    case VIRTIO_COMMON_QUEUE_SIZE:
        virtio_write_queue_size(vdev, (uint16_t)value);
        return;
    case VIRTIO_COMMON_QUEUE_VECTOR: /* may change at any time; the home loop reads it */
        __atomic_store_n(&q->vector, vector_check(p, value), __ATOMIC_RELAXED);
        virtio_interrupts_changed(vdev);
        return;
    case VIRTIO_COMMON_QUEUE_ENABLE: /* writing 0 is not allowed (§4.1.4.3.2) and does nothing */
        if (value == 1) {
            virtio_enable_queue(vdev);
        }
        return;
    case VIRTIO_COMMON_QUEUE_DESC:
    case VIRTIO_COMMON_QUEUE_DESC + 4:
        virtio_write_queue_gpa(vdev, &q->desc_gpa, field != VIRTIO_COMMON_QUEUE_DESC, value);
        return;
    case VIRTIO_COMMON_QUEUE_DRIVER:
    case VIRTIO_COMMON_QUEUE_DRIVER + 4:
        virtio_write_queue_gpa(vdev, &q->avail_gpa, field != VIRTIO_COMMON_QUEUE_DRIVER, value);
        return;
    case VIRTIO_COMMON_QUEUE_DEVICE:
    case VIRTIO_COMMON_QUEUE_DEVICE + 4:
        virtio_write_queue_gpa(vdev, &q->used_gpa, field != VIRTIO_COMMON_QUEUE_DEVICE, value);
        return;
    default: /* read-only */
        return;
    }
}

void virtio_pci_common_write(VirtioPci *p, unsigned offset, unsigned size, uint32_t value)
{
    VirtioDevice *vdev = &p->vdev;
    VirtioState *s = vdev->state;
    if (offset >= VIRTIO_COMMON_SIZE || widths[offset] != size) {
        virtio_guest_error(vdev, "write of %u bytes at 0x%x of the common configuration", size,
                           offset);
        return;
    }
    switch (offset) {
    case VIRTIO_COMMON_DEVICE_FEATURE_SELECT:
        s->device_feature_select = value;
        return;
    case VIRTIO_COMMON_DRIVER_FEATURE_SELECT:
        s->driver_feature_select = value;
        return;
    case VIRTIO_COMMON_DRIVER_FEATURE:
        virtio_write_features(vdev, s->driver_feature_select, value);
        return;
    case VIRTIO_COMMON_CONFIG_VECTOR:
        __atomic_store_n(&s->config_vector, vector_check(p, value), __ATOMIC_RELAXED);
        return;
    case VIRTIO_COMMON_STATUS:
        virtio_write_status(vdev, (uint8_t)value);
        return;
    case VIRTIO_COMMON_QUEUE_SELECT:
        s->queue_select = (uint16_t)value;
        return;
    default:
        queue_field_write(p, offset, value);
        return;
    }
}
