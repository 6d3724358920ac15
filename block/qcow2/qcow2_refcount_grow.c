/* SPDX-License-Identifier: Apache-2.0 */
/*
 * More refcount blocks, and a larger refcount table.
 *
 *   first           + blocks            + table clusters          + more
 *   | new blocks    | new table, if any | free, for the allocator |
 *
 * The blocks count themselves and the new table. They are written before anything in memory refers
 * to them; a commit writes their entries in the table, or the header with the new table's place.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

typedef struct Grow {
    uint64_t first;  /* cluster */
    uint64_t region; /* of the first block: its index in the table */
    uint64_t blocks, table_clusters, more;
    uint64_t table_count; /* entries of the table afterwards */
} Grow;

static uint64_t grow_used(const Grow *g)
{
    return g->first + g->blocks + g->table_clusters;
}

/* Finds the numbers, which depend on one another. They only increase, so this ends. */
static int grow_plan(const BlockNode *n, Grow *g)
{
    const Qcow2State *s = n->state;
    const Qcow2Table *t = &s->w.refcount_table;
    unsigned bits = qcow2_block_bits(n);
    uint64_t per_cluster = qcow2_cluster_size(&s->header) / sizeof(uint64_t);
    uint64_t blocks = 1;
    g->region = g->first >> bits;
    g->table_count = t->count;
    do {
        g->blocks = blocks;
        if (g->region + blocks > t->count) {
            uint64_t wanted = MAX(g->region + blocks, t->count + t->count / 2);
            g->table_clusters = (wanted + per_cluster - 1) / per_cluster;
            g->table_count = g->table_clusters * per_cluster;
        }
        blocks = ((grow_used(g) + g->more - 1) >> bits) - g->region + 1;
    } while (blocks > g->blocks);
    uint64_t end = (grow_used(g) + g->more) << s->header.cluster_bits;
    if (g->table_count * sizeof(uint64_t) > QCOW2_REFCOUNT_TABLE_BYTES_MAX ||
        end > QCOW2_OFFSET_MASK) {
        return -EFBIG;
    }
    return !n->file->caps.grows && end > block_node_size(n->file) ? -ENOSPC : 0;
}

/* Writes block @i, in which the clusters that the growth uses have the count 1. */
static coroutine_fn RUNS_IN_IOTHREAD int grow_write_block(BlockNode *n, const Grow *g, uint64_t i,
                                                          uint8_t *buffer)
{
    const Qcow2State *s = n->state;
    uint64_t size = qcow2_cluster_size(&s->header);
    uint64_t covers = (uint64_t)1 << qcow2_block_bits(n);
    uint64_t start = (g->region + i) * covers;
    struct iovec iov = {buffer, size};
    memset(buffer, 0, size);
    for (uint64_t c = MAX(start, g->first); c < MIN(start + covers, grow_used(g)); c++) {
        qcow2_refcount_set(buffer, c - start, s->header.refcount_order, 1);
    }
    return block_node_co_pwritev(n->file, (g->first + i) * size, size, &iov, 1, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int grow_write_blocks(BlockNode *n, const Grow *g)
{
    const Qcow2State *s = n->state;
    g_autofree uint8_t *buffer = g_malloc(qcow2_cluster_size(&s->header));
    int ret = 0;
    for (uint64_t i = 0; i < g->blocks && ret == 0; i++) {
        ret = grow_write_block(n, g, i, buffer);
    }
    return ret;
}

/* Takes the new blocks into the table, which has room for them. */
static RUNS_IN_IOTHREAD void grow_take_blocks(const BlockNode *n, const Grow *g, Qcow2Table *t)
{
    const Qcow2State *s = n->state;
    for (uint64_t i = 0; i < g->blocks; i++) {
        qcow2_table_set(t, g->region + i, (g->first + i) << s->header.cluster_bits);
    }
}

/* Writes the new table. Only then the table in memory becomes the new one. */
static coroutine_fn RUNS_IN_IOTHREAD int grow_table(BlockNode *n, const Grow *g)
{
    Qcow2State *s = n->state;
    Qcow2Table *t = &s->w.refcount_table, larger = {0};
    uint64_t offset = (g->first + g->blocks) << s->header.cluster_bits;
    uint64_t old_bytes = (uint64_t)s->header.refcount_clusters << s->header.cluster_bits;
    qcow2_table_init(&larger, g_new0(uint64_t, t->count), t->count);
    memcpy(larger.entries, t->entries, t->count * sizeof(uint64_t));
    qcow2_table_extend(&larger, (uint32_t)g->table_count);
    grow_take_blocks(n, g, &larger);
    int ret = qcow2_co_write_table(n, &larger, offset);
    if (ret < 0) {
        qcow2_table_free(&larger);
        return ret;
    }
    qcow2_table_free(t);
    *t = larger;
    g_array_unref(qcow2_table_capture(t)); /* all of it is on disk */
    qcow2_free_later(n, s->header.refcount_offset, old_bytes, false);
    s->header.refcount_offset = offset;
    s->header.refcount_clusters = (uint32_t)g->table_clusters;
    s->w.header_dirty = true;
    return 0;
}

int qcow2_co_grow_refcounts(BlockNode *n, uint64_t first, uint64_t more)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    Grow g = {.first = first, .more = more};
    int ret = grow_plan(n, &g);
    uint64_t start = first << s->header.cluster_bits;
    uint64_t bytes = (g.blocks + g.table_clusters) << s->header.cluster_bits;
    if (ret == 0) {
        ret = qcow2_check_free(n, first, g.blocks + g.table_clusters);
    }
    if (ret == 0 && (!qcow2_cache_forget(&w->refcounts, start, bytes) ||
                     !qcow2_cache_forget(&s->l2, start, bytes))) {
        ret = qcow2_corrupt(n, "the free cluster at 0x%" PRIx64 " is a table in use", start);
    }
    if (ret == 0) {
        ret = grow_write_blocks(n, &g);
    }
    if (ret == 0 && g.table_clusters > 0) {
        ret = grow_table(n, &g);
    } else if (ret == 0) {
        grow_take_blocks(n, &g, &w->refcount_table);
    }
    w->fresh = MAX(w->fresh, grow_used(&g));
    return ret;
}
