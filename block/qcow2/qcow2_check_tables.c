/* SPDX-License-Identifier: Apache-2.0 */
/* References from L1 and L2 tables. */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"

#define TABLES_PIECE ((uint64_t)64 << 10) /* bytes of an L1 table at a time */

#define TABLES_L1_RESERVED (~QCOW2_OFFSET_MASK & ~QCOW2_ENTRY_COPIED)
#define TABLES_L2_RESERVED                                                                         \
    (~QCOW2_OFFSET_MASK & ~QCOW2_ENTRY_COPIED & ~QCOW2_ENTRY_COMPRESSED & ~QCOW2_ENTRY_ZERO)

/* ---- L2 tables ---- */

/* A table that is being read. */
typedef struct TablesL2 {
    uint64_t cluster; /* 0: it is not aligned */
    uint32_t weight;  /* references to it */
    uint32_t active;  /* from the active L1 table */
    uint64_t next;    /* where the next cluster of a contiguous disk would be; 0: unknown */
} TablesL2;

Qcow2CheckKind qcow2_check_kind(const Qcow2Check *c, uint64_t entry)
{
    bool has_offset = (entry & QCOW2_OFFSET_MASK) != 0;
    if ((entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        return QCOW2_CHECK_COMPRESSED;
    }
    if ((entry & QCOW2_ENTRY_ZERO) != 0 && !qcow2_has_extended_l2(&c->header)) {
        return has_offset ? QCOW2_CHECK_ALLOCATED : QCOW2_CHECK_ZERO;
    }
    if (has_offset) {
        return QCOW2_CHECK_ALLOCATED;
    }
    /* Offset 0 of a data file can be in use, which the flag tells. */
    return qcow2_has_data_file(&c->header) && (entry & QCOW2_ENTRY_COPIED) != 0
               ? QCOW2_CHECK_ALLOCATED
               : QCOW2_CHECK_NONE;
}

static RUNS_IN_IOTHREAD int tables_compressed(Qcow2Check *c, const TablesL2 *t, uint64_t index,
                                              uint64_t entry, uint64_t bitmap)
{
    unsigned sectors_bits = c->header.cluster_bits - 8, shift = 62 - sectors_bits;
    uint64_t offset = entry & (((uint64_t)1 << shift) - 1);
    uint64_t sectors = ((entry >> shift) & (((uint64_t)1 << sectors_bits) - 1)) + 1;
    if ((entry & QCOW2_ENTRY_COPIED) != 0) {
        qcow2_check_report(c,
                           "ERROR: coffset=0x%" PRIx64
                           ": copied flag must never be set for compressed clusters",
                           offset);
        entry &= ~QCOW2_ENTRY_COPIED;
        c->result->corruptions += t->weight;
    }
    if (qcow2_has_data_file(&c->header)) {
        qcow2_check_report(c,
                           "ERROR compressed cluster %" PRIu64 " with data file, entry=0x%" PRIx64,
                           index, entry);
        c->result->corruptions += t->weight;
        return 0;
    }
    if (bitmap != 0) {
        qcow2_check_report(c,
                           "ERROR compressed cluster %" PRIu64
                           " with non-zero subcluster allocation bitmap, entry=0x%" PRIx64,
                           index, entry);
        c->result->corruptions += t->weight;
        return 0;
    }
    c->result->allocated_clusters += t->active;
    c->result->compressed_clusters += t->active;
    c->result->fragmented_clusters += t->active;
    uint64_t bytes = sectors * QCOW2_COMPRESSED_SECTOR - offset % QCOW2_COMPRESSED_SECTOR;
    return qcow2_check_count(c, offset, bytes, t->weight);
}

/* Zeroes need no cluster: an entry that names an impossible one is repaired later. */
static RUNS_IN_IOTHREAD bool tables_drop(Qcow2Check *c, const TablesL2 *t, uint64_t index)
{
    Qcow2CheckZero zero = {.table = t->cluster, .index = index};
    bool drop = (c->fix & QCOW2_FIX_ERRORS) != 0 && t->cluster != 0 &&
                c->zeroes->len < QCOW2_CHECK_ZEROES_MAX;
    if (drop) {
        g_array_append_val(c->zeroes, zero);
    }
    return drop;
}

static RUNS_IN_IOTHREAD int tables_allocated(Qcow2Check *c, TablesL2 *t, uint64_t index,
                                             uint64_t entry, uint64_t bitmap)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    bool has_data =
        qcow2_has_extended_l2(&c->header) ? (uint32_t)bitmap != 0 : (entry & QCOW2_ENTRY_ZERO) == 0;
    if ((bitmap >> 32 & bitmap) != 0) {
        qcow2_check_report(c,
                           "ERROR offset=%" PRIx64
                           ": Allocated cluster has corrupted subcluster allocation bitmap",
                           offset);
        c->result->corruptions += t->weight;
    }
    if (!block_is_aligned(offset, c->cluster_size)) {
        bool drop = !has_data && tables_drop(c, t, index);
        qcow2_check_report(
            c, "%s offset=%" PRIx64 ": %s cluster is not properly aligned; L2 entry corrupted.",
            drop ? "Repairing" : "ERROR", offset, has_data ? "Data" : "Preallocated");
        if (drop) {
            return 0;
        }
        c->result->corruptions += t->weight;
    }
    c->result->allocated_clusters += t->active;
    if (t->next != 0 && offset != t->next) {
        c->result->fragmented_clusters += t->active;
    }
    t->next = offset + c->cluster_size;
    return qcow2_has_data_file(&c->header)
               ? 0
               : qcow2_check_count(c, offset, c->cluster_size, t->weight);
}

