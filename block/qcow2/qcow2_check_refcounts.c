/* SPDX-License-Identifier: Apache-2.0 */
/* Refcount blocks: they are counted, and compared with the computed refcounts. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

int qcow2_check_co_load_refcount_table(Qcow2Check *c)
{
    uint64_t bytes = (uint64_t)c->header.refcount_clusters << c->header.cluster_bits;
    c->refcount_entries = bytes / sizeof(uint64_t);
    c->refcount_table = g_try_malloc(bytes);
    int ret = c->refcount_table != NULL
                  ? qcow2_check_co_read(c, c->header.refcount_offset, bytes, c->refcount_table)
                  : -ENOMEM;
    for (uint64_t i = 0; ret == 0 && i < c->refcount_entries; i++) {
        c->refcount_table[i] = be64toh(c->refcount_table[i]);
    }
    return ret;
}

/* ---- references ---- */

static RUNS_IN_IOTHREAD int refcounts_block(Qcow2Check *c, uint64_t index)
{
    uint64_t entry = c->refcount_table[index], offset = entry & ~QCOW2_REFCOUNT_TABLE_RESERVED;
    uint64_t cluster = offset >> c->header.cluster_bits;
    if ((entry & QCOW2_REFCOUNT_TABLE_RESERVED) != 0) {
        qcow2_check_report(c, "ERROR refcount table entry %" PRIu64 " has reserved bits set",
                           index);
        c->result->corruptions++;
        c->must_rebuild = true;
        return 0;
    }
    if (!block_is_aligned(offset, c->cluster_size)) {
        qcow2_check_report(c,
                           "ERROR refcount block %" PRIu64
                           " is not cluster aligned; refcount table entry corrupted",
                           index);
        c->result->corruptions++;
        c->must_rebuild = true;
        return 0;
    }
    if (cluster >= c->clusters) {
        qcow2_check_report(c, "ERROR refcount block %" PRIu64 " is outside image", index);
        c->result->corruptions++;
        c->must_rebuild = c->must_rebuild || (c->fix & QCOW2_FIX_ERRORS) != 0;
        return 0;
    }
    int ret = offset != 0 ? qcow2_check_count(c, offset, c->cluster_size, 1) : 0;
    if (ret == 0 && offset != 0 && qcow2_counts_get(&c->counts, cluster) != 1) {
        qcow2_check_report(c, "ERROR refcount block %" PRIu64 " refcount=%" PRIu32, index,
                           qcow2_counts_get(&c->counts, cluster));
        c->result->corruptions++;
        c->must_rebuild = true;
    }
    return ret;
}

int qcow2_check_co_refcount_blocks(Qcow2Check *c)
{
    uint64_t bytes = c->refcount_entries * sizeof(uint64_t);
    int ret = qcow2_check_mark_metadata(c, c->header.refcount_offset, bytes);
    if (ret == 0) {
        ret = qcow2_check_count(c, c->header.refcount_offset, bytes, 1);
    }
    for (uint64_t i = 0; ret == 0 && i < c->refcount_entries; i++) {
        if (c->refcount_table[i] != 0) {
            ret = refcounts_block(c, i);
        }
    }
    return ret;
}

/* ---- comparison ---- */

static RUNS_IN_IOTHREAD bool refcounts_compare_cluster(Qcow2Check *c, uint64_t cluster,
                                                       uint64_t stored)
{
    uint64_t computed = qcow2_counts_get(&c->counts, cluster);
    if (stored > 0 || computed > 0) {
        c->result->image_end = (cluster + 1) << c->header.cluster_bits;
    }
    if (stored == computed) {
        if (computed > 1 && c->fix == 0) {
            qcow2_check_report_overlap(c, cluster);
        }
        return true;
    }
    if (stored == 0) {
        c->must_rebuild = true;
    }
    qcow2_check_report(c, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64,
                       stored < computed ? "ERROR" : "Leaked", cluster, stored, computed);
    *(stored < computed ? &c->result->corruptions : &c->result->leaks) += 1;
    return c->fix != 0 || qcow2_counts_set(c, &c->counts, cluster, stored);
}

