/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded queue of frames from one loop to another, for back ends whose peer lives in a loop of its own.
 * One thread puts, one takes; nobody waits or locks. The frames are records in one buffer:
 *
 *      head (taker)                        tail (putter)
 *        v                                   v
 *   +----+--------+--------+--------+--------+------+
 *   |    | n bytes| frame  | n bytes| frame  | free |     n == WRAP: the rest of the buffer is skipped
 *   +----+--------+--------+--------+--------+------+
 *
 * Invariants
 *   1. A frame is contiguous. Records are aligned to 4 bytes, so a marker always fits before the end.
 *   2. head and tail count freely; tail - head is the space in use and never more than the size.
 *   3. The putter writes tail after the record, the taker head after it has read it.
 *   4. Accesses to head are sequentially consistent, so a putter that sets a flag (atomic_store()) and looks for room
 *      again, and a taker that makes room and then looks at the flag, do not miss each other.
 */
#ifndef SKIFF_HW_NET_NET_RING_H
#define SKIFF_HW_NET_NET_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/loop/thread.h"

typedef struct NetRing {
    uint8_t *data;
    uint32_t size; /* power of two */
    _Atomic uint32_t head, tail;
} NetRing;

/* @size: a power of two, more than twice the largest frame. */
void net_ring_init(NetRing *r, uint32_t size) ANY_THREAD;
void net_ring_clear(NetRing *r) ANY_THREAD;
/* Bytes in use, records and gaps. */
uint32_t net_ring_used(const NetRing *r) ANY_THREAD;

/* The putter's: copies @bytes bytes of the list from @offset on. False: there is no room. */
bool net_ring_put(NetRing *r, const struct iovec *iov, unsigned count, size_t offset,
                  uint32_t bytes) ANY_THREAD;
/* The taker's: the oldest frame, which stays until net_ring_pop(); NULL: there is none. */
const uint8_t *net_ring_peek(NetRing *r, uint32_t *bytes) ANY_THREAD;
void net_ring_pop(NetRing *r) ANY_THREAD;

#endif
