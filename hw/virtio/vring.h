/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The split ring in guest memory (virtio 1.2 §2.7), little-endian. Running vCPUs access the indices
 * and ring entries, so they are atomics; each is read once. Used by the device and by the
 * guest-side driver in tests.
 */
#ifndef SKIFF_HW_VIRTIO_VRING_H
#define SKIFF_HW_VIRTIO_VRING_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings are little-endian");

enum {
    VRING_DESC_F_NEXT = 1,
    VRING_DESC_F_WRITE = 2,
    VRING_DESC_F_INDIRECT = 4,
};
enum { VRING_AVAIL_F_NO_INTERRUPT = 1, VRING_USED_F_NO_NOTIFY = 1 };

#define VRING_DESC_ALIGN 16
#define VRING_AVAIL_ALIGN 2
#define VRING_USED_ALIGN 4

typedef struct VringDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
} VringDesc;

typedef struct VringAvail {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    _Atomic uint16_t ring[]; /* [size] is used_event */
} VringAvail;

typedef struct VringUsedElement {
    _Atomic uint32_t id;
    _Atomic uint32_t len;
} VringUsedElement;

typedef struct VringUsed {
    _Atomic uint16_t flags;
    _Atomic uint16_t idx;
    VringUsedElement ring[]; /* avail_event follows [size - 1] */
} VringUsed;

static inline uint64_t vring_avail_bytes(unsigned size)
{
    return 6 + 2 * (uint64_t)size;
}

static inline uint64_t vring_used_bytes(unsigned size)
{
    return 6 + 8 * (uint64_t)size;
}

/* Whether moving the index from @old to @new passes @event, the point at which the other side
 * requests a notification. Modulo 65536 (§2.7.7.1). */
static inline bool vring_need_event(uint16_t event, uint16_t new, uint16_t old)
{
    return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

#endif
