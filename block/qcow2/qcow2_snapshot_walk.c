/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk through all that an L1 table reaches, in parts:
 *
 *   table 0: slice, slice, ..., the table itself | table 1: ...
 *
 * A part changes the counts of the clusters that the entries of a slice refer to, once for each
 * entry, or the count of the table. A part of which a count cannot be raised is undone at once.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

bool qcow2_walk_ended(const Qcow2Walk *k)
{
    return k->index >= k->count;
}

void qcow2_walk_clear(Qcow2Walk *k)
{
    g_free(k->l1);
    *k = (Qcow2Walk){0};
}

/* ---- counts ---- */

/* A discard of the host can take long, and there can be one for each cluster. So if a drained section
 * waits for this step, the host's space stays allocated, but for the discard that runs. */
static coroutine_fn RUNS_IN_IOTHREAD int walk_lower(BlockNode *n, const GArray *runs)
{
    const Qcow2State *s = n->state;
    int ret = 0;
    for (unsigned i = 0; i < runs->len && ret == 0; i++) {
        Qcow2Free run = g_array_index(runs, Qcow2Free, i);
        while (run.count > 0 && ret == 0) {
            run.discard = n->quiesced == 0 || s->snap.kind == BLOCK_SNAPSHOT_APPLY;
            ret = qcow2_co_free_some(n, &run);
        }
    }
    return ret;
}

