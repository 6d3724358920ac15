/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver side of a split ring, in the memory of a test. Builds valid and invalid chains. Plain
 * functions leave notification to the caller; a thread other than the device's may use them.
 */
#ifndef SKIFF_TESTS_SUPPORT_VRING_DRIVER_H
#define SKIFF_TESTS_SUPPORT_VRING_DRIVER_H

#include "hw/core/ram.h"
#include "hw/virtio/virtqueue.h"
#include "hw/virtio/vring.h"

/* One buffer of a chain. */
typedef struct VringBuffer {
    uint64_t gpa;
    uint32_t len;
    bool write; /* device-writable */
} VringBuffer;

typedef struct VringDriver {
    const GuestRam *ram;
    unsigned size;
    uint64_t desc_gpa, avail_gpa, used_gpa;
    VringDesc *desc;
    VringAvail *avail;
    VringUsed *used;
    uint16_t avail_idx; /* next entry to offer */
    uint16_t last_used; /* next entry to take back */
    uint16_t next_desc; /* descriptors are taken round robin */
} VringDriver;

/* Bytes the rings of @size entries need. */
uint64_t vring_driver_bytes(unsigned size);
/* Zeroed rings at @gpa, which is page-aligned. */
void vring_driver_init(VringDriver *d, const GuestRam *ram, uint64_t gpa, unsigned size);
/* The set-up that a device gets for this ring. */
VirtQueueSetup vring_driver_setup(const VringDriver *d, bool event_idx, bool indirect);

/* Fills descriptors with a chain, without offering it. Returns its head. */
uint16_t vring_driver_chain(VringDriver *d, const VringBuffer *buffers, unsigned count);
/* The same as one INDIRECT table at @table_gpa. */
uint16_t vring_driver_indirect(VringDriver *d, uint64_t table_gpa, const VringBuffer *buffers,
                               unsigned count);
/* The same with a table of @count descriptors that an earlier call has written: the device may be
 * reading it. */
uint16_t vring_driver_indirect_again(VringDriver *d, uint64_t table_gpa, unsigned count);
/* Puts @head into the available ring and publishes it. */
void vring_driver_offer(VringDriver *d, uint16_t head);
/* Whether the device wants a kick for buffers offered since index @old. */
bool vring_driver_wants_kick(const VringDriver *d, uint16_t old, bool event_idx);
/* Sets the index at which the device should interrupt (EVENT_IDX). */
void vring_driver_set_used_event(VringDriver *d, uint16_t event);
/* Takes the next used entry; false: none. */
bool vring_driver_take_used(VringDriver *d, uint32_t *id, uint32_t *len);

#endif
