/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of another width: new blocks and a new table behind all clusters in use, which count the old
 * ones too.
 *
 *   clusters in use | blocks | table |     --flush--> header, one sector --flush--> old ones are freed
 *                   ^ first          ^ end
 */
#include <errno.h>
#include "block/qcow2/qcow2_amend.h"
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

#define REFCOUNTS_TURN_SLICES 64u /* in one turn of the loop */

typedef struct Refcounts {
    BlockNode *node;
    unsigned order;
    uint64_t per_block;        /* new refcounts of a block */
    uint64_t first, end;       /* clusters of the new part */
    uint64_t blocks, table;    /* its clusters */
    uint64_t max_cluster, max; /* the largest refcount, and which cluster has it */
    uint64_t known, known_end; /* clusters whose old refcounts are in @slice */
    Qcow2Slice *slice;         /* held; NULL: none */
    uint64_t slice_index;      /* of the refcount of @known */
    unsigned slices;
} Refcounts;

static RUNS_IN_IOTHREAD void refcounts_put(Refcounts *r)
{
    Qcow2State *s = r->node->state;
    if (r->slice != NULL) {
        qcow2_cache_put(&s->w.refcounts, r->slice);
        r->slice = NULL;
    }
    r->known = r->known_end = 0;
}

/* Loads the slice for @cluster; without a block its refcounts are 0. */
static coroutine_fn RUNS_IN_IOTHREAD int refcounts_load(Refcounts *r, uint64_t cluster)
{
    uint64_t count;
    refcounts_put(r);
    if (++r->slices % REFCOUNTS_TURN_SLICES == 0) {
        co_yield_turn();
    }
    int ret = qcow2_co_get_refcounts(r->node, cluster, &r->slice, &r->slice_index, &count);
    r->known = cluster;
    r->known_end = cluster + count;
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int refcounts_get(Refcounts *r, uint64_t cluster,
                                                       uint64_t *value)
{
    const Qcow2State *s = r->node->state;
    int ret = 0;
    if (cluster < r->known || cluster >= r->known_end) {
        ret = refcounts_load(r, cluster);
    }
    *value = ret == 0 && r->slice != NULL
                 ? qcow2_refcount_get(r->slice->data, r->slice_index + cluster - r->known,
                                      s->header.refcount_order)
                 : 0;
    return ret;
}

/* ---- checks ---- */

/* Finds the end of the clusters in use, and the largest refcount. */
static coroutine_fn RUNS_IN_IOTHREAD int refcounts_survey(Refcounts *r)
{
    const Qcow2State *s = r->node->state;
    const Qcow2Table *t = &s->w.refcount_table;
    unsigned bits = qcow2_block_bits(r->node);
    int ret = 0;
    for (uint32_t i = 0; i < t->count && ret == 0; i++) {
        uint64_t start = (uint64_t)i << bits, end = ((uint64_t)i + 1) << bits;
        for (uint64_t c = start; t->entries[i] != 0 && c < end && ret == 0; c++) {
            uint64_t value;
            ret = refcounts_get(r, c, &value);
            r->first = value != 0 ? c + 1 : r->first;
            if (value > r->max) {
                r->max = value;
                r->max_cluster = c;
            }
        }
    }
    refcounts_put(r);
    return ret;
}

static bool refcounts_check_max(const Refcounts *r, GError **error)
{
    const Qcow2State *s = r->node->state;
    if (r->max > qcow2_refcount_max(r->order)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Cannot decrease refcount entry width to %u bits: Cluster at offset 0x%" PRIx64
                    " has a refcount of %" PRIu64,
                    1u << r->order, r->max_cluster << s->header.cluster_bits, r->max);
    }
    return r->max <= qcow2_refcount_max(r->order);
}

bool qcow2_co_check_refcount_order(BlockNode *n, unsigned order, GError **error)
{
    const Qcow2State *s = n->state;
    Refcounts r = {.node = n, .order = order};
    if (order >= s->header.refcount_order) {
        return true;
    }
    int ret = refcounts_survey(&r);
    return ret == 0 ? refcounts_check_max(&r, error)
                    : qcow2_amend_failed(error, "Failed to read the refcounts", ret);
}

/* ---- the new part ---- */

