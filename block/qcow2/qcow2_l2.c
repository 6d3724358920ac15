/* SPDX-License-Identifier: Apache-2.0 */
/*
 * L2 tables that can be changed.
 *
 *   L1 entry 0, or without COPIED --> new table: zeroes, or a copy --> COPIED: changed in its slices
 *
 * A copy is on disk before the L1 table in memory refers to it. A table of zeroes is used at once: it
 * is written meanwhile, and a commit waits for that, since it writes slices of the table. One table
 * is added at a time. A table without COPIED is shared with a snapshot; only its flags change.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

typedef struct L2Place {
    uint64_t l1_index;
    uint64_t slice; /* offset in the table */
    uint64_t index; /* of the entry in the slice */
} L2Place;

static L2Place l2_find(const BlockNode *n, uint64_t offset)
{
    const Qcow2State *s = n->state;
    uint64_t entry_length = qcow2_l2_entry_length(&s->header);
    uint64_t entries = qcow2_cluster_size(&s->header) / entry_length;
    uint64_t number = offset >> s->header.cluster_bits;
    uint64_t at = number % entries * entry_length;
    return (L2Place){.l1_index = number / entries,
                     .slice = block_align_down(at, s->l2.slice_size),
                     .index = at % s->l2.slice_size / entry_length};
}

uint64_t qcow2_slice_covers(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    return s->l2.slice_size / qcow2_l2_entry_length(&s->header) << s->header.cluster_bits;
}

static RUNS_IN_IOTHREAD int l2_check(const BlockNode *n, uint64_t offset, uint64_t table)
{
    const Qcow2State *s = n->state;
    if (!block_is_aligned(table, qcow2_cluster_size(&s->header))) {
        return qcow2_corrupt(n,
                             "the L2 table for 0x%" PRIx64 " of the disk is at 0x%" PRIx64
                             ", which is not aligned to a cluster",
                             offset, table);
    }
    return 0;
}

/* ---- a new table of zeroes ---- */

#define L2_BIRTHS_MAX 64u /* tables that are being written at a time */
#define L2_ZEROES ((uint64_t)64 << 10)

/* Never written. All writes of new tables share it, since there can be many while storage hangs. */
static uint8_t l2_zeroes[L2_ZEROES] __attribute__((aligned(BLOCK_MEMORY_ALIGNMENT_MAX)));