static RUNS_IN_IOTHREAD int tables_entry(Qcow2Check *c, TablesL2 *t, uint64_t index, uint64_t entry,
                                         uint64_t bitmap)
{
    Qcow2CheckKind kind = qcow2_check_kind(c, entry);
    if (kind != QCOW2_CHECK_COMPRESSED && (entry & TABLES_L2_RESERVED) != 0) {
        qcow2_check_report(c, "ERROR found l2 entry with reserved bits set: %" PRIx64, entry);
        c->result->corruptions += t->weight;
    }
    switch (kind) {
    case QCOW2_CHECK_COMPRESSED:
        return tables_compressed(c, t, index, entry, bitmap);
    case QCOW2_CHECK_ALLOCATED:
        return tables_allocated(c, t, index, entry, bitmap);
    case QCOW2_CHECK_NONE:
        if ((uint32_t)bitmap != 0) {
            qcow2_check_report(c,
                               "ERROR: Unallocated cluster has non-zero subcluster allocation map");
            c->result->corruptions += t->weight;
        }
        return 0;
    case QCOW2_CHECK_ZERO:
        return 0;
    }
    return 0;
}

static RUNS_IN_IOTHREAD int tables_l2(Qcow2Check *c, TablesL2 t, const uint8_t *table)
{
    bool extended = qcow2_has_extended_l2(&c->header);
    unsigned length = qcow2_l2_entry_length(&c->header);
    int ret = 0;
    for (uint64_t at = 0; ret == 0 && at < c->cluster_size; at += length) {
        uint64_t entry = qcow2_get64(table + at);
        uint64_t bitmap = extended ? qcow2_get64(table + at + 8) : 0;
        if ((entry | bitmap) != 0) {
            ret = tables_entry(c, &t, at / length, entry, bitmap);
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int tables_read(Qcow2Check *c, uint64_t offset, uint64_t bytes)
{
    int ret = qcow2_check_co_read(c, offset, bytes, c->buffer);
    if (ret < 0) {
        qcow2_check_report(c, "ERROR: I/O error in the L2 table at 0x%" PRIx64 ": %s", offset,
                           g_strerror(-ret));
        c->result->check_errors++;
    }
    return ret;
}

/* Reads neighbouring tables together. */
int qcow2_check_co_each_l2(Qcow2Check *c, const Qcow2Counts *refs, Qcow2CheckL2Fn *fn)
{
    unsigned bits = c->header.cluster_bits;
    uint64_t most = QCOW2_CHECK_BUFFER >> bits;
    for (uint64_t i = qcow2_counts_next(refs, 0); i < refs->size;) {
        uint64_t count = 0;
        while (count < most && qcow2_counts_get(refs, i + count) != 0) {
            count++;
        }
        int ret = count > 0 ? tables_read(c, i << bits, count << bits) : 0;
        for (uint64_t j = 0; ret == 0 && j < count; j++) {
            ret = fn(c, i + j, c->buffer + (j << bits));
        }
        if (ret < 0) {
            return ret;
        }
        i = qcow2_counts_next(refs, i + MAX(count, 1));
    }
    return 0;
}

static RUNS_IN_IOTHREAD int tables_found_l2(Qcow2Check *c, uint64_t cluster, uint8_t *table)
{
    TablesL2 t = {.cluster = cluster,
                  .weight = qcow2_counts_get(&c->l2_tables, cluster),
                  .active = qcow2_counts_get(&c->active_l2, cluster)};
    return tables_l2(c, t, table);
}

int qcow2_check_co_l2_tables(Qcow2Check *c)
{
    return qcow2_check_co_each_l2(c, &c->l2_tables, tables_found_l2);
}

/* ---- L1 tables ---- */

static coroutine_fn RUNS_IN_IOTHREAD int tables_unaligned_l2(Qcow2Check *c, uint64_t offset,
                                                             uint32_t weight, bool active)
{
    qcow2_check_report(
        c, "ERROR l2_offset=%" PRIx64 ": Table is not cluster aligned; L1 entry corrupted", offset);
    c->result->corruptions += weight;
    if (c->unaligned_l2++ >= QCOW2_CHECK_UNALIGNED_MAX) {
        return 0;
    }
    int ret = tables_read(c, offset, c->cluster_size);
    TablesL2 t = {.weight = weight, .active = active ? weight : 0};
    return ret == 0 ? tables_l2(c, t, c->buffer) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int tables_l1_entry(Qcow2Check *c, uint64_t entry,
                                                         uint32_t weight, bool active)
{
    uint64_t offset = entry & QCOW2_OFFSET_MASK, cluster = offset >> c->header.cluster_bits;
    if ((entry & TABLES_L1_RESERVED) != 0) {
        qcow2_check_report(c, "ERROR found L1 entry with reserved bits set: %" PRIx64, entry);
        c->result->corruptions += weight;
    }
    int ret = qcow2_check_count(c, offset, c->cluster_size, weight);
    if (ret == 0 && !block_is_aligned(offset, c->cluster_size)) {
        return tables_unaligned_l2(c, offset, weight, active);
    }
    if (ret < 0 || offset >= c->file_size) {
        return ret; /* a table beyond the end reads as zeroes */
    }
    uint64_t refs = (uint64_t)qcow2_counts_get(&c->l2_tables, cluster) + weight;
    uint64_t active_refs = (uint64_t)qcow2_counts_get(&c->active_l2, cluster) + weight;
    bool ok = qcow2_counts_set(c, &c->l2_tables, cluster, refs) &&
              (!active || qcow2_counts_set(c, &c->active_l2, cluster, active_refs));
    return ok ? 0 : -ENOMEM;
}

static coroutine_fn RUNS_IN_IOTHREAD int tables_l1(Qcow2Check *c, uint64_t offset, uint64_t bytes,
                                                   uint32_t weight, bool active)
{
    g_autofree uint8_t *piece = g_malloc(TABLES_PIECE);
    for (uint64_t done = 0; done < bytes; done += TABLES_PIECE) {
        uint64_t length = MIN(TABLES_PIECE, bytes - done);
        int ret = qcow2_check_co_read(c, offset + done, length, piece);
        if (ret < 0) {
            qcow2_check_report(c, "ERROR: I/O error in the L1 table at 0x%" PRIx64 ": %s", offset,
                               g_strerror(-ret));
            c->result->check_errors++;
            return ret;
        }
        for (uint64_t at = 0; at + 8 <= length; at += 8) {
            uint64_t entry = qcow2_get64(piece + at);
            ret = entry != 0 ? tables_l1_entry(c, entry, weight, active) : 0;
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

int qcow2_check_co_active_l1(Qcow2Check *c)
{
    uint64_t bytes = (uint64_t)c->header.l1_size * sizeof(uint64_t);
    int ret = qcow2_check_mark_metadata(c, c->header.l1_offset, bytes);
    if (ret == 0) {
        ret = qcow2_check_count(c, c->header.l1_offset, bytes, 1);
    }
    return ret == 0 ? tables_l1(c, c->header.l1_offset, bytes, 1, true) : ret;
}

int qcow2_check_co_snapshot_l1(Qcow2Check *c, uint64_t offset, uint64_t bytes, uint32_t weight)
{
    return tables_l1(c, offset, bytes, weight, false);
}
