/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From an offset on the disk to what is there.
 *
 *   offset = | L1 index | L2 index | within the cluster |
 *                           = | slice | entry of the slice |
 *
 * One call maps within one slice: it returns as many bytes as have the same kind and, for data, are
 * contiguous in the file.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

Qcow2Entry qcow2_get_entry(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index)
{
    const uint8_t *at = slice->data + index * qcow2_l2_entry_length(&s->header);
    Qcow2Entry m = {.entry = qcow2_get64(at)};
    if (qcow2_has_extended_l2(&s->header)) {
        m.bitmap = qcow2_get64(at + 8);
    }
    return m;
}

bool qcow2_has_cluster(const Qcow2State *s, Qcow2Entry m)
{
    if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        return false;
    }
    /* Offset 0 of a data file can be in use, which the flag tells. */
    return (m.entry & QCOW2_OFFSET_MASK) != 0 ||
           (qcow2_has_data_file(&s->header) && (m.entry & QCOW2_ENTRY_COPIED) != 0);
}

void qcow2_set_entry(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index, Qcow2Entry m)
{
    uint8_t *at = slice->data + index * qcow2_l2_entry_length(&s->header);
    qcow2_put64(at, m.entry);
    if (qcow2_has_extended_l2(&s->header)) {
        qcow2_put64(at + 8, m.bitmap);
    }
}

/* ---- what an entry says ---- */

static RUNS_IN_IOTHREAD int map_check_bitmap(const BlockNode *n, uint64_t offset, Qcow2Entry m)
{
    const Qcow2State *s = n->state;
    uint32_t allocated = (uint32_t)m.bitmap, zero = (uint32_t)(m.bitmap >> 32);
    if (qcow2_has_cluster(s, m) ? (allocated & zero) != 0 : allocated != 0) {
        return qcow2_corrupt(n,
                             "the subclusters at 0x%" PRIx64
                             " of the disk have the bitmap 0x%" PRIx64 ", which is invalid",
                             offset, m.bitmap);
    }
    return 0;
}

int qcow2_check_entry(const BlockNode *n, uint64_t offset, Qcow2Entry m)
{
    const Qcow2State *s = n->state;
    uint64_t host = m.entry & QCOW2_OFFSET_MASK;
    if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        if (qcow2_has_data_file(&s->header)) {
            return qcow2_corrupt(n, "an image with a data file has a compressed cluster");
        }
        return 0;
    }
    if (qcow2_has_cluster(s, m) && !block_is_aligned(host, qcow2_cluster_size(&s->header))) {
        return qcow2_corrupt(n,
                             "the cluster at 0x%" PRIx64 " of the disk is at 0x%" PRIx64
                             ", which is not aligned to a cluster",
                             offset, host);
    }
    if (qcow2_has_extended_l2(&s->header)) {
        return map_check_bitmap(n, offset, m);
    }
    if ((m.entry & QCOW2_ENTRY_ZERO) != 0 && s->header.version < 3) {
        return qcow2_corrupt(
            n, "an image of version 2 has a zero cluster, at 0x%" PRIx64 " of the disk", offset);
    }
    return 0;
}

void qcow2_compressed_place(const Qcow2State *s, Qcow2Entry m, uint64_t *host, uint64_t *length)
{
    unsigned sectors_bits = s->header.cluster_bits - 8;
    unsigned shift = 62 - sectors_bits;
    uint64_t sectors = ((m.entry >> shift) & (((uint64_t)1 << sectors_bits) - 1)) + 1;
    *host = m.entry & (((uint64_t)1 << shift) - 1);
    *length = sectors * QCOW2_COMPRESSED_SECTOR - *host % QCOW2_COMPRESSED_SECTOR;
}

