/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of the clusters of the file.
 *
 *   refcount table (in memory) -> refcount blocks (in slices) -> counts of 1 << refcount_order bits
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

unsigned qcow2_block_bits(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    return s->header.cluster_bits + 3 - s->header.refcount_order;
}

int qcow2_refcount_block(const BlockNode *n, uint64_t cluster, uint64_t *block)
{
    const Qcow2State *s = n->state;
    const Qcow2Table *t = &s->w.refcount_table;
    uint64_t index = cluster >> qcow2_block_bits(n);
    *block = index < t->count ? t->entries[index] & ~(uint64_t)(QCOW2_SECTOR - 1) : 0;
    if (!block_is_aligned(*block, qcow2_cluster_size(&s->header))) {
        return qcow2_corrupt(
            n, "refcount block %" PRIu64 " is at 0x%" PRIx64 ", which is not aligned to a cluster",
            index, *block);
    }
    return 0;
}

int qcow2_co_get_refcounts(BlockNode *n, uint64_t cluster, Qcow2Slice **slice, uint64_t *index,
                           uint64_t *count)
{
    Qcow2State *s = n->state;
    uint64_t block;
    uint64_t in_block = cluster & (((uint64_t)1 << qcow2_block_bits(n)) - 1);
    uint64_t per_slice = s->w.refcounts.slice_size * 8 >> s->header.refcount_order;
    *slice = NULL;
    *index = in_block % per_slice;
    *count = per_slice - *index;
    int ret = qcow2_refcount_block(n, cluster, &block);
    if (ret < 0 || block == 0) {
        return ret;
    }
    uint64_t at = block + in_block / per_slice * s->w.refcounts.slice_size;
    return qcow2_cache_co_get(&s->w.refcounts, n->file, at, slice);
}

/* Changes refcounts in a slice; stops at the first one that cannot change. */
static RUNS_IN_IOTHREAD int refcount_change(const BlockNode *n, uint8_t *data, uint64_t index,
                                            uint64_t count, int by, uint64_t *done)
{
    const Qcow2State *s = n->state;
    unsigned order = s->header.refcount_order;
    uint64_t max = qcow2_refcount_max(order);
    for (*done = 0; *done < count; (*done)++) {
        uint64_t value = qcow2_refcount_get(data, index + *done, order);
        if (by > 0 && value == max) {
            return -EINVAL;
        }
        if (by < 0 && value == 0) {
            return qcow2_corrupt(n, "a cluster in use has the refcount 0");
        }
        qcow2_refcount_set(data, index + *done, order, by > 0 ? value + 1 : value - 1);
    }
    return 0;
}

int qcow2_co_change_refcounts(BlockNode *n, uint64_t cluster, uint64_t count, int by,
                              uint64_t *done)
{
    Qcow2State *s = n->state;
    for (*done = 0; *done < count;) {
        Qcow2Slice *slice;
        uint64_t index, length, changed = 0;
        int ret = qcow2_co_get_refcounts(n, cluster + *done, &slice, &index, &length);
        if (ret < 0) {
            return ret;
        }
        if (slice == NULL) {
            return qcow2_corrupt(n, "cluster %" PRIu64 " in use has no refcount", cluster + *done);
        }
        ret = qcow2_check_overlap(n, slice->offset, s->w.refcounts.slice_size);
        if (ret == 0) {
            qcow2_cache_mark_dirty(&s->w.refcounts, slice);
            ret = refcount_change(n, slice->data, index, MIN(length, count - *done), by, &changed);
        }
        qcow2_cache_put(&s->w.refcounts, slice);
        *done += changed;
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}