static RUNS_IN_IOTHREAD void refcounts_unreadable(Qcow2Check *c, uint64_t first, uint64_t count,
                                                  int ret)
{
    for (uint64_t i = 0; i < count; i++) {
        qcow2_check_report(c, "Can't get refcount for cluster %" PRIu64 ": %s", first + i,
                           g_strerror(-ret));
        c->result->check_errors++;
    }
}

/* Compares clusters without a refcount block. */
static RUNS_IN_IOTHREAD bool refcounts_compare_none(Qcow2Check *c, uint64_t first, uint64_t count)
{
    bool ok = true;
    for (uint64_t i = qcow2_counts_next(&c->counts, first); ok && i < first + count;
         i = qcow2_counts_next(&c->counts, i + 1)) {
        ok = refcounts_compare_cluster(c, i, 0);
    }
    return ok;
}

static coroutine_fn RUNS_IN_IOTHREAD int refcounts_compare_block(Qcow2Check *c, uint64_t entry,
                                                                 uint64_t first, uint64_t count)
{
    uint64_t offset = entry & ~QCOW2_REFCOUNT_TABLE_RESERVED;
    bool ok = true;
    if (offset == 0) {
        return refcounts_compare_none(c, first, count) ? 0 : -ENOMEM;
    }
    int ret = block_is_aligned(offset, c->cluster_size)
                  ? qcow2_check_co_read(c, offset, c->cluster_size, c->buffer)
                  : -EIO;
    if (ret < 0) {
        refcounts_unreadable(c, first, count, ret);
        return 0;
    }
    for (uint64_t i = 0; ok && i < count; i++) {
        uint64_t stored = qcow2_refcount_get(c->buffer, i, c->header.refcount_order);
        ok = refcounts_compare_cluster(c, first + i, stored);
    }
    return ok ? 0 : -ENOMEM;
}

int qcow2_check_co_compare(Qcow2Check *c)
{
    uint64_t per_block = c->cluster_size * 8 >> c->header.refcount_order;
    int ret = 0;
    c->result->image_end = c->cluster_size;
    for (uint64_t first = 0, i = 0; ret == 0 && first < c->clusters; first += per_block, i++) {
        uint64_t entry = i < c->refcount_entries ? c->refcount_table[i] : 0;
        ret = refcounts_compare_block(c, entry, first, MIN(per_block, c->clusters - first));
    }
    return ret;
}

/* ---- refcounts of single clusters ---- */

int qcow2_check_co_stored(Qcow2Check *c, uint64_t cluster, uint64_t *count)
{
    uint64_t per_block = c->cluster_size * 8 >> c->header.refcount_order;
    uint64_t index = cluster / per_block;
    uint64_t entry = index < c->refcount_entries ? c->refcount_table[index] : 0;
    uint64_t offset = entry & ~QCOW2_REFCOUNT_TABLE_RESERVED;
    uint8_t bytes[sizeof(uint64_t)];
    *count = cluster < c->clusters ? qcow2_counts_get(&c->counts, cluster) : 0;
    if (!block_is_aligned(offset, c->cluster_size) || offset > INT64_MAX - c->cluster_size) {
        return -EIO; /* the comparison could not read it either */
    }
    if (cluster < c->clusters || offset == 0) {
        return 0;
    }
    /* The eight bytes that hold the count, as if they were a block of their own. */
    uint64_t per_word = 64 >> c->header.refcount_order;
    uint64_t at = offset + cluster % per_block / per_word * sizeof(bytes);
    int ret = qcow2_check_co_read(c, at, sizeof(bytes), bytes);
    if (ret == 0) {
        *count = qcow2_refcount_get(bytes, cluster % per_word, c->header.refcount_order);
    }
    return ret;
}