static int refcounts_lay_out(Refcounts *r)
{
    const Qcow2State *s = r->node->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t old;
    r->per_block = qcow2_cluster_size(&s->header) * 8 >> r->order;
    r->blocks = r->table = 1;
    do {
        old = r->blocks + r->table;
        r->end = r->first + old;
        r->blocks = (r->end + r->per_block - 1) / r->per_block;
        r->table = (r->blocks * sizeof(uint64_t) + qcow2_cluster_size(&s->header) - 1) >> bits;
    } while (r->blocks + r->table != old);
    if (r->table << bits > QCOW2_REFCOUNT_TABLE_BYTES_MAX || r->end << bits > QCOW2_OFFSET_MASK) {
        return -EFBIG;
    }
    return !r->node->file->caps.grows && r->end << bits > block_node_size(r->node->file) ? -ENOSPC
                                                                                         : 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int refcounts_fill(Refcounts *r, uint64_t index,
                                                        uint8_t *block)
{
    const Qcow2State *s = r->node->state;
    int ret = 0;
    memset(block, 0, qcow2_cluster_size(&s->header));
    for (uint64_t i = 0; i < r->per_block && ret == 0; i++) {
        uint64_t cluster = index * r->per_block + i, value = 0;
        if (cluster >= r->end) {
            break;
        }
        if (cluster >= r->first) {
            value = 1;
        } else {
            ret = refcounts_get(r, cluster, &value);
        }
        if (value != 0) {
            qcow2_refcount_set(block, i, r->order, value);
        }
    }
    refcounts_put(r); /* the next write waits */
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int refcounts_write(Refcounts *r)
{
    Qcow2State *s = r->node->state;
    uint64_t cluster = qcow2_cluster_size(&s->header), host = r->first * cluster;
    g_autofree uint8_t *block = g_malloc(cluster);
    g_autofree uint64_t *table = g_malloc0(r->table * cluster);
    struct iovec iov = {block, cluster};
    int ret = qcow2_check_free(r->node, r->first, r->end - r->first);
    if (ret < 0) {
        return ret;
    }
    if (!qcow2_cache_forget(&s->l2, host, (r->end - r->first) * cluster)) {
        return qcow2_corrupt(r->node, "the free cluster at 0x%" PRIx64 " is a table in use", host);
    }
    for (uint64_t i = 0; i < r->blocks && ret == 0; i++) {
        ret = refcounts_fill(r, i, block);
        if (ret == 0) {
            ret = block_node_co_pwritev(r->node->file, host + i * cluster, cluster, &iov, 1, 0);
        }
        table[i] = htobe64(host + i * cluster);
    }
    iov = (struct iovec){table, r->table * cluster};
    if (ret == 0) {
        ret = block_node_co_pwritev(r->node->file, host + r->blocks * cluster, iov.iov_len, &iov, 1,
                                    0);
    }
    return ret == 0 ? block_node_co_flush(r->node->file) : ret;
}

/* ---- the switch ---- */

/* The header leads to the new part. */
static coroutine_fn RUNS_IN_IOTHREAD int refcounts_switch(const Refcounts *r)
{
    Qcow2State *s = r->node->state;
    Qcow2Header old = s->header;
    uint8_t sector[QCOW2_SECTOR];
    qcow2_co_commit_begin(&s->w);
    s->header.refcount_order = r->order;
    s->header.refcount_offset = (r->first + r->blocks) << s->header.cluster_bits;
    s->header.refcount_clusters = (uint32_t)r->table;
    qcow2_header_encode(&s->header, s->w.sector, sector);
    int ret = qcow2_co_write_header(r->node, sector);
    if (ret == 0) {
        ret = block_node_co_flush(r->node->file);
    }
    if (ret < 0) {
        s->header = old;
    }
    qcow2_commit_end(&s->w);
    return ret;
}

/* Frees the old table, which had @table, and its blocks. */
static coroutine_fn RUNS_IN_IOTHREAD void refcounts_free(BlockNode *n, Qcow2Run table,
                                                         const uint64_t *entries, uint64_t count)
{
    qcow2_co_unalloc(n, &table);
    for (uint64_t i = 0; i < count; i++) {
        Qcow2Run block = {.host = entries[i] & ~(uint64_t)(QCOW2_SECTOR - 1), .count = 1};
        if (block.host != 0) {
            qcow2_co_unalloc(n, &block);
        }
    }
}

bool qcow2_co_change_refcount_order(BlockNode *n, unsigned order, GError **error)
{
    Qcow2State *s = n->state;
    Refcounts r = {.node = n, .order = order};
    Qcow2Run table = {.host = s->header.refcount_offset, .count = s->header.refcount_clusters};
    int ret = qcow2_co_finish_writer(n); /* all refcounts are on disk */
    if (ret == 0) {
        ret = refcounts_survey(&r);
    }
    if (ret == 0 && !refcounts_check_max(&r, error)) {
        return false;
    }
    uint64_t count = s->w.refcount_table.count;
    g_autofree uint64_t *old = g_memdup2(s->w.refcount_table.entries, count * sizeof(uint64_t));
    if (ret == 0) {
        ret = refcounts_lay_out(&r);
    }
    if (ret == 0) {
        ret = refcounts_write(&r);
    }
    if (ret == 0) {
        ret = refcounts_switch(&r);
    }
    if (ret < 0) {
        return qcow2_amend_failed(error, "Failed to write the refcounts", ret);
    }
    qcow2_writer_free(&s->w);
    if (!qcow2_co_load_writer(n, error)) {
        return false;
    }
    ret = qcow2_co_begin_change(n);
    if (ret == 0) {
        refcounts_free(n, table, old, count);
        ret = qcow2_co_flush(n);
    }
    return ret == 0 || qcow2_amend_failed(error, "Failed to free the old refcounts", ret);
}
