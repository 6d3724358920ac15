/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtqueue: the device's side of a split ring (virtio 1.2 §2.7).
 *
 *   descriptor table          available ring              used ring
 *   (driver writes)           (driver writes)             (device writes)
 *   +-----+-----+-----+----+  +-------+-------+           +-------+-------+
 *  0| gpa | len |flags|next|  | flags |  idx  |--.        | flags |  idx  |--.
 *   +-----+-----+-----+----+  +-------+-------+  |        +-------+-------+  |
 *  1|     |     |     |    |  | ring[0]       |  |        | ring[0]: id, len|  |
 *   +-----+-----+-----+----+  | ring[1]       |<-+- next  | ring[1]: id, len|<-+- next free
 *   :     :     :     :    :  |  ...          |    free   |  ...            |
 *   +-----+-----+-----+----+  | ring[size-1]  |           | ring[size-1]    |
 *                             | used_event    |           | avail_event     |
 *                             +---------------+           +-----------------+
 *
 * idx counts freely modulo 65536; entry idx % size. A chain of descriptors linked by `next` (or one
 * INDIRECT table of them) is one buffer: device-readable parts first, then device-writable ones.
 *
 * Everything in guest memory is hostile. Each value is read once into a local, then checked. An
 * invalid value makes the queue `broken`, with a reason; nothing is taken from a broken queue until
 * its next start. Memory that is not RAM is never accessed.
 *
 * A queue has one owner: the loop that started it. No function here locks, waits or allocates,
 * except new, free and the first start. Elements and their iovecs are in storage that is allocated
 * once per queue.
 *
 * Invariants
 *   1. An element is in flight from its pop to its push, unpop or park; never more than `size` are.
 *   2. A head that is in flight or parked is not popped again: if the ring repeats it, the driver
 *      made an error.
 *   3. Guest memory that the queue or its device wrote is marked dirty after the write: the used
 *      ring when it is written, the whole device-writable part of a buffer when it is returned.
 *   4. used.idx in guest memory moves only after the entries it covers: in virtqueue_flush(), and in
 *      virtqueue_push(), every VIRTQUEUE_PUBLISH_EVERY entries. It never moves in virtqueue_fill(), so
 *      that the driver sees a frame of several buffers whole.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTQUEUE_H
#define SKIFF_HW_VIRTIO_VIRTQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "hw/core/ram.h"

/* Largest queue size a device may offer; the spec's limit is 32768 (§2.7). */
#define VIRTQUEUE_MAX_SIZE 1024
#define VIRTQUEUE_REASON_SIZE 128

/* The driver's set-up of the queue and the negotiated ring features. */
typedef struct VirtQueueSetup {
    uint64_t desc_gpa, avail_gpa, used_gpa;
    uint16_t size; /* power of two */
    bool event_idx;
    bool indirect;
} VirtQueueSetup;

/* The device's position, kept while the queue is stopped. */
typedef struct VirtQueuePosition {
    uint16_t last_avail; /* next available entry to take */
    uint16_t used;       /* next used entry to fill */
    /* Heads that were set aside; popped first after the next start. Bit n: head n. */
    uint8_t parked[VIRTQUEUE_MAX_SIZE / 8];
} VirtQueuePosition;

/* One buffer of the driver. A device's request struct begins with it. */
typedef struct VirtQueueElement {
    struct iovec *out; /* device-readable */
    struct iovec *in;  /* device-writable; the device may change both */
    unsigned out_num, in_num;
    uint64_t out_len, in_len; /* bytes */
    uint16_t head;
    uint16_t slot; /* index of the storage */
    bool retried;  /* it was parked before the start and is not in the available ring */
    /* Descriptors of the chain, as read: [first_in, descs) are device-writable. */
    uint16_t first_in, descs;
} VirtQueueElement;

typedef struct VirtQueue VirtQueue;

/* Creates a queue of at most @max_size entries (a power of two up to VIRTQUEUE_MAX_SIZE). Its
 * elements have @request_size bytes and begin with a VirtQueueElement; the rest is the device's own
 * and not initialized. */
VirtQueue *virtqueue_new(unsigned max_size, size_t request_size) ANY_THREAD;
/* @vq is not started; it may be NULL. */
void virtqueue_free(VirtQueue *vq) ANY_THREAD;

/* ---- the owner's ---- */
/* Maps the rings (aligned and wholly RAM, §2.7) and begins at @from. False: the queue is started
 * but broken, see virtqueue_broken(), and pop returns NULL. */
bool virtqueue_start(VirtQueue *vq, const GuestRam *ram, const VirtQueueSetup *setup,
                     const VirtQueuePosition *from) RUNS_IN_LOOP;
/* Nothing is in flight. Does not publish: call virtqueue_flush() first. */
void virtqueue_stop(VirtQueue *vq, VirtQueuePosition *to) RUNS_IN_LOOP;

/* The next buffer; NULL when there is none or the queue is broken. The caller owns its storage
 * until push, unpop or park. */
void *virtqueue_pop(VirtQueue *vq) RUNS_IN_LOOP;
/* Puts @element into the used ring with @len bytes written to its device-writable part (§2.7.8).
 * The driver sees it after virtqueue_flush() at the latest. */
void virtqueue_push(VirtQueue *vq, VirtQueueElement *element, uint32_t len) RUNS_IN_LOOP;
/* The same, but it becomes visible only together with the next push at the earliest: for all buffers but
 * the last of a frame. */
void virtqueue_fill(VirtQueue *vq, VirtQueueElement *element, uint32_t len) RUNS_IN_LOOP;
/* Returns the element popped last: the next pop returns it again. */
void virtqueue_unpop(VirtQueue *vq, VirtQueueElement *element) RUNS_IN_LOOP;
/* Sets @element aside: it is no longer in flight and is popped again after the next start. */
void virtqueue_park(VirtQueue *vq, VirtQueueElement *element) RUNS_IN_LOOP;
/* Publishes the pushed elements. True: the driver requests an interrupt for them (§2.7.7). */
bool virtqueue_flush(VirtQueue *vq) RUNS_IN_LOOP;

/* Enables or disables kicks by the driver (§2.7.10). After enabling, check virtqueue_has_new()
 * again: buffers added before it were not kicked. */
void virtqueue_set_notification(VirtQueue *vq, bool enabled) RUNS_IN_LOOP;
/* Records the available index without popping. */
void virtqueue_look(VirtQueue *vq) RUNS_IN_LOOP;
/* Whether the driver has added a buffer since the last virtqueue_look() or virtqueue_pop(). Reads
 * one word. */
bool virtqueue_has_new(const VirtQueue *vq) RUNS_IN_LOOP;

unsigned virtqueue_in_flight(const VirtQueue *vq) RUNS_IN_LOOP;
bool virtqueue_started(const VirtQueue *vq) RUNS_IN_LOOP;
/* Why the queue is unusable, or NULL. */
const char *virtqueue_broken(const VirtQueue *vq) RUNS_IN_LOOP;
/* For devices that find the contents of a buffer invalid. The first reason is kept. */
void virtqueue_break(VirtQueue *vq, const char *format, ...) RUNS_IN_LOOP
    __attribute__((format(printf, 2, 3)));

#endif
