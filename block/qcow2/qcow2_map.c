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

/* An entry and, with extended L2 entries, its bitmap. */
typedef struct MapEntry {
    uint64_t entry, bitmap;
} MapEntry;

static MapEntry map_get_entry(const Qcow2State *s, const Qcow2Slice *slice, uint64_t index)
{
    const uint8_t *at = slice->data + index * qcow2_l2_entry_length(&s->header);
    MapEntry m = {.entry = qcow2_get64(at)};
    if (qcow2_has_extended_l2(&s->header)) {
        m.bitmap = qcow2_get64(at + 8);
    }
    return m;
}

/* Whether the entry has a cluster in the data file. */
static bool map_has_cluster(const Qcow2State *s, uint64_t entry)
{
    /* Offset 0 of a data file can be in use, which the flag tells. */
    return (entry & QCOW2_OFFSET_MASK) != 0 ||
           (qcow2_has_data_file(&s->header) && (entry & QCOW2_ENTRY_COPIED) != 0);
}

/* ---- what an entry says ---- */

static RUNS_IN_IOTHREAD int map_compressed(const BlockNode *n, uint64_t entry, Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    unsigned sectors_bits = s->header.cluster_bits - 8;
    unsigned shift = 62 - sectors_bits;
    uint64_t sectors = ((entry >> shift) & (((uint64_t)1 << sectors_bits) - 1)) + 1;
    if (qcow2_has_data_file(&s->header)) {
        return qcow2_corrupt(n, "an image with a data file has a compressed cluster");
    }
    e->kind = QCOW2_COMPRESSED;
    e->host = entry & (((uint64_t)1 << shift) - 1);
    e->length = sectors * QCOW2_COMPRESSED_SECTOR - e->host % QCOW2_COMPRESSED_SECTOR;
    return 0;
}

static RUNS_IN_IOTHREAD int map_check_data(const BlockNode *n, uint64_t offset, uint64_t entry)
{
    const Qcow2State *s = n->state;
    uint64_t host = entry & QCOW2_OFFSET_MASK;
    if (!block_is_aligned(host, qcow2_cluster_size(&s->header))) {
        return qcow2_corrupt(n,
                             "the cluster at 0x%" PRIx64 " of the disk is at 0x%" PRIx64
                             ", which is not aligned to a cluster",
                             offset, host);
    }
    return 0;
}

/* The kind of a whole cluster, without extended L2 entries. */
static RUNS_IN_IOTHREAD int map_cluster(const BlockNode *n, uint64_t offset, MapEntry m,
                                        Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    bool has_cluster = map_has_cluster(s, m.entry);
    if ((m.entry & QCOW2_ENTRY_ZERO) != 0) {
        if (s->header.version < 3) {
            return qcow2_corrupt(
                n, "an image of version 2 has a zero cluster, at 0x%" PRIx64 " of the disk",
                offset);
        }
        e->kind = QCOW2_ZERO;
        e->reserved = has_cluster;
    } else {
        e->kind = has_cluster ? QCOW2_DATA : QCOW2_UNALLOCATED;
    }
    e->host = m.entry & QCOW2_OFFSET_MASK;
    return has_cluster ? map_check_data(n, offset, m.entry) : 0;
}

/* The kind of subcluster @index. */
static RUNS_IN_IOTHREAD int map_subcluster(const BlockNode *n, uint64_t offset, MapEntry m,
                                           unsigned index, Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    uint32_t allocated = (uint32_t)m.bitmap, zero = (uint32_t)(m.bitmap >> 32);
    bool has_cluster = map_has_cluster(s, m.entry);
    if (has_cluster ? (allocated & zero) != 0 : allocated != 0) {
        return qcow2_corrupt(n,
                             "the subclusters at 0x%" PRIx64
                             " of the disk have the bitmap 0x%" PRIx64 ", which is invalid",
                             offset, m.bitmap);
    }
    if ((zero >> index & 1) != 0) {
        e->kind = QCOW2_ZERO;
    } else {
        e->kind = (allocated >> index & 1) != 0 ? QCOW2_DATA : QCOW2_UNALLOCATED;
    }
    e->reserved = has_cluster && e->kind != QCOW2_DATA;
    e->host = m.entry & QCOW2_OFFSET_MASK;
    return has_cluster ? map_check_data(n, offset, m.entry) : 0;
}

/* Maps the cluster, or subcluster, at @offset; e->bytes reaches to its end. */
static RUNS_IN_IOTHREAD int map_unit(const BlockNode *n, uint64_t offset, MapEntry m,
                                     Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t within = offset & (cluster - 1);
    uint64_t unit = cluster;
    int ret;
    *e = (Qcow2Extent){0};
    if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        ret = map_compressed(n, m.entry, e);
    } else if (qcow2_has_extended_l2(&s->header)) {
        unit = cluster / QCOW2_SUBCLUSTERS;
        ret = map_subcluster(n, offset, m, (unsigned)(within / unit), e);
    } else {
        ret = map_cluster(n, offset, m, e);
    }
    if (e->kind == QCOW2_DATA || e->reserved) {
        e->host += within;
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

/* Maps from @offset to at most the slice's end; @slice NULL: there is no L2 table. */
static RUNS_IN_IOTHREAD int map_in_slice(const BlockNode *n, const Qcow2Slice *slice,
                                         uint64_t offset, uint64_t bytes, Qcow2Extent *e)
{
    const Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t entries = s->l2.slice_size / qcow2_l2_entry_length(&s->header);
    int ret = map_unit(n, offset, map_get_entry(s, slice, (offset >> bits) & (entries - 1)), e);
    while (ret == 0 && e->bytes < bytes) {
        uint64_t at = offset + e->bytes;
        Qcow2Extent next;
        if (at >> bits == ((at >> bits) & ~(entries - 1)) &&
            (at & (qcow2_cluster_size(&s->header) - 1)) == 0) {
            break; /* the first cluster of the next slice */
        }
        ret = map_unit(n, at, map_get_entry(s, slice, (at >> bits) & (entries - 1)), &next);
        if (ret != 0 || !map_continues(e, &next)) {
            return 0; /* an error is reported when the request gets there */
        }
        e->bytes += next.bytes;
    }
    e->bytes = MIN(e->bytes, bytes);
    return ret;
}

int qcow2_co_map(BlockNode *n, uint64_t offset, uint64_t bytes, Qcow2Extent *e)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    uint64_t entry_length = qcow2_l2_entry_length(&s->header);
    uint64_t table_covers = cluster / entry_length << s->header.cluster_bits;
    uint64_t in_table = offset % table_covers;
    uint64_t l2 = s->l1[offset / table_covers] & QCOW2_OFFSET_MASK;
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
    int ret = qcow2_cache_co_get(&s->l2, n->file, l2 + block_align_down(entry_at, s->l2.slice_size),
                                 &slice);
    if (ret == 0) {
        ret = map_in_slice(n, slice, offset, bytes, e);
        qcow2_cache_put(&s->l2, slice);
    }
    return ret;
}
