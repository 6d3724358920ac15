/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Address spaces: port I/O and MMIO dispatch for register accesses.
 *
 * An IoRegion is a device's window. Mapping, moving and unmapping happen under the BQL, and so do
 * dispatch and the device's handler. The handler works on registers only and must not wait. When an
 * access must not retire before another event, the handler returns pended_wait_for(). The vCPU then
 * waits with no lock held and dispatches the access again.
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
    MMIO_PENDING, /* wait for access->waiter.done, then dispatch the same access again */
} MmioResult;

/*
 * Why a pended access waits. Each device owns one; any number of vCPUs may wait on it. The device
 * calls pended_finish() when it is done, and every waiter dispatches its access again from the
 * start. The handler then acts on the state it finds (idle, reset or unplugged), so no stale
 * continuation can run.
 */
typedef struct PendedWaiter PendedWaiter;
typedef struct Pended {
    PendedWaiter *waiters; /* BQL */
    const char *what;
} Pended;
struct PendedWaiter {
    Completion done;
    Pended *pended; /* BQL; NULL: the wait has ended */
    PendedWaiter *next;
    const char *what;
};

typedef struct IoRegion IoRegion;

/* One register access. `value` is little-endian in its low `size` bytes. A handler sees size 1, 2,
 * 4 or 8, within its region's min_size and max_size; a guest's access has any size from 1 to 8. The
 * caller sets value, size and is_write and zeroes the rest. */
typedef struct IoAccess {
    uint64_t offset; /* from the region's start */
    uint64_t value;  /* write: in; read: out (preset to all ones) */
    uint8_t size;
    bool is_write;
    bool must_retire;          /* the vCPU is to stop: see pended_cancel() */
    uint8_t done;              /* the dispatcher's: bytes of a split access that have retired */
    uint64_t done_value;       /* the dispatcher's: the value those bytes read */
    const IoRegion *pended_by; /* the dispatcher's: whose handler pended it; may be gone by now */
    PendedWaiter waiter;       /* used by pended_wait_for() */
} IoAccess;

/* In a handler: `return pended_wait_for(&dev->pended, access);` */
MmioResult pended_wait_for(Pended *p, IoAccess *access) BQL_HELD;
/* The same for the vCPU whose access began an operation of skiff's own in another thread. That thread
 * calls completion_signal() for the access' waiter.done once, with no lock held. The wait is not
 * cancelled, and @what (static) names it. The access is in that vCPU's hands and identifies it until
 * it is dispatched again. */
MmioResult pended_wait_for_io(IoAccess *access, const char *what) BQL_HELD;
/* Wakes every vCPU that waits on @p. */
void pended_finish(Pended *p) BQL_HELD;
/*
 * Ends one wait, if it still lasts, because its vCPU is to park or to run a call. The access is
 * dispatched again with `must_retire`. A handler that waits for a peer of unknown patience (the
 * reader of a console) then completes the access; one that waits for skiff's own I/O may pend it
 * again, and this wait is not cancelled.
 */
void pended_cancel(PendedWaiter *w) BQL_HELD;

typedef struct IoRegionOps {
    MmioResult (*access)(void *opaque, IoAccess *access); /* BQL; begins with assert_bql() */
    uint8_t min_size, max_size;                           /* 0,0 means 1 and 8 */
    /* An access that is wider than max_size, has a size that is no power of two, or crosses the
     * region's end is split into naturally aligned pieces, low address first; each piece is
     * dispatched separately. An access narrower than min_size, or unaligned while !`unaligned`,
     * reads as all ones and is dropped on write. */
    bool unaligned;
    /* Called after the region is mapped (region->base is set) and before it is unmapped; the device
     * moves its doorbells here. BQL. May be NULL. */
    void (*mapped)(void *opaque, bool mapped);
} IoRegionOps;

typedef struct AddressSpace AddressSpace;

struct IoRegion {
    const char *name;
    const IoRegionOps *ops;
    void *opaque;
    uint64_t size;
    /* runtime: managed by address_space_* */
    AddressSpace *space; /* NULL: not mapped */
    uint64_t base;
    int priority;
};

/* `changed` is called after a region is mapped (@mapped is true) and before it is unmapped. The KVM
 * layer moves ioeventfds with the region. */
typedef struct AddressSpaceListener {
    void (*changed)(void *opaque, IoRegion *region, bool mapped);
    void *opaque;
} AddressSpaceListener;

AddressSpace *address_space_new(const char *name) ANY_THREAD;
void address_space_free(AddressSpace *as) ANY_THREAD;
void address_space_set_listener(AddressSpace *as, AddressSpaceListener listener) ANY_THREAD;
/* Maps @r at @base. Overlaps are allowed: the higher priority wins, then the later mapping. The
 * region is embedded in the device and outlives the mapping. */
void address_space_map(AddressSpace *as, IoRegion *r, uint64_t base, int priority) BQL_HELD;
void address_space_unmap(IoRegion *r) BQL_HELD;
/* Dispatches one access at @address of the space; the dispatcher sets access->offset. The region
 * that owns the first byte gets the whole access, even if another region overlaps the rest (0xcf8
 * and 0xcf9). An access outside all regions reads all ones, is dropped on write, and sets *@claimed
 * (may be NULL) to false. On MMIO_PENDING the caller releases the BQL, waits for
 * access->waiter.done, and dispatches the same IoAccess again. It goes back to the region that pended
 * it while that is mapped there, even below another one. Retired pieces of a split access are not
 * repeated. */
MmioResult address_space_dispatch(AddressSpace *as, uint64_t address, IoAccess *access,
                                  bool *claimed) BQL_HELD;
/* The mapping that overlaps [base, base+size) with the lowest address, or NULL. */
const IoRegion *address_space_find_overlap(const AddressSpace *as, uint64_t base, uint64_t size)
    BQL_HELD;
/* Calls @fn for each mapping in address order (info mtree). */
void address_space_foreach(AddressSpace *as, void (*fn)(const IoRegion *r, void *opaque),
                           void *opaque) BQL_HELD;

#endif