/* All counts are raised, or none. */
static coroutine_fn RUNS_IN_IOTHREAD int walk_raise(BlockNode *n, const GArray *runs)
{
    int ret = 0;
    unsigned i = 0;
    uint64_t done = 0, undone;
    for (; i < runs->len && ret == 0; i++) {
        const Qcow2Free *f = &g_array_index(runs, Qcow2Free, i);
        ret = qcow2_co_change_refcounts(n, f->cluster, f->count, 1, &done);
    }
    while (ret < 0 && i > 0) {
        const Qcow2Free *f = &g_array_index(runs, Qcow2Free, --i);
        qcow2_co_change_refcounts(n, f->cluster, done, -1, &undone); /* an error leaks them */
        done = i > 0 ? g_array_index(runs, Qcow2Free, i - 1).count : 0;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int walk_change(BlockNode *n, const GArray *runs, int by)
{
    return by > 0 ? walk_raise(n, runs) : walk_lower(n, runs);
}

static void walk_add(GArray *runs, uint64_t cluster, uint64_t count)
{
    Qcow2Free *last = runs->len > 0 ? &g_array_index(runs, Qcow2Free, runs->len - 1) : NULL;
    if (last != NULL && last->cluster + last->count == cluster) {
        last->count += count;
        return;
    }
    Qcow2Free f = {.cluster = cluster, .count = count, .discard = true};
    g_array_append_val(runs, f);
}

/* ---- parts ---- */

static Qcow2Cache *walk_tables(const BlockNode *n, const Qcow2Walk *k)
{
    Qcow2State *s = n->state;
    return k->tables != NULL ? k->tables : &s->l2;
}

/* Collects the clusters of @count entries of a slice for @offset of the disk. */
static RUNS_IN_IOTHREAD int walk_collect(const BlockNode *n, const Qcow2Slice *slice,
                                         uint64_t count, uint64_t offset, GArray *runs)
{
    const Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    for (uint64_t i = 0; i < count; i++) {
        Qcow2Entry m = qcow2_get_entry(s, slice, i);
        uint64_t host = m.entry & QCOW2_OFFSET_MASK, length = 1;
        int ret = qcow2_check_entry(n, offset + (i << bits), m);
        if (ret < 0) {
            return ret;
        }
        if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
            qcow2_compressed_place(s, m, &host, &length);
        } else if (!qcow2_has_cluster(s, m)) {
            continue;
        }
        uint64_t first = host >> bits;
        walk_add(runs, first, ((host + length - 1) >> bits) - first + 1);
    }
    return 0;
}

/* The disk's offset that the next part begins at; only for messages beyond the disk's end. */
static uint64_t walk_offset(const BlockNode *n, const Qcow2Walk *k)
{
    const Qcow2State *s = n->state;
    uint64_t entry = qcow2_l2_entry_length(&s->header);
    uint64_t entries = qcow2_cluster_size(&s->header) / entry;
    return (k->index * entries + k->slice / entry) << s->header.cluster_bits;
}

/* Sets the flags by the counts of the next part. */
static coroutine_fn RUNS_IN_IOTHREAD int walk_fix(BlockNode *n, const Qcow2Walk *k, uint64_t table)
{
    bool slice = k->slice < qcow2_cluster_size(&((Qcow2State *)n->state)->header);
    if (k->flags == QCOW2_WALK_ACTIVE) {
        return slice ? qcow2_co_fix_slice(n, k->index, k->slice) : qcow2_co_fix_l1(n, k->index);
    }
    return k->flags == QCOW2_WALK_TABLES && slice ? qcow2_co_clear_flags(n, table, k->slice) : 0;
}

/* Changes the counts and then the flags. After an error counts that were raised are lowered, and the
 * flags are set by what the counts are then. */
static coroutine_fn RUNS_IN_IOTHREAD int walk_part(BlockNode *n, const Qcow2Walk *k, uint64_t table,
                                                   int by, const GArray *runs)
{
    Qcow2State *s = n->state;
    int ret = walk_change(n, runs, by);
    bool changed = ret == 0;
    if (ret == 0) {
        ret = walk_fix(n, k, table);
    }
    if (ret < 0 && changed && by > 0) {
        walk_lower(n, runs); /* an error leaks them */
    }
    if (ret < 0 && k->flags == QCOW2_WALK_ACTIVE && walk_fix(n, k, table) < 0) {
        s->w.flags_wrong = true;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int walk_slice(BlockNode *n, const Qcow2Walk *k,
                                                    uint64_t table, int by)
{
    const Qcow2State *s = n->state;
    g_autoptr(GArray) runs = g_array_new(false, false, sizeof(Qcow2Free));
    Qcow2Cache *tables = walk_tables(n, k);
    Qcow2Slice *slice;
    int ret = qcow2_cache_co_get(tables, n->file, table + k->slice, &slice);
    if (ret < 0) {
        return ret;
    }
    uint64_t count = tables->slice_size / qcow2_l2_entry_length(&s->header);
    ret = walk_collect(n, slice, count, walk_offset(n, k), runs);
    qcow2_cache_put(tables, slice);
    return ret == 0 ? walk_part(n, k, table, by, runs) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int walk_table(BlockNode *n, const Qcow2Walk *k,
                                                    uint64_t table, int by)
{
    const Qcow2State *s = n->state;
    g_autoptr(GArray) runs = g_array_new(false, false, sizeof(Qcow2Free));
    if (k->tables !=
        NULL) { /* its changed slices are not to be written to what has the cluster next */
        qcow2_cache_forget(k->tables, table, qcow2_cluster_size(&s->header));
    }
    walk_add(runs, table >> s->header.cluster_bits, 1);
    return walk_part(n, k, table, by, runs);
}

int qcow2_co_walk(BlockNode *n, Qcow2Walk *k, int by)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t table = k->l1[k->index] & QCOW2_OFFSET_MASK;
    int ret = 0;
    if (!block_is_aligned(table, cluster)) {
        return qcow2_corrupt(n,
                             "the L2 table for 0x%" PRIx64 " of the disk is at 0x%" PRIx64
                             ", which is not aligned to a cluster",
                             walk_offset(n, k), table);
    }
    if (table != 0 && k->slice < cluster) {
        ret = walk_slice(n, k, table, by);
        k->slice += ret == 0 ? walk_tables(n, k)->slice_size : 0;
        return ret;
    }
    if (table != 0) {
        ret = walk_table(n, k, table, by);
    }
    if (ret == 0) {
        k->index++;
        k->slice = 0;
    }
    return ret;
}