/* The kind of a whole cluster, without extended L2 entries. */
static Qcow2Kind map_cluster(const Qcow2State *s, Qcow2Entry m)
{
    if ((m.entry & QCOW2_ENTRY_ZERO) != 0) {
        return QCOW2_ZERO;
    }
    return qcow2_has_cluster(s, m) ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

static Qcow2Kind map_subcluster(Qcow2Entry m, unsigned index)
{
    if ((m.bitmap >> (32 + index) & 1) != 0) {
        return QCOW2_ZERO;
    }
    return (m.bitmap >> index & 1) != 0 ? QCOW2_DATA : QCOW2_UNALLOCATED;
}

/* Maps the cluster, or subcluster, at @offset; e->bytes reaches to its end. */
static RUNS_IN_IOTHREAD int map_unit(const BlockNode *n, uint64_t offset, Qcow2Entry m,
                                     Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t within = offset & (cluster - 1);
    uint64_t unit = cluster;
    int ret = qcow2_check_entry(n, offset, m);
    *e = (Qcow2Extent){0};
    if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        e->kind = QCOW2_COMPRESSED;
        qcow2_compressed_place(s, m, &e->host, &e->length);
    } else if (qcow2_has_extended_l2(&s->header)) {
        unit = cluster / QCOW2_SUBCLUSTERS;
        e->kind = map_subcluster(m, (unsigned)(within / unit));
    } else {
        e->kind = map_cluster(s, m);
    }
    e->reserved =
        (e->kind == QCOW2_ZERO || e->kind == QCOW2_UNALLOCATED) && qcow2_has_cluster(s, m);
    if (e->kind == QCOW2_DATA || e->reserved) {
        e->host = (m.entry & QCOW2_OFFSET_MASK) + within;
    }
    e->bytes = unit - (within & (unit - 1));
    return ret;
}

/* ---- runs of entries ---- */

static bool map_continues(const Qcow2Extent *e, const Qcow2Extent *next)
{
    if (next->kind != e->kind || next->reserved != e->reserved || e->kind == QCOW2_COMPRESSED) {
        return false;
    }
    return (e->kind != QCOW2_DATA && !e->reserved) || next->host == e->host + e->bytes;
}

/* Maps from @offset to at most the end of the slice, which is one of @tables. */
static RUNS_IN_IOTHREAD int map_in_slice(const BlockNode *n, const Qcow2Cache *tables,
                                         const Qcow2Slice *slice, uint64_t offset, uint64_t bytes,
                                         Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t entries = tables->slice_size / qcow2_l2_entry_length(&s->header);
    int ret = map_unit(n, offset, qcow2_get_entry(s, slice, (offset >> bits) & (entries - 1)), e);
    while (ret == 0 && e->bytes < bytes) {
        uint64_t at = offset + e->bytes;
        Qcow2Extent next;
        if (at >> bits == ((at >> bits) & ~(entries - 1)) &&
            (at & (qcow2_cluster_size(&s->header) - 1)) == 0) {
            break; /* the first cluster of the next slice */
        }
        ret = map_unit(n, at, qcow2_get_entry(s, slice, (at >> bits) & (entries - 1)), &next);
        if (ret != 0 || !map_continues(e, &next)) {
            return 0; /* an error is reported when the request gets there */
        }
        e->bytes += next.bytes;
    }
    e->bytes = MIN(e->bytes, bytes);
    return ret;
}

int qcow2_co_map_in(BlockNode *n, const Qcow2Map *m, uint64_t offset, uint64_t bytes,
                    Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t entry_length = qcow2_l2_entry_length(&s->header);
    uint64_t table_covers = qcow2_table_covers(&s->header);
    uint64_t in_table = offset % table_covers, index = offset / table_covers;
    uint64_t l2 = index < m->count ? m->l1[index] & QCOW2_OFFSET_MASK : 0;
    if (l2 == 0) {
        *e = (Qcow2Extent){.kind = QCOW2_UNALLOCATED, .bytes = MIN(bytes, table_covers - in_table)};
        return 0;
    }
    if (!block_is_aligned(l2, cluster)) {
        return qcow2_corrupt(n,
                             "the L2 table for 0x%" PRIx64 " of the disk is at 0x%" PRIx64
                             ", which is not aligned to a cluster",
                             offset, l2);
    }
    uint64_t entry_at = (in_table >> s->header.cluster_bits) * entry_length;
    Qcow2Slice *slice;
    int ret = qcow2_cache_co_get(m->tables, n->file,
                                 l2 + block_align_down(entry_at, m->tables->slice_size), &slice);
    if (ret == 0) {
        ret = map_in_slice(n, m->tables, slice, offset, bytes, e);
        qcow2_cache_put(m->tables, slice);
    }
    return ret;
}

int qcow2_co_map(BlockNode *n, uint64_t offset, uint64_t bytes, Qcow2Extent *e)
{
    Qcow2State *s = n->state;
    Qcow2Map disk = {.l1 = s->l1.entries, .count = s->l1.count, .tables = &s->l2};
    return qcow2_co_map_in(n, &disk, offset, bytes, e);
}
