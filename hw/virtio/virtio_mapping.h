/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The property iothread-vq-mapping: which iothread serves which virtqueue of a device.
 *
 *   [{"iothread": "a", "vqs": [0, 2]}, {"iothread": "b", "vqs": [1, 3]}]
 *   [{"iothread": "a"}, {"iothread": "b"}]       queue n: item n % 2
 *
 * The first iothread is the home of the device and of its drives.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_MAPPING_H
#define SKIFF_HW_VIRTIO_VIRTIO_MAPPING_H

#include "hw/virtio/virtio.h"

typedef struct VirtioMapping {
    OptDict *dict;      /* the property; NULL: the home serves all queues */
    AioContext **homes; /* the iothreads; NULL: one, of another property */
    unsigned count;     /* of homes */
    unsigned first;     /* the queue that the mapping calls 0; the home serves those before it */
    unsigned num_queues;
    uint8_t queue_lanes[VIRTIO_MAX_QUEUES]; /* index in homes */
} VirtioMapping;

#define VIRTIO_MAPPING_PROPERTY(T, field)                                                          \
    OPT_SPEC(T, "iothread-vq-mapping", OPT_DICT, field.dict,                                       \
             .help = "list of iothreads, each with the vqs that it serves")

/* Sets the rest from the property, if it is set. @iothread: the property of that name, or NULL. False +
 * @error, as QEMU says it. */
bool virtio_mapping_resolve(VirtioMapping *m, const Device *dev, const char *iothread,
                            unsigned first, unsigned num_queues, GError **error) RUNS_IN_MAIN;
/* Sets the lanes of @vdev, whose home is set. Before virtio_init(). */
void virtio_mapping_apply(const VirtioMapping *m, VirtioDevice *vdev) RUNS_IN_MAIN;
/* After virtio_cleanup(), or without it. */
void virtio_mapping_clear(VirtioMapping *m) RUNS_IN_MAIN;

#endif
