/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces: port I/O and MMIO dispatch for register accesses.
 *
 * An IoRegion is a device's window; mapping, moving and unmapping happen under the BQL, and so do
 * dispatch and the device's handler. The handler works on registers only and must not wait. When an
 * access must not retire before something else has happened, the handler returns
 * pended_wait_for(); the vCPU then waits with no lock held and dispatches the access once more.
 */
#ifndef SKIFF_HW_CORE_ADDRESS_SPACE_H
#define SKIFF_HW_CORE_ADDRESS_SPACE_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/loop/completion.h"
#include "util/loop/held.h"

typedef enum MmioResult {
    MMIO_DONE,
    MMIO_PENDING, /* wait for access->waiter.done, then dispatch the same access once more */
} MmioResult;

/*
 * Why a pended access waits. The device owns it, one per device; any number of vCPUs may wait on
 * it. When the device is done it calls pended_finish(), and every waiter dispatches its access
 * again from the start: the handler then finds the device idle, or reset, or gone, and acts on what
 * it finds, so that no stale continuation can run.
 */
typedef struct PendedWaiter PendedWaiter;
typedef struct Pended {
    PendedWaiter *waiters; /* BQL */
    const char *what;
} Pended;
struct PendedWaiter {
    Completion done;
    PendedWaiter *next;
    const char *what;
};

/* One register access; value is little-endian in the low size bytes. A handler sees size 1, 2, 4 or
 * 8, as its region's ops allow; the guest's may be any from 1 to 8. Zero-initialized but for value,
 * size and is_write. */
typedef struct IoAccess {
    uint64_t offset; /* from the region's start */
    uint64_t value;  /* write: in; read: out (preset to all ones) */
    uint8_t size;
    bool is_write;
    uint8_t done;        /* dispatcher's: bytes of a split access that have retired... */
    uint64_t done_value; /* ...and what they read */
    PendedWaiter waiter; /* used by pended_wait_for() */
} IoAccess;

/* In a handler: `return pended_wait_for(&dev->pended, access);` */
MmioResult pended_wait_for(Pended *p, IoAccess *access) BQL_HELD;
/* Wakes all who wait on @p. */
void pended_finish(Pended *p) BQL_HELD;

typedef struct IoRegionOps {
    MmioResult (*access)(void *opaque,
                         IoAccess *access); /* called with the BQL held; begins with assert_bql() */
    uint8_t min_size, max_size;             /* narrower/wider guest accesses: see split */
    /* An access wider than max_size, of a size that is no power of two, or reaching past the
     * region's end is split into naturally aligned pieces, low address first, each dispatched by
     * itself. One narrower than min_size, or not naturally aligned unless `unaligned`, reads as all
     * ones and is dropped on write. 0,0 means 1..8. */
    bool unaligned;
    /* After the region was mapped (region->base is set), and before it is unmapped: for what moves
     * with the window, as doorbells do. BQL. NULL: not interested. */
    void (*mapped)(void *opaque, bool mapped);
} IoRegionOps;

typedef struct AddressSpace AddressSpace;

typedef struct IoRegion {
    const char *name;
    const IoRegionOps *ops;
    void *opaque;
    uint64_t size;
    /* runtime: managed by address_space_* */
    AddressSpace *space; /* NULL: not mapped */
    uint64_t base;
    int priority;
} IoRegion;

/* Told after a region was mapped (@mapped) or before it is unmapped; the KVM layer moves ioeventfds
 * with it. */
typedef struct AddressSpaceListener {
    void (*changed)(void *opaque, IoRegion *region, bool mapped);
    void *opaque;
} AddressSpaceListener;

AddressSpace *address_space_new(const char *name) ANY_THREAD;
void address_space_free(AddressSpace *as) ANY_THREAD;
void address_space_set_listener(AddressSpace *as, AddressSpaceListener listener) ANY_THREAD;
/* Maps @r at @base; overlaps are allowed, the higher priority (then the later mapped) wins. Regions
 * are embedded and outlive the mapping. */
void address_space_map(AddressSpace *as, IoRegion *r, uint64_t base, int priority) BQL_HELD;
void address_space_unmap(IoRegion *r) BQL_HELD;
/* Dispatches one access at @address of the space; access->offset is the dispatcher's. The region
 * that owns the first byte gets the access whole, also where another overlaps the rest (0xcf8 and
 * 0xcf9). Unclaimed: reads all ones, writes are dropped, *@claimed (may be NULL) tells. On
 * MMIO_PENDING the caller releases the BQL, waits for access->waiter.done, and dispatches the same
 * IoAccess again: what of a split access has retired is not done twice. */
MmioResult address_space_dispatch(AddressSpace *as, uint64_t address, IoAccess *access,
                                  bool *claimed) BQL_HELD;
/* The mapping that overlaps [base, base+size) with the lowest address, or NULL. */
const IoRegion *address_space_find_overlap(const AddressSpace *as, uint64_t base, uint64_t size)
    BQL_HELD;
/* Calls @fn for each mapping in address order (info mtree). */
void address_space_foreach(AddressSpace *as, void (*fn)(const IoRegion *r, void *opaque),
                           void *opaque) BQL_HELD;

#endif
