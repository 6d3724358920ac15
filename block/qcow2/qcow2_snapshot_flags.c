/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flags COPIED after refcounts have changed.
 *
 * No L2 table is added meanwhile, so the active table stays where it is. Its entries can change: a
 * new entry refers to a new cluster and has the right flag.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

void qcow2_co_flags_begin(Qcow2Writer *w)
{
    while (w->adding_l2) {
        co_queue_wait(&w->l2_waiters, "a new L2 table");
    }
    w->adding_l2 = true;
}

void qcow2_flags_end(Qcow2Writer *w)
{
    w->adding_l2 = false;
    co_queue_wake_all(&w->l2_waiters);
}

/* Whether exactly one reference is counted for the cluster at @host. Negative: -errno. */
static coroutine_fn RUNS_IN_IOTHREAD int flags_is_single(BlockNode *n, uint64_t host)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index, count;
    int ret = qcow2_co_get_refcounts(n, host >> s->header.cluster_bits, &slice, &index, &count);
    if (ret < 0 || slice == NULL) {
        return ret;
    }
    bool single = qcow2_refcount_get(slice->data, index, s->header.refcount_order) == 1;
    qcow2_cache_put(&s->w.refcounts, slice);
    return single;
}

/* ---- slices ---- */

/* Loads a slice to be changed before the next wait. */
static coroutine_fn RUNS_IN_IOTHREAD int flags_get(BlockNode *n, uint64_t at, Qcow2Slice **slice)
{
    Qcow2State *s = n->state;
    for (;;) {
        int ret = qcow2_cache_co_get(&s->l2, n->file, at, slice);
        if (ret < 0 || (*slice)->dirty || (*slice)->writing || !qcow2_cache_full(&s->l2)) {
            return ret;
        }
        qcow2_cache_put(&s->l2, *slice);
        ret = qcow2_co_make_room(n);
        if (ret < 0) {
            return ret;
        }
    }
}

/* Sets the flags in the slice where the entries have the same clusters as in @old; @single has the
 * right ones. The rest of an entry can have changed: zeroes keep the cluster. */
static RUNS_IN_IOTHREAD void flags_set(BlockNode *n, Qcow2Slice *slice, const Qcow2Slice *old,
                                       const bool *single, uint64_t count)
{
    Qcow2State *s = n->state;
    bool changed = false;
    for (uint64_t i = 0; i < count; i++) {
        Qcow2Entry m = qcow2_get_entry(s, slice, i);
        Qcow2Entry o = qcow2_get_entry(s, old, i);
        bool same = ((m.entry ^ o.entry) & QCOW2_OFFSET_MASK) == 0 && qcow2_has_cluster(s, m) &&
                    qcow2_has_cluster(s, o);
        if (same && ((m.entry & QCOW2_ENTRY_COPIED) != 0) != single[i]) {
            m.entry ^= QCOW2_ENTRY_COPIED;
            qcow2_set_entry(s, slice, i, m);
            changed = true;
        }
    }
    if (changed) {
        qcow2_cache_mark_dirty(&s->l2, slice);
    }
}

/* Finds the flags that the entries of a slice should have. 1: some are different. */
static coroutine_fn RUNS_IN_IOTHREAD int flags_compare(BlockNode *n, const Qcow2Slice *copy,
                                                       uint64_t count, bool *single)
{
    const Qcow2State *s = n->state;
    int different = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t entry = qcow2_get_entry(s, copy, i).entry;
        if (!qcow2_has_cluster(s, (Qcow2Entry){.entry = entry})) {
            continue;
        }
        int ret = flags_is_single(n, entry & QCOW2_OFFSET_MASK);
        if (ret < 0) {
            return ret;
        }
        single[i] = ret > 0;
        different |= single[i] != ((entry & QCOW2_ENTRY_COPIED) != 0);
    }
    return different;
}

/* @by_count: by the refcounts; else the flags are cleared. */
static coroutine_fn RUNS_IN_IOTHREAD int flags_fix(BlockNode *n, uint64_t at, bool by_count)
{
    Qcow2State *s = n->state;
    uint64_t count = s->l2.slice_size / qcow2_l2_entry_length(&s->header);
    Qcow2Slice *slice;
    int ret = qcow2_check_overlap(n, at, s->l2.slice_size);
    if (ret == 0) {
        ret = qcow2_cache_co_get(&s->l2, n->file, at, &slice);
    }
    if (ret < 0) {
        return ret;
    }
    g_autofree uint8_t *data = g_memdup2(slice->data, s->l2.slice_size);
    g_autofree bool *single = g_new0(bool, count);
    Qcow2Slice copy = {.data = data};
    qcow2_cache_put(&s->l2, slice);
    ret = by_count ? flags_compare(n, &copy, count, single) : 1;
    if (ret > 0) {
        ret = flags_get(n, at, &slice);
        if (ret == 0) {
            flags_set(n, slice, &copy, single, count);
            qcow2_cache_put(&s->l2, slice);
        }
    }
    return ret;
}

int qcow2_co_fix_slice(BlockNode *n, uint32_t index, uint64_t slice)
{
    Qcow2State *s = n->state;
    int ret = 0;
    qcow2_co_flags_begin(&s->w);
    uint64_t table = index < s->l1.count ? s->l1.entries[index] & QCOW2_OFFSET_MASK : 0;
    if (table != 0 && block_is_aligned(table, qcow2_cluster_size(&s->header))) {
        ret = flags_fix(n, table + slice, true);
    }
    qcow2_flags_end(&s->w);
    return ret;
}

int qcow2_co_clear_flags(BlockNode *n, uint64_t table, uint64_t slice)
{
    return flags_fix(n, table + slice, false);
}

int qcow2_co_fix_l1(BlockNode *n, uint32_t index)
{
    Qcow2State *s = n->state;
    int ret = 0;
    qcow2_co_flags_begin(&s->w);
    uint64_t entry = index < s->l1.count ? s->l1.entries[index] : 0;
    if ((entry & QCOW2_OFFSET_MASK) != 0) {
        ret = flags_is_single(n, entry & QCOW2_OFFSET_MASK);
    }
    if (ret >= 0 && (entry & QCOW2_OFFSET_MASK) != 0 &&
        (ret > 0) != ((entry & QCOW2_ENTRY_COPIED) != 0)) {
        qcow2_table_set(&s->l1, index, entry ^ QCOW2_ENTRY_COPIED);
    }
    qcow2_flags_end(&s->w);
    return MIN(ret, 0);
}
