/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Other sizes of the disk. No other request is in flight.
 *
 *   larger:   L1 table large enough -> what the disk gets reads as zeroes, on disk -> size in the
 *             header
 *   smaller:  size in the header -> clusters behind the new end are unallocated
 *
 * A larger L1 table is written as a whole to a new place. The next commit writes its place to the
 * header before anything that only it refers to. A shrunken image keeps its L1 table, its L2 tables
 * and the length of its file.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- the L1 table ---- */

static coroutine_fn RUNS_IN_IOTHREAD int resize_l1(BlockNode *n, uint64_t size)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t count = qcow2_l1_needed(&s->header, size);
    uint64_t old_bytes = (uint64_t)s->l1.count * sizeof(uint64_t);
    if (count <= s->l1.count) {
        return 0;
    }
    if (count > QCOW2_L1_BYTES_MAX / sizeof(uint64_t)) {
        return -EFBIG;
    }
    Qcow2Run run;
    uint64_t clusters = (count * sizeof(uint64_t) + cluster - 1) / cluster;
    int ret = qcow2_co_alloc_table(n, clusters, &run);
    if (ret < 0) {
        return ret;
    }
    Qcow2Table larger = {0};
    qcow2_table_init(&larger, g_new0(uint64_t, MAX(s->l1.count, 1)), s->l1.count);
    memcpy(larger.entries, s->l1.entries, old_bytes);
    qcow2_table_extend(&larger, (uint32_t)count);
    ret = qcow2_co_write_table(n, &larger, run.host);
    if (ret < 0) {
        qcow2_table_free(&larger);
        qcow2_co_unalloc(n, &run);
        return ret;
    }
    qcow2_table_free(&s->l1);
    s->l1 = larger;
    if (old_bytes > 0) {
        qcow2_free_later(n, s->header.l1_offset, old_bytes, false);
    }
    s->header.l1_offset = run.host;
    s->header.l1_size = (uint32_t)count;
    s->w.header_dirty = true;
    return 0;
}

/* ---- the contents ---- */

/* Makes an extent zeroes; whole clusters without data if the image can. */
static coroutine_fn RUNS_IN_IOTHREAD int resize_zero_extent(BlockNode *n, uint64_t offset,
                                                            uint64_t bytes)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    int ret = -ENOTSUP;
    if (block_is_aligned(offset | bytes, cluster)) {
        ret = qcow2_co_write_zeroes(n, offset, bytes, BLOCK_REQ_MAY_UNMAP);
    }
    return ret == -ENOTSUP ? qcow2_co_write_zero_data(n, offset, bytes) : ret;
}

/* Makes the new part of the disk zeroes: the rest of the last cluster, what the backing file has
 * there, and what an earlier resize could not cut off. */
static coroutine_fn RUNS_IN_IOTHREAD int resize_zero(BlockNode *n, uint64_t old, uint64_t size)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t backing = n->backing != NULL ? block_node_size(n->backing) : 0;
    uint64_t end = block_align_up(size, cluster);
    int ret = 0;
    for (uint64_t at = old; at < end && ret == 0;) {
        Qcow2Extent e;
        uint64_t rest = block_is_aligned(at, cluster) ? end - at : cluster - (at & (cluster - 1));
        ret = qcow2_co_map(n, at, rest, &e);
        if (ret < 0) {
            break;
        }
        if (e.kind == QCOW2_UNALLOCATED && at < backing && block_is_aligned(at, cluster)) {
            e.bytes = MIN(e.bytes, block_align_up(backing, cluster) - at);
        }
        bool zero = e.kind == QCOW2_ZERO || (e.kind == QCOW2_UNALLOCATED && at >= backing);
        if (!zero) {
            ret = resize_zero_extent(n, at, e.bytes);
        }
        at += e.bytes;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int resize_set(BlockNode *n, uint64_t size)
{
    Qcow2State *s = n->state;
    s->header.size = size;
    s->w.header_dirty = true;
    return qcow2_co_flush(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int resize_grow(BlockNode *n, uint64_t old, uint64_t size)
{
    const Qcow2State *s = n->state;
    bool raw = (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    int ret = resize_l1(n, size);
    if (ret == 0 && raw && block_node_size(s->data) < size) {
        ret = block_node_co_truncate(s->data, size);
    }
    if (ret == 0) {
        ret = resize_zero(n, old, size);
    }
    if (ret == 0) {
        ret = qcow2_co_flush(n); /* a commit writes the header before L2 entries */
    }
    return ret == 0 ? resize_set(n, size) : ret;
}

/* The clusters are cut off after the size is on disk. What cannot be cut off does no harm. */
static coroutine_fn RUNS_IN_IOTHREAD int resize_shrink(BlockNode *n, uint64_t old, uint64_t size)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t start = block_align_up(size, cluster), end = block_align_up(old, cluster);
    bool raw = (s->header.autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) != 0;
    int ret = resize_set(n, size);
    if (ret == 0 && start < end) {
        qcow2_co_cut(n, start, end - start);
        qcow2_co_flush(n);
    }
    return ret == 0 && raw ? block_node_co_truncate(s->data, size) : ret;
}

int qcow2_co_truncate(BlockNode *n, uint64_t size)
{
    Qcow2State *s = n->state;
    uint64_t old = s->header.size;
    if (s->header.version < 3 && s->header.snapshots > 0) {
        return -ENOTSUP; /* its snapshots do not have their own size */
    }
    int ret = qcow2_co_begin_change(n);
    if (ret == 0) {
        ret = size >= old ? resize_grow(n, old, size) : resize_shrink(n, old, size);
    }
    if (ret < 0 && s->header.size != old) { /* on disk it is old or new: a commit writes the old */
        s->header.size = old;
        s->w.header_dirty = true;
    }
    return qcow2_co_save_corrupt(n, ret);
}
