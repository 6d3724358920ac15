/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New refcounts:
 *
 *   the file as it is | clusters that a damaged image refers to | refcount blocks | refcount table
 *                     ^ c->clusters                             ^ first
 *
 * The new part lies where nothing refers to it. If the file cannot grow (a block device), that is behind
 * the last cluster in use. The part counts itself. The header is changed after a flush, by one write of 12 bytes.
 */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

typedef struct Rebuild {
    Qcow2Check *check;
    uint64_t per_block;     /* refcounts of a block */
    uint64_t first, end;    /* clusters of the new part */
    uint64_t blocks, table; /* its clusters */
    uint64_t entries;       /* of the table that are in use */
} Rebuild;

/* Whether a refcount in block @index is not zero. */
static bool rebuild_has_block(const Rebuild *r, uint64_t index)
{
    const Qcow2Counts *counts = &r->check->counts;
    uint64_t start = index * r->per_block, end = start + r->per_block;
    if (start < r->end && end > r->first) {
        return true;
    }
    end = MIN(end, r->check->clusters);
    for (uint64_t i = qcow2_counts_next(counts, start); i < end;
         i = qcow2_counts_next(counts, i + 1)) {
        if (qcow2_counts_get(counts, i) != 0) {
            return true;
        }
    }
    return false;
}

/* The first cluster from @first on where @length clusters are not referred to. */
static uint64_t rebuild_find_place(const Rebuild *r, uint64_t first, uint64_t length)
{
    const Qcow2Counts *counts = &r->check->counts;
    for (uint64_t i = first; i < first + length && i < counts->size; i++) {
        if (qcow2_counts_get(counts, i) != 0) {
            first = i + 1;
        }
    }
    return first;
}

/* Enlarges the new part until it has a block for each of its own clusters, too. */
static bool rebuild_lay_out(Rebuild *r, uint64_t first)
{
    const Qcow2Check *c = r->check;
    uint64_t old_blocks, old_table;
    r->first = first;
    r->blocks = r->table = 1;
    do {
        old_blocks = r->blocks;
        old_table = r->table;
        r->first = rebuild_find_place(r, r->first, r->blocks + r->table);
        r->end = r->first + r->blocks + r->table;
        r->entries = (r->end + r->per_block - 1) / r->per_block;
        r->table = block_align_up(r->entries * sizeof(uint64_t), c->cluster_size) >>
                   c->header.cluster_bits;
        r->blocks = 0;
        for (uint64_t i = 0; i < r->entries; i++) {
            r->blocks += rebuild_has_block(r, i);
        }
        r->blocks = MAX(r->blocks, old_blocks);
    } while (r->blocks != old_blocks || r->table != old_table);
    return r->end <= c->counts.size &&
           r->table << c->header.cluster_bits <= QCOW2_REFCOUNT_TABLE_BYTES_MAX;
}

static void rebuild_fill_block(const Rebuild *r, uint64_t index)
{
    const Qcow2Check *c = r->check;
    uint64_t start = index * r->per_block;
    memset(c->buffer, 0, c->cluster_size);
    for (uint64_t i = 0; i < r->per_block; i++) {
        uint64_t cluster = start + i, count = 0;
        if (cluster >= r->first && cluster < r->end) {
            count = 1;
        } else if (cluster < c->clusters) {
            count = qcow2_counts_get(&c->counts, cluster);
        }
        if (count != 0) {
            qcow2_refcount_set(c->buffer, i, c->header.refcount_order, count);
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int rebuild_write(const Qcow2Check *c, uint64_t offset,
                                                       uint64_t bytes, const void *buffer)
{
    struct iovec iov = {(void *)(uintptr_t)buffer, bytes};
    return block_node_co_pwritev(c->file, offset, bytes, &iov, 1, 0);
}

/* Writes the blocks and fills @table. */
static coroutine_fn RUNS_IN_IOTHREAD int rebuild_write_blocks(const Rebuild *r, uint64_t *table)
{
    const Qcow2Check *c = r->check;
    uint64_t at = r->first;
    int ret = 0;
    for (uint64_t i = 0; ret == 0 && i < r->entries; i++) {
        if (rebuild_has_block(r, i)) {
            rebuild_fill_block(r, i);
            ret = rebuild_write(c, at << c->header.cluster_bits, c->cluster_size, c->buffer);
            table[i] = htobe64(at << c->header.cluster_bits);
            at++;
        }
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int rebuild_write_header(const Rebuild *r, uint64_t offset)
{
    Qcow2Check *c = r->check;
    struct {
        uint64_t offset;
        uint32_t clusters;
    } __attribute__((packed)) fields = {htobe64(offset), htobe32((uint32_t)r->table)};
    _Static_assert(sizeof(fields) == offsetof(Qcow2DiskHeader, nb_snapshots) -
                                         offsetof(Qcow2DiskHeader, refcount_table_offset),
                   "the fields are neighbours");
    int ret =
        rebuild_write(c, offsetof(Qcow2DiskHeader, refcount_table_offset), sizeof(fields), &fields);
    if (ret == 0) {
        c->header.refcount_offset = offset;
        c->header.refcount_clusters = (uint32_t)r->table;
        ret = block_node_co_flush(c->file);
    }
    return ret;
}

/* Writes the new part at @first or behind it. */
static coroutine_fn RUNS_IN_IOTHREAD int rebuild_co_at(Qcow2Check *c, uint64_t first)
{
    Rebuild r = {.check = c, .per_block = c->cluster_size * 8 >> c->header.refcount_order};
    if (!rebuild_lay_out(&r, first)) {
        return -EFBIG;
    }
    uint64_t bytes = r.table << c->header.cluster_bits;
    uint64_t offset = (r.first + r.blocks) << c->header.cluster_bits;
    g_autofree uint64_t *table = g_try_malloc0(bytes);
    int ret = table != NULL ? rebuild_write_blocks(&r, table) : -ENOMEM;
    if (ret == 0) {
        ret = rebuild_write(c, offset, bytes, table);
    }
    if (ret == 0) {
        ret = block_node_co_flush(c->file);
    }
    return ret == 0 ? rebuild_write_header(&r, offset) : ret;
}

/* The end of the last cluster that is referred to, or has a stored refcount. */
static uint64_t rebuild_used_end(const Qcow2Check *c)
{
    uint64_t end = c->result->image_end >> c->header.cluster_bits;
    for (uint64_t i = qcow2_counts_next(&c->counts, end); i < c->clusters;
         i = qcow2_counts_next(&c->counts, i + 1)) {
        if (qcow2_counts_get(&c->counts, i) != 0) {
            end = i + 1;
        }
    }
    return end;
}

int qcow2_check_co_rebuild(Qcow2Check *c)
{
    int ret = rebuild_co_at(c, c->clusters);
    if (ret == -ENOSPC || ret == -EINVAL) { /* nothing refers to what has been written */
        ret = rebuild_co_at(c, rebuild_used_end(c));
    }
    if (ret < 0) {
        qcow2_check_report(c, "ERROR writing new refcounts: %s", g_strerror(-ret));
        c->result->check_errors++;
    }
    return ret;
}
