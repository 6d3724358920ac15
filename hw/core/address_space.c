/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/address_space.h"

#include <string.h>

/*
 * Mappings may overlap. They are flattened into disjoint ranges sorted by address, each with the
 * region that wins there, so an access is one binary search. The first dispatch after a change
 * rebuilds the flat view: a machine maps some fifty windows at start-up, and a guest that sizes
 * BARs maps and unmaps in bursts.
 *
 * Invariants
 *   1. `mapped` is sorted by precedence: higher priority first, then the later mapping.
 *   2. While !stale: `flat` is sorted, disjoint, and no range is empty.
 *   3. region->space == as exactly for the regions in `mapped`.
 */
typedef struct FlatRange {
    uint64_t first, last; /* inclusive: a range may end at the top of the space */
    IoRegion *region;
} FlatRange;

struct AddressSpace {
    char *name;
    GPtrArray *mapped;
    GArray *flat;
    bool stale;
    AddressSpaceListener listener;
};

AddressSpace *address_space_new(const char *name)
{
    AddressSpace *as = g_new0(AddressSpace, 1);
    as->name = g_strdup(name);
    as->mapped = g_ptr_array_new();
    as->flat = g_array_new(FALSE, FALSE, sizeof(FlatRange));
    return as;
}

void address_space_free(AddressSpace *as)
{
    if (as == NULL) {
        return;
    }
    for (unsigned i = 0; i < as->mapped->len; i++) {
        ((IoRegion *)as->mapped->pdata[i])->space = NULL;
    }
    g_ptr_array_free(as->mapped, TRUE);
    g_array_free(as->flat, TRUE);
    g_free(as->name);
    g_free(as);
}

void address_space_set_listener(AddressSpace *as, AddressSpaceListener listener)
{
    as->listener = listener;
}

static uint64_t region_last(const IoRegion *r)
{
    return r->base + (r->size - 1);
}

static void address_space_notify(AddressSpace *as, IoRegion *r, bool mapped)
{
    if (r->ops->mapped != NULL) {
        r->ops->mapped(r->opaque, mapped);
    }
    if (as->listener.changed != NULL) {
        as->listener.changed(as->listener.opaque, r, mapped);
    }
}

void address_space_map(AddressSpace *as, IoRegion *r, uint64_t base, int priority)
{
    assert_bql();
    g_assert(r->space == NULL && r->size > 0 && base + (r->size - 1) >= base);
    r->space = as;
    r->base = base;
    r->priority = priority;
    unsigned at = 0;
    while (at < as->mapped->len && ((IoRegion *)as->mapped->pdata[at])->priority > priority) {
        at++;
    }
    g_ptr_array_insert(as->mapped, (int)at, r);
    as->stale = true;
    address_space_notify(as, r, true);
}

void address_space_unmap(IoRegion *r)
{
    assert_bql();
    AddressSpace *as = r->space;
    if (as == NULL) {
        return;
    }
    address_space_notify(as, r, false);
    g_ptr_array_remove(as->mapped, r);
    r->space = NULL;
    as->stale = true;
}

/* ---- flat view ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The region with the highest precedence at @address, or NULL. */
static IoRegion *address_space_winner(const AddressSpace *as, uint64_t address)
{
    for (unsigned i = 0; i < as->mapped->len; i++) {
        IoRegion *r = as->mapped->pdata[i];
        if (address >= r->base && address <= region_last(r)) {
            return r;
        }
    }
    return NULL;
}

static void flat_append(GArray *flat, uint64_t first, uint64_t last, IoRegion *region)
{
    if (flat->len > 0) {
        FlatRange *prev = &g_array_index(flat, FlatRange, flat->len - 1);
        if (prev->region == region && prev->last + 1 == first) {
            prev->last = last;
            return;
        }
    }
    FlatRange range = {.first = first, .last = last, .region = region};
    g_array_append_val(flat, range);
}

