/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A split virtqueue, driver side. Set up by the boot CPU, then used by one CPU at a time.
 * Source: virtio 1.2 §2.7.
 *
 *   descriptors   [addr len flags next] x size      free ones are linked through `next`
 *   avail ring    flags idx ring[size] used_event   written by us
 *   used ring     flags idx [id len] x size avail_event   written by the device
 */
#ifndef LIB_VIRTQUEUE_H
#define LIB_VIRTQUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/virtio.h"

#define VIRTQUEUE_MAX_INDIRECT 64

typedef struct VirtqueueDesc {
    uint64_t address;
    uint32_t size;
    uint16_t flags, next;
} VirtqueueDesc;

/* One memory range of a request. */
typedef struct VirtqueueBuffer {
    void *data;
    uint32_t size;
} VirtqueueBuffer;

typedef struct Virtqueue {
    uint64_t notify_gpa;
    uint16_t index, size;
    bool event_idx;

    VirtqueueDesc *descs;
    volatile uint16_t *avail; /* flags, idx, ring[size], used_event */
    volatile uint8_t *used;
    VirtqueueDesc *indirect; /* VIRTQUEUE_MAX_INDIRECT for each head; NULL: not negotiated */
    void **tokens;           /* by head */
    uint16_t *chain_sizes;   /* by head: descriptors of the chain */

    uint16_t free_head, free_count;
    uint16_t avail_idx, kicked_idx; /* added; kicked */
    uint16_t used_idx;              /* taken */
    uint64_t kicks;
} Virtqueue;

/*
 * Sets up queue @index with at most @size entries. Completions interrupt by MSI-X entry @vector, or
 * not at all (VIRTIO_NO_VECTOR). Called after virtio_negotiate() and before virtio_go(). Interrupts
 * are off until virtqueue_want_interrupt().
 */
void virtqueue_setup(Virtqueue *queue, VirtioDevice *dev, uint16_t index, uint16_t size,
                     uint16_t vector);

/*
 * Queues a request: @out_count buffers that the device reads, then @in_count that it writes. False
 * when there is no room now. virtqueue_kick() makes it visible. @indirect uses an indirect table,
 * which needs the feature and at most VIRTQUEUE_MAX_INDIRECT buffers.
 */
bool virtqueue_add(Virtqueue *queue, const VirtqueueBuffer *buffers, unsigned out_count,
                   unsigned in_count, void *token, bool indirect);

/* Makes all added requests visible, and notifies the device if it needs that. */
void virtqueue_kick(Virtqueue *queue);

/* The token of a completed request and the bytes the device wrote, or NULL. */
void *virtqueue_take(Virtqueue *queue, uint32_t *written);

/*
 * Requests an interrupt at the next completion; false when there already is one, which may not
 * interrupt.
 */
bool virtqueue_want_interrupt(Virtqueue *queue);

#endif
