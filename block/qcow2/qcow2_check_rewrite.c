/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new snapshot table, whose entries are complete: version 3 requires extra data with the size of the
 * disk. It goes to free clusters:
 *
 *   refcounts of its clusters | flush | the table | flush | the header | flush | refcounts of the old one
 *
 * so an interruption leaves the old table or the new one, and unused clusters at most.
 */
#include <errno.h>
#include "block/qcow2/qcow2_check_int.h"
#include "block/qcow2/qcow2_refcount_width.h"
#include "block/qcow2/qcow2_snap.h"

typedef struct Rewrite {
    Qcow2Check *check;
    uint64_t old_bytes;
    GByteArray *table;
} Rewrite;

/* ---- the contents ---- */

/* Reads the entry at *@at, moves *@at behind it, and appends it to the new table. */
static coroutine_fn RUNS_IN_IOTHREAD int rewrite_entry(Rewrite *r, uint64_t *at)
{
    Qcow2Check *c = r->check;
    Qcow2DiskSnapshot d;
    int ret = qcow2_check_co_read(c, *at, sizeof(d), &d);
    if (ret < 0) {
        return ret;
    }
    uint64_t rest_size = (uint64_t)MIN(be32toh(d.extra_data_size), QCOW2_SNAPSHOT_EXTRA_MAX) +
                         be16toh(d.id_size) + be16toh(d.name_size);
    g_autofree uint8_t *rest = g_malloc(rest_size + 1);
    ret = qcow2_check_co_read(c, *at + sizeof(d), rest_size, rest);
    if (ret < 0) {
        return ret;
    }
    Qcow2Snapshot snap;
    qcow2_snapshot_decode(&d, rest, c->header.size, &snap);
    guint begin = r->table->len;
    g_byte_array_set_size(r->table, begin + (guint)qcow2_snapshot_length(&snap));
    memset(r->table->data + begin, 0, r->table->len - begin);
    qcow2_snapshot_encode(r->table->data + begin, &snap);
    qcow2_snapshot_clear(&snap);
    *at += (sizeof(d) + rest_size + 7) / 8 * 8;
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int rewrite_make(Rewrite *r)
{
    const Qcow2Check *c = r->check;
    uint64_t at = c->header.snapshots_offset;
    int ret = 0;
    for (uint32_t i = 0; i < c->header.snapshots && ret == 0; i++) {
        ret = rewrite_entry(r, &at);
        if (ret == 0 && r->table->len > QCOW2_SNAPSHOT_TABLE_MAX) {
            ret = -EFBIG;
        }
    }
    r->old_bytes = at - c->header.snapshots_offset;
    guint length = r->table->len;
    g_byte_array_set_size(r->table, (guint)block_align_up(length, c->cluster_size));
    memset(r->table->data + length, 0, r->table->len - length);
    return ret;
}

/* ---- clusters ---- */

static uint64_t rewrite_block(const Qcow2Check *c, uint64_t cluster, uint64_t *index)
{
    uint64_t per_block = c->cluster_size * 8 >> c->header.refcount_order;
    *index = cluster % per_block;
    return cluster / per_block < c->refcount_entries
               ? c->refcount_table[cluster / per_block] & ~QCOW2_REFCOUNT_TABLE_RESERVED
               : 0;
}

/* Finds @count free clusters that have refcount blocks. Entries of the table without a block are
 * skipped as a whole: a hostile image has a million. False: there are none. */
static bool rewrite_find(const Qcow2Check *c, uint64_t count, uint64_t *first)
{
    uint64_t per_block = c->cluster_size * 8 >> c->header.refcount_order, found = 0, index;
    uint64_t end =
        MIN(c->refcount_entries * per_block, QCOW2_OFFSET_MASK >> c->header.cluster_bits);
    for (uint64_t i = 1; i < end && found < count; i++) {
        if (rewrite_block(c, i, &index) == 0) {
            i += per_block - 1 - index;
            found = 0;
        } else {
            found = qcow2_counts_get(&c->counts, i) == 0 ? found + 1 : 0;
        }
        *first = i + 1 - found;
    }
    return found == count;
}

/* Changes the refcounts of clusters by @by, 1 or -1. */
static coroutine_fn RUNS_IN_IOTHREAD int rewrite_counts(Qcow2Check *c, uint64_t first,
                                                        uint64_t count, int by)
{
    int ret = 0;
    for (uint64_t i = first; i < first + count && ret == 0; i++) {
        uint64_t index, block = rewrite_block(c, i, &index);
        ret = block != 0 ? qcow2_check_co_read(c, block, c->cluster_size, c->buffer) : -EIO;
        if (ret == 0) {
            uint64_t number = qcow2_refcount_get(c->buffer, index, c->header.refcount_order);
            qcow2_refcount_set(c->buffer, index, c->header.refcount_order,
                               by < 0 ? number - 1 : number + 1);
            ret = qcow2_check_co_write(c, block, c->cluster_size, c->buffer);
        }
    }
    return ret == 0 ? block_node_co_flush(c->file) : ret;
}

/* ---- the order of writes ---- */

static coroutine_fn RUNS_IN_IOTHREAD int rewrite_switch(Qcow2Check *c, uint64_t offset)
{
    uint64_t value = htobe64(offset);
    int ret =
        qcow2_check_co_write(c, offsetof(Qcow2DiskHeader, snapshots_offset), sizeof(value), &value);
    if (ret == 0) {
        c->header.snapshots_offset = offset;
        ret = block_node_co_flush(c->file);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int rewrite_store(Rewrite *r)
{
    Qcow2Check *c = r->check;
    uint64_t first = 0, count = r->table->len >> c->header.cluster_bits;
    uint64_t old = c->header.snapshots_offset;
    uint64_t old_first = old >> c->header.cluster_bits;
    uint64_t old_end = (old + r->old_bytes - 1) >> c->header.cluster_bits;
    if (!rewrite_find(c, count, &first)) {
        return -ENOSPC;
    }
    int ret = rewrite_counts(c, first, count, 1);
    if (ret == 0) {
        ret =
            qcow2_check_co_write(c, first << c->header.cluster_bits, r->table->len, r->table->data);
    }
    if (ret == 0) {
        ret = block_node_co_flush(c->file);
    }
    if (ret == 0) {
        ret = rewrite_switch(c, first << c->header.cluster_bits);
    }
    return ret == 0 ? rewrite_counts(c, old_first, old_end - old_first + 1, -1) : ret;
}

int qcow2_check_co_rewrite_snapshots(Qcow2Check *c)
{
    Rewrite r = {.check = c};
    if (c->incomplete_snapshots == 0 || (c->request->fix & QCOW2_FIX_ERRORS) == 0) {
        return 0;
    }
    r.table = g_byte_array_new();
    int ret = rewrite_make(&r);
    if (ret == 0) {
        ret = rewrite_store(&r);
    }
    g_byte_array_unref(r.table);
    if (ret == 0) {
        c->result->corruptions_fixed += c->incomplete_snapshots;
    } else {
        qcow2_check_report(c, "ERROR failed to update the snapshot table: %s", g_strerror(-ret));
        c->result->corruptions += c->incomplete_snapshots;
        c->result->check_errors++;
    }
    return ret;
}