static void address_space_flatten(AddressSpace *as)
{
    /* The winner changes only where a mapping starts or ends. */
    g_autoptr(GArray) cuts = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    for (unsigned i = 0; i < as->mapped->len; i++) {
        const IoRegion *r = as->mapped->pdata[i];
        uint64_t after = region_last(r) + 1; /* 0: the region reaches the top */
        g_array_append_val(cuts, r->base);
        if (after != 0) {
            g_array_append_val(cuts, after);
        }
    }
    g_array_sort(cuts, compare_u64);
    g_array_set_size(as->flat, 0);
    for (unsigned i = 0; i < cuts->len; i++) {
        uint64_t first = g_array_index(cuts, uint64_t, i);
        bool is_end = i + 1 == cuts->len;
        uint64_t last = is_end ? UINT64_MAX : g_array_index(cuts, uint64_t, i + 1) - 1;
        if (!is_end && last + 1 == first) {
            continue; /* skip a repeated cut */
        }
        IoRegion *winner = address_space_winner(as, first);
        if (winner != NULL) {
            flat_append(as->flat, first, last, winner);
        }
    }
    as->stale = false;
}

/* The range that holds @address, or NULL. */
static const FlatRange *address_space_find(AddressSpace *as, uint64_t address)
{
    if (as->stale) {
        address_space_flatten(as);
    }
    unsigned low = 0, high = as->flat->len;
    while (low < high) {
        unsigned mid = low + (high - low) / 2;
        const FlatRange *f = &g_array_index(as->flat, FlatRange, mid);
        if (address < f->first) {
            high = mid;
        } else if (address > f->last) {
            low = mid + 1;
        } else {
            return f;
        }
    }
    return NULL;
}

/* ---- dispatch ---- */