int qcow2_co_write_zero_table(BlockNode *n, uint64_t table)
{
    const Qcow2State *s = n->state;
    struct iovec iov[((uint64_t)1 << QCOW2_CLUSTER_BITS_MAX) / L2_ZEROES];
    uint64_t size = qcow2_cluster_size(&s->header), part = MIN(size, L2_ZEROES);
    unsigned count = (unsigned)(size / part);
    for (unsigned i = 0; i < count; i++) {
        iov[i] = (struct iovec){l2_zeroes, part};
    }
    return block_node_co_pwritev(n->file, table, size, iov, count, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int l2_write_zeroes(BlockNode *n, uint64_t table)
{
    Qcow2State *s = n->state;
    int ret = qcow2_co_write_zero_table(n, table);
    if (ret == 0) {
        qcow2_cache_end_zeroes(&s->l2, table);
    }
    return ret;
}

typedef struct L2Birth {
    BlockNode *node;
    uint64_t table;
} L2Birth;

static void l2_birth_run(void *opaque)
{
    L2Birth *b = opaque;
    Qcow2Writer *w = &((Qcow2State *)b->node->state)->w;
    enter_coroutine();
    enter_iothread(b->node->home);
    l2_write_zeroes(b->node, b->table); /* after an error the next commit repeats it */
    w->births--;
    co_queue_wake_all(&w->l2_waiters);
    block_node_end(b->node);
    g_free(b);
}

/* Writes the table while its slices are in use already; the request that needs it does not wait,
 * unless too many tables are being written. */
static coroutine_fn RUNS_IN_IOTHREAD void l2_co_begin_zeroes(BlockNode *n, uint64_t table)
{
    Qcow2State *s = n->state;
    while (s->w.births >= L2_BIRTHS_MAX) {
        co_queue_wait(&s->w.l2_waiters, "the writes of new L2 tables");
    }
    L2Birth *b = g_new(L2Birth, 1);
    *b = (L2Birth){.node = n, .table = table};
    qcow2_cache_begin_zeroes(&s->l2, table);
    s->w.births++;
    block_node_begin(n);
    co_start(n->home, l2_birth_run, b);
}

int qcow2_co_settle_l2(BlockNode *n)
{
    Qcow2State *s = n->state;
    int ret = 0;
    while (s->w.births > 0) {
        co_queue_wait(&s->w.l2_waiters, "a new L2 table");
    }
    while (s->l2.zeroes->len > 0 && s->w.births == 0 && ret == 0) { /* their writes have failed */
        ret = l2_write_zeroes(n, g_array_index(s->l2.zeroes, uint64_t, 0));
    }
    return ret;
}

/* ---- a new table ---- */

/* Copies the table at @old, whose slices may differ from the disk. */
static coroutine_fn RUNS_IN_IOTHREAD int l2_read(BlockNode *n, uint64_t old, uint8_t *buffer)
{
    Qcow2State *s = n->state;
    uint64_t size = qcow2_cluster_size(&s->header);
    for (uint64_t at = 0; at < size; at += s->l2.slice_size) {
        Qcow2Slice *slice;
        int ret = qcow2_cache_co_get(&s->l2, n->file, old + at, &slice);
        if (ret < 0) {
            return ret;
        }
        memcpy(buffer + at, slice->data, s->l2.slice_size);
        qcow2_cache_put(&s->l2, slice);
    }
    return 0;
}

/* Writes a copy of the table at @old for @run. */
static coroutine_fn RUNS_IN_IOTHREAD int l2_write_copy(BlockNode *n, const Qcow2Run *run,
                                                       uint64_t old)
{
    const Qcow2State *s = n->state;
    uint64_t size = qcow2_cluster_size(&s->header);
    g_autofree uint8_t *buffer = g_malloc(size);
    struct iovec iov = {buffer, size};
    int ret = l2_read(n, old, buffer);
    return ret == 0 ? block_node_co_pwritev(n->file, run->host, size, &iov, 1, 0) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int l2_add(BlockNode *n, uint64_t offset, uint64_t l1_index)
{
    Qcow2State *s = n->state;
    uint64_t old = s->l1.entries[l1_index] & QCOW2_OFFSET_MASK;
    Qcow2Run run;
    int ret = l2_check(n, offset, old);
    if (ret == 0) {
        ret = qcow2_co_alloc_table(n, 1, &run);
    }
    if (ret < 0) {
        return ret;
    }
    if (old == 0) {
        l2_co_begin_zeroes(n, run.host);
    } else {
        ret = l2_write_copy(n, &run, old);
    }
    if (ret < 0) {
        qcow2_co_unalloc(n, &run);
        return ret;
    }
    s->w.data_written = true; /* the table is to be flushed before the L1 entry */
    qcow2_table_set(&s->l1, l1_index, run.host | QCOW2_ENTRY_COPIED);
    if (old != 0) {
        qcow2_free_later(n, old, qcow2_cluster_size(&s->header), false);
    }
    return 0;
}

/* Finds the table, which is not shared, for l1_index; adds it if needed. */
static coroutine_fn RUNS_IN_IOTHREAD int l2_own(BlockNode *n, uint64_t offset, uint64_t l1_index)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    while (!qcow2_owns(n, s->l1.entries[l1_index]) ||
           (s->l1.entries[l1_index] & QCOW2_OFFSET_MASK) == 0) {
        if (w->adding_l2) {
            co_queue_wait(&w->l2_waiters, "a new L2 table");
            continue;
        }
        w->adding_l2 = true;
        int ret = l2_add(n, offset, l1_index);
        w->adding_l2 = false;
        co_queue_wake_all(&w->l2_waiters);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* ---- slices ---- */

int qcow2_co_look_l2(BlockNode *n, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
{
    Qcow2State *s = n->state;
    L2Place p = l2_find(n, offset);
    uint64_t table = s->l1.entries[p.l1_index] & QCOW2_OFFSET_MASK;
    *index = p.index;
    *slice = NULL;
    if (table == 0) {
        return 0;
    }
    int ret = l2_check(n, offset, table);
    return ret < 0 ? ret : qcow2_cache_co_get(&s->l2, n->file, table + p.slice, slice);
}

int qcow2_co_change_l2(BlockNode *n, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
{
    Qcow2State *s = n->state;
    L2Place p = l2_find(n, offset);
    *index = p.index;
    for (;;) {
        int ret = l2_own(n, offset, p.l1_index);
        uint64_t table = s->l1.entries[p.l1_index] & QCOW2_OFFSET_MASK;
        if (ret == 0) {
            ret = l2_check(n, offset, table);
        }
        if (ret == 0) {
            ret = qcow2_check_overlap(n, table, qcow2_cluster_size(&s->header));
        }
        if (ret == 0) {
            ret = qcow2_cache_co_get(&s->l2, n->file, table + p.slice, slice);
        }
        if (ret < 0) {
            return ret;
        }
        bool room = (*slice)->dirty || (*slice)->writing || !qcow2_cache_full(&s->l2);
        /* Reserved bits of the entry, which a damaged image has, do not matter. */
        uint64_t entry = s->l1.entries[p.l1_index] & (QCOW2_OFFSET_MASK | QCOW2_ENTRY_COPIED);
        if (room && entry == (table | QCOW2_ENTRY_COPIED)) {
            qcow2_cache_mark_dirty(&s->l2, *slice);
            return 0;
        }
        qcow2_cache_put(&s->l2, *slice);
        if (!room) {
            ret = qcow2_co_make_room(n);
        }
        if (ret < 0) {
            return ret;
        }
    }
}
