/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block status: what the L2 tables say about a range.
 *
 * | kind        | flags         | map_offset            |
 * |-------------|---------------|-----------------------|
 * | UNALLOCATED | none          | a reserved cluster    |
 * | ZERO        | ZERO          | a reserved cluster    |
 * | DATA        | DATA          | the data              |
 * | COMPRESSED  | DATA          | none                  |
 *
 * In an image whose clusters were preallocated, data that was never written is a hole of the data
 * file. There the data file is searched for holes too. As in QEMU, an image is such a one if its
 * refcounts are above zero for clearly more clusters than the file has on the host.
 */
#include "block/qcow2/qcow2_int.h"
#include "util/zero.h"

/* ---- preallocation ---- */

/* Counts entries of a refcount block that are not zero, at most @entries of them. */
static uint64_t status_count_used(const uint8_t *block, uint64_t entries, unsigned order)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < entries; i++) {
        if (order < 3) {
            unsigned bits = 1u << order, in_byte = 8u >> order;
            unsigned shift = (unsigned)(i % in_byte) * bits;
            used += (block[i / in_byte] >> shift & ((1u << bits) - 1)) != 0;
            continue;
        }
        size_t width = (size_t)1 << (order - 3);
        used += !bytes_are_zero(block + i * width, width);
    }
    return used;
}

/* Whether at least @threshold of the file's first @clusters clusters are in use. */
static coroutine_fn RUNS_IN_IOTHREAD bool status_uses(BlockNode *n, uint64_t clusters,
                                                      uint64_t threshold)
{
    const Qcow2State *s = n->state;
    const Qcow2Header *h = &s->header;
    uint64_t cluster = qcow2_cluster_size(h);
    uint64_t in_block = cluster * 8 >> h->refcount_order;
    uint64_t table_entries = (uint64_t)h->refcount_clusters * cluster / sizeof(uint64_t);
    uint64_t used = 0;
    g_autofree uint8_t *block = g_malloc(cluster);
    for (uint64_t i = 0; i < table_entries && i * in_block < clusters && used < threshold; i++) {
        uint64_t entry;
        if (qcow2_co_read_table(n->file, h->refcount_offset + i * sizeof(entry), sizeof(entry),
                                &entry) < 0) {
            return false;
        }
        entry = be64toh(entry) & QCOW2_OFFSET_MASK;
        if (entry == 0) {
            continue;
        }
        if (qcow2_co_read_table(n->file, entry, cluster, block) < 0) {
            return false;
        }
        used += status_count_used(block, MIN(in_block, clusters - i * in_block), h->refcount_order);
    }
    return used >= threshold;
}

static coroutine_fn RUNS_IN_IOTHREAD bool status_is_preallocated(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (!s->preallocation_checked) {
        uint64_t cluster = qcow2_cluster_size(&s->header);
        uint64_t clusters = (block_node_size(n->file) + cluster - 1) / cluster;
        int64_t allocated = block_node_co_allocated_size(n->file);
        if (allocated >= 0) {
            uint64_t there = (uint64_t)allocated / cluster;
            s->preallocated = status_uses(n, clusters, MAX(there * 10 / 9, there + 2));
        }
        s->preallocation_checked = true;
    }
    return s->preallocated;
}

/* ---- the answer ---- */

int qcow2_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                          BlockStatus *status)
{
    Qcow2State *s = n->state;
    Qcow2Extent e;
    Qcow2Use use;
    qcow2_use_begin(&s->w, &use);
    int ret = qcow2_co_map(n, offset, bytes, &e);
    qcow2_use_end(n, &use);
    if (ret < 0) {
        return ret;
    }
    *status = (BlockStatus){.bytes = e.bytes};
    if (e.kind == QCOW2_DATA || e.reserved) {
        status->flags = BLOCK_STATUS_OFFSET_VALID;
        status->map_node = s->data;
        status->map_offset = e.host;
    }
    if (e.kind == QCOW2_ZERO) {
        status->flags |= BLOCK_STATUS_ZERO;
    } else if (e.kind != QCOW2_UNALLOCATED) {
        status->flags |= BLOCK_STATUS_DATA;
    }
    if (precise && e.kind == QCOW2_DATA && status_is_preallocated(n)) {
        status->flags |= BLOCK_STATUS_RECURSE;
    }
    return 0;
}