static uint64_t size_mask(unsigned size)
{
    return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* Size of the next piece of an access of @whole bytes with @left bytes left, in the region at
 * @address. Pieces of a split access are naturally aligned; an access that is not split is
 * unchanged. */
static unsigned piece_size(const IoRegion *r, uint64_t address, unsigned left, unsigned whole)
{
    uint64_t room = region_last(r) - address; /* minus one: the room may be the whole space */
    unsigned limit = r->ops->max_size != 0 ? r->ops->max_size : 8;
    if (room < limit) {
        limit = (unsigned)room + 1;
    }
    unsigned size = 8;
    while (size > MIN(left, limit)) {
        size /= 2;
    }
    while (size < whole && ((address - r->base) & (size - 1)) != 0) {
        size /= 2;
    }
    return size;
}

/* Dispatches one piece, @size bytes at @address of @r. The handler gets the guest's access struct
 * itself, since a pended access waits in it. */
static MmioResult dispatch_piece(IoRegion *r, uint64_t address, unsigned size, IoAccess *access)
{
    const IoRegionOps *ops = r->ops;
    uint64_t offset = address - r->base;
    uint64_t whole_value = access->value;
    uint8_t whole_size = access->size;
    uint64_t read_value = size_mask(size);
    MmioResult result = MMIO_DONE;
    bool aligned = ops->unaligned || (offset & (size - 1)) == 0;

    if (size >= ops->min_size && aligned) {
        access->offset = offset;
        access->size = (uint8_t)size;
        access->value = access->is_write ? (whole_value >> (access->done * 8)) & size_mask(size)
                                         : size_mask(size);
        result = ops->access(r->opaque, access);
        read_value = access->value & size_mask(size);
    }
    access->value = whole_value;
    access->size = whole_size;
    if (result == MMIO_DONE) {
        access->done_value |= read_value << (access->done * 8);
        access->done += (uint8_t)size;
    }
    return result;
}

/* The region that gets the next piece, which is at @address; NULL: none. A pended piece goes back to
 * the region that pended it, also when the guest has mapped another one over it: that device has an
 * operation that only this access ends. */
static IoRegion *address_space_target(AddressSpace *as, uint64_t address, const IoAccess *access)
{
    for (unsigned i = 0; access->pended_by != NULL && i < as->mapped->len; i++) {
        IoRegion *r = as->mapped->pdata[i];
        if (r == access->pended_by && address >= r->base && address <= region_last(r)) {
            return r;
        }
    }
    const FlatRange *f = address_space_find(as, address);
    return f != NULL ? f->region : NULL;
}

MmioResult address_space_dispatch(AddressSpace *as, uint64_t address, IoAccess *access,
                                  bool *claimed)
{
    assert_bql();
    g_assert(access->size >= 1 && access->size <= 8);
    bool any = false;
    while (access->done < access->size) {
        uint64_t at = address + access->done; /* wraps at the top of the space */
        unsigned left = access->size - access->done;
        /* Looked up for each piece: a handler may remap the space. */
        IoRegion *r = address_space_target(as, at, access);
        access->pended_by = NULL;
        if (r == NULL) {
            access->done_value |= UINT64_C(0xff) << (access->done * 8);
            access->done++;
            continue;
        }
        any = true;
        unsigned size = piece_size(r, at, left, access->size);
        if (dispatch_piece(r, at, size, access) == MMIO_PENDING) {
            access->pended_by = r;
            if (claimed != NULL) {
                *claimed = true;
            }
            return MMIO_PENDING;
        }
    }
    if (!access->is_write) {
        access->value = access->done_value;
    }
    if (claimed != NULL) {
        *claimed = any;
    }
    return MMIO_DONE;
}

/* ---- look-up ---- */

static int compare_base(const void *a, const void *b)
{
    const IoRegion *x = *(IoRegion *const *)a, *y = *(IoRegion *const *)b;
    return x->base != y->base ? (x->base < y->base ? -1 : 1) : y->priority - x->priority;
}

static GPtrArray *address_space_sorted(const AddressSpace *as)
{
    GPtrArray *sorted = g_ptr_array_sized_new(as->mapped->len);
    for (unsigned i = 0; i < as->mapped->len; i++) {
        g_ptr_array_add(sorted, as->mapped->pdata[i]);
    }
    g_ptr_array_sort(sorted, compare_base);
    return sorted;
}

const IoRegion *address_space_find_overlap(const AddressSpace *as, uint64_t base, uint64_t size)
{
    assert_bql();
    g_autoptr(GPtrArray) sorted = address_space_sorted(as);
    for (unsigned i = 0; i < sorted->len; i++) {
        const IoRegion *r = sorted->pdata[i];
        if (size > 0 && r->base <= base + (size - 1) && region_last(r) >= base) {
            return r;
        }
    }
    return NULL;
}

void address_space_foreach(AddressSpace *as, void (*fn)(const IoRegion *r, void *opaque),
                           void *opaque)
{
    assert_bql();
    g_autoptr(GPtrArray) sorted = address_space_sorted(as);
    for (unsigned i = 0; i < sorted->len; i++) {
        fn(sorted->pdata[i], opaque);
    }
}

/* ---- pended accesses ---- */

MmioResult pended_wait_for(Pended *p, IoAccess *access)
{
    assert_bql();
    PendedWaiter *w = &access->waiter;
    completion_init(&w->done);
    w->what = p->what;
    w->pended = p;
    w->next = p->waiters;
    p->waiters = w;
    return MMIO_PENDING;
}

MmioResult pended_wait_for_io(IoAccess *access, const char *what)
{
    assert_bql();
    completion_init(&access->waiter.done);
    access->waiter.what = what;
    access->waiter.pended = NULL; /* pended_cancel() leaves it alone */
    return MMIO_PENDING;
}

void pended_finish(Pended *p)
{
    assert_bql();
    PendedWaiter *w = p->waiters;
    p->waiters = NULL;
    while (w != NULL) {
        PendedWaiter *next = w->next;
        w->pended = NULL;
        completion_signal(&w->done, 0); /* a waiter that does not take the BQL may be freed now */
        w = next;
    }
}

void pended_cancel(PendedWaiter *w)
{
    assert_bql();
    if (w->pended == NULL) {
        return;
    }
    PendedWaiter **link = &w->pended->waiters;
    while (*link != w) {
        link = &(*link)->next;
    }
    *link = w->next;
    w->pended = NULL;
    completion_signal(&w->done, 0);
}
