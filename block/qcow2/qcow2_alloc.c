/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation of clusters: first fit from a hint. A region without a refcount block is free; the
 * allocator creates the block in it. One allocation runs at a time.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

#define ALLOC_TURN_SLICES 64u /* looked at in one turn of the loop */

/* ---- the search ---- */

typedef struct Search {
    uint64_t at; /* next cluster to look at */
    uint64_t want;
    bool whole;
    uint64_t first, count; /* found */
} Search;

/* Looks at the refcounts of a slice. True: the search ends. */
static bool search_slice(const BlockNode *n, Search *f, const Qcow2Slice *slice, uint64_t index,
                         uint64_t count)
{
    const Qcow2State *s = n->state;
    for (uint64_t i = 0; i < count; i++, f->at++) {
        if (qcow2_refcount_get(slice->data, index + i, s->header.refcount_order) != 0) {
            if (f->count > 0 && !f->whole) {
                return true;
            }
            f->count = 0;
            continue;
        }
        if (f->count == 0) {
            f->first = f->at;
        }
        if (++f->count == f->want) {
            return true;
        }
    }
    return false;
}

/* Looks until something is found, or a region has no block: then *@missing. */
static coroutine_fn RUNS_IN_IOTHREAD int search_blocks(BlockNode *n, Search *f, bool *missing)
{
    Qcow2State *s = n->state;
    bool found = false;
    unsigned slices = 0;
    *missing = false;
    while (!found) {
        if (++slices % ALLOC_TURN_SLICES == 0) {
            co_yield_turn(); /* slices in memory do not wait, and an image can have very many */
        }
        Qcow2Slice *slice;
        uint64_t index, count;
        int ret = qcow2_co_get_refcounts(n, f->at, &slice, &index, &count);
        if (ret < 0) {
            return ret;
        }
        if (slice == NULL) {
            *missing = true;
            return 0;
        }
        found = search_slice(n, f, slice, index, count);
        qcow2_cache_put(&s->w.refcounts, slice);
    }
    return 0;
}

/* The first cluster behind all refcount blocks. */
static uint64_t search_end(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    const Qcow2Table *t = &s->w.refcount_table;
    uint32_t used = t->count;
    while (used > 0 && t->entries[used - 1] == 0) {
        used--;
    }
    return (uint64_t)used << qcow2_block_bits(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int search_run(BlockNode *n, Search *f)
{
    for (;;) {
        bool missing;
        int ret = search_blocks(n, f, &missing);
        if (ret < 0 || !missing || (f->count > 0 && !f->whole)) {
            return ret;
        }
        if (f->whole) { /* the run must not have a block in its middle */
            f->at = search_end(n);
        }
        f->count = 0;
        ret = qcow2_co_grow_refcounts(n, f->at, f->whole ? f->want : 0);
        if (ret < 0) {
            return ret;
        }
    }
}

/* ---- allocation ---- */

static int alloc_check_size(const BlockNode *n, const Search *f)
{
    const Qcow2State *s = n->state;
    uint64_t end = (f->first + f->count) << s->header.cluster_bits;
    if (end > QCOW2_OFFSET_MASK) {
        return -EFBIG;
    }
    return !n->file->caps.grows && end > block_node_size(n->file) ? -ENOSPC : 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int alloc_take(BlockNode *n, const Search *f)
{
    uint64_t done, undone;
    int ret = alloc_check_size(n, f);
    if (ret == 0) {
        ret = qcow2_check_free(n, f->first, f->count);
    }
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_co_change_refcounts(n, f->first, f->count, 1, &done);
    if (ret < 0) {
        qcow2_co_change_refcounts(n, f->first, done, -1, &undone);
    } else {
        qcow2_snap_allocated(n, f->first, f->count);
    }
    return ret;
}

/* Extends the file beyond what has been allocated, so that few writes extend it: file systems carry
 * those out one at a time. An error means that the writes extend it, or fail. */
static coroutine_fn RUNS_IN_IOTHREAD void alloc_make_room(BlockNode *n)
{
    const Qcow2State *s = n->state;
    uint64_t end = s->w.fresh << s->header.cluster_bits;
    if (n->file->caps.grows && end > block_node_size(n->file)) {
        block_node_co_truncate(n->file, end + QCOW2_ROOM);
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int alloc_run(BlockNode *n, uint64_t want, bool whole,
                                                   Qcow2Run *run)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    Search f = {.at = w->hint, .want = want, .whole = whole};
    w->freed = UINT64_MAX;
    int ret = search_run(n, &f);
    if (ret == 0) {
        ret = alloc_take(n, &f);
    }
    if (ret == 0) {
        *run = (Qcow2Run){.host = f.first << s->header.cluster_bits,
                          .count = f.count,
                          .fresh = n->file->caps.grows && f.first >= w->fresh};
        w->fresh = MAX(w->fresh, f.first + f.count);
        alloc_make_room(n);
        if (!whole) {
            w->hint = MIN(f.first + f.count, w->freed);
        }
    }
    return ret;
}

int qcow2_co_alloc(BlockNode *n, uint64_t want, bool whole, Qcow2Run *run)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    while (w->allocating) {
        co_queue_wait(&w->alloc_waiters, "an allocation of clusters");
    }
    w->allocating = true;
    int ret = alloc_run(n, want, whole, run);
    w->allocating = false;
    co_queue_wake_one(&w->alloc_waiters);
    return ret;
}

int qcow2_co_trim_room(BlockNode *n, uint64_t packed_end)
{
    const Qcow2State *s = n->state;
    uint64_t end = s->w.fresh << s->header.cluster_bits;
    if (packed_end > end - qcow2_cluster_size(&s->header)) {
        end = block_align_up(packed_end, QCOW2_SECTOR);
    }
    bool room = n->file->caps.grows && end < block_node_size(n->file);
    return room ? block_node_co_truncate(n->file, end) : 0;
}

void qcow2_co_unalloc(BlockNode *n, const Qcow2Run *run)
{
    Qcow2State *s = n->state;
    uint64_t done, first = run->host >> s->header.cluster_bits;
    qcow2_co_change_refcounts(n, first, run->count, -1, &done); /* an error leaks them */
    qcow2_note_free(&s->w, first);
}

void qcow2_note_free(Qcow2Writer *w, uint64_t cluster)
{
    w->hint = MIN(w->hint, cluster);
    w->freed = MIN(w->freed, cluster);
}

int qcow2_co_alloc_table(BlockNode *n, uint64_t want, Qcow2Run *run)
{
    Qcow2State *s = n->state;
    uint64_t bytes = want << s->header.cluster_bits;
    int ret = qcow2_co_alloc(n, want, true, run);
    if (ret < 0) {
        return ret;
    }
    if (!qcow2_cache_forget(&s->l2, run->host, bytes) ||
        !qcow2_cache_forget(&s->w.refcounts, run->host, bytes)) {
        return qcow2_corrupt(n, "the free cluster at 0x%" PRIx64 " is a table in use", run->host);
    }
    return 0;
}
