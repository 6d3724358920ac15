/* SPDX-License-Identifier: Apache-2.0 */
/* Internals of a virtqueue: for virtqueue.c (rings) and virtqueue_chain.c (chains) only. */
#ifndef SKIFF_HW_VIRTIO_VIRTQUEUE_INT_H
#define SKIFF_HW_VIRTIO_VIRTQUEUE_INT_H

#include "hw/virtio/virtqueue.h"
#include "hw/virtio/vring.h"

#define HEAD_WORDS (VIRTQUEUE_MAX_SIZE / 64)

/* The GPA range of a descriptor's buffer, for dirty memory: a device may change its iovecs. */
typedef struct VirtQueueSpan {
    uint64_t gpa;
    uint32_t len;
} VirtQueueSpan;

struct VirtQueue {
    /* fixed */
    unsigned max_size;
    size_t request_size;
    uint8_t *requests;    /* max_size of request_size bytes */
    struct iovec *iovs;   /* max_size of max_size */
    VirtQueueSpan *spans; /* the same */
    uint16_t *free_slot;  /* stack */
    unsigned free_count;

    /* while started */
    bool started;
    char broken[VIRTQUEUE_REASON_SIZE]; /* "": not broken */
    const GuestRam *ram;
    VirtQueueSetup setup;
    const VringDesc *desc;
    VringAvail *avail;
    VringUsed *used;
    uint16_t last_avail;     /* next available entry to pop */
    uint16_t shadow_avail;   /* avail.idx as last read */
    uint16_t used_idx;       /* next used entry to fill */
    uint16_t published_used; /* used.idx at the last flush */
    uint16_t visible_used;   /* used.idx in guest memory */
    bool first_flush;        /* the driver's used_event may be older than this start */
    unsigned in_flight;
    unsigned retry_count;
    uint64_t busy[HEAD_WORDS];   /* heads in flight, parked or to be retried */
    uint64_t parked[HEAD_WORDS]; /* heads set aside since the start */
    uint64_t retry[HEAD_WORDS];  /* heads set aside before the start, not popped yet */
};

/* virtqueue_break() for the queue's own code, in any role. */
void virtqueue_fail(VirtQueue *vq, const char *format, ...) ANY_THREAD
    __attribute__((format(printf, 2, 3)));
/* Fills @element, whose head and slot are set, from the chain at its head. False: the queue is
 * broken. */
bool virtqueue_read_chain(VirtQueue *vq, VirtQueueElement *element) ANY_THREAD;

#endif
