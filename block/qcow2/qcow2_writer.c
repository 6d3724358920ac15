/* SPDX-License-Identifier: Apache-2.0 */
/* Begin and end of writing to an image. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define WRITER_CACHE_DEFAULT ((uint64_t)256 << 10)
#define WRITER_CACHE_SLICES 8u /* at least */
#define WRITER_SLICE 4096u
#define WRITER_ROUNDS 3u /* changes, then frees, then their refcounts */

/* Which images cannot be written to. */
static bool writer_check(const BlockNode *n, GError **error)
{
    const Qcow2State *s = n->state;
    const char *why = NULL;
    if ((s->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT) != 0) {
        why = "the image is corrupt";
    } else if (!s->w.loaded && (s->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY) != 0) {
        why = "the image was not closed after writing, so its refcounts may be wrong";
    }
    if (why != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "%s: %s; open it with read-only=on, or repair it: run skiff-img check -r all",
                    qcow2_who(n), why);
    }
    return why == NULL;
}

static coroutine_fn RUNS_IN_IOTHREAD bool writer_read(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                      void *buffer, GError **error)
{
    int ret = qcow2_co_read_table(n->file, offset, bytes, buffer);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s: reading the refcount table: %s",
                    qcow2_who(n), g_strerror(-ret));
    }
    return ret == 0;
}

static void writer_init(BlockNode *n, uint64_t *table)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    size_t slice = MIN(cluster, WRITER_SLICE);
    uint64_t bytes = w->refcount_cache_size != 0 ? w->refcount_cache_size : WRITER_CACHE_DEFAULT;
    uint64_t count = ((uint64_t)s->header.refcount_clusters * cluster) / sizeof(uint64_t);
    qcow2_table_init(&w->refcount_table, table, (uint32_t)count);
    qcow2_cache_init(&w->refcounts, MAX(bytes, WRITER_CACHE_SLICES * slice), slice, cluster, false);
    w->hint = 0;
    w->pack_at = 0;
    w->fresh = (block_node_size(n->file) + cluster - 1) >> s->header.cluster_bits;
    w->frees = g_array_new(false, false, sizeof(Qcow2Free));
    g_queue_init(&w->batches);
    co_queue_init(&w->begin_waiters);
    co_queue_init(&w->alloc_waiters);
    co_queue_init(&w->pack_waiters);
    co_queue_init(&w->commit_waiters);
    co_queue_init(&w->free_waiters);
    co_queue_init(&w->cow_waiters);
    co_queue_init(&w->l2_waiters);
    qcow2_lock_init(w);
    w->begun = w->lazy = false;
    w->loaded = true;
}

bool qcow2_co_load_writer(BlockNode *n, GError **error)
{
    Qcow2State *s = n->state;
    uint64_t bytes = (uint64_t)s->header.refcount_clusters << s->header.cluster_bits;
    if (!writer_check(n, error)) {
        return false;
    }
    if (s->w.loaded) {
        return true;
    }
    g_autofree uint64_t *table = g_malloc(bytes);
    if (!writer_read(n, 0, QCOW2_SECTOR, s->w.sector, error) ||
        !writer_read(n, s->header.refcount_offset, bytes, table, error)) {
        return false;
    }
    writer_init(n, g_steal_pointer(&table));
    return true;
}

static bool writer_is_clean(const BlockNode *n)
{
    const Qcow2State *s = n->state;
    const Qcow2Writer *w = &s->w;
    return w->frees->len == 0 && w->batches.length == 0 && w->refcounts.dirty == 0 &&
           s->l2.dirty == 0 && !w->header_dirty && !w->data_written;
}

/* Writes what has changed, with the refcounts of what becomes free, until nothing is left. */
static coroutine_fn RUNS_IN_IOTHREAD int writer_settle(BlockNode *n, bool flush)
{
    Qcow2Writer *w = &((Qcow2State *)n->state)->w;
    int ret = 0;
    unsigned rounds = 0;
    w->lazy = false;                                     /* refcounts are written too */
    while (ret == 0 && (flush || !writer_is_clean(n))) { /* frees make refcounts dirty once more */
        ret = qcow2_co_flush(n);
        qcow2_co_free_all(n);
        flush = false;
        if (++rounds > WRITER_ROUNDS && ret == 0) {
            ret = -EIO; /* refcounts cannot be read: clusters leak */
        }
    }
    return ret;
}

int qcow2_co_finish_writer(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    bool begun = w->begun;
    uint64_t packed_end = w->pack_at;
    qcow2_snap_cancel(n);
    qcow2_co_pack_end(n);
    int ret = writer_settle(n, begun), bitmaps = 0;
    if (ret == 0 && !w->corrupt) {
        bitmaps = qcow2_co_store_bitmaps(n);
        ret = writer_settle(n, false);
    }
    if (ret == 0 && !w->corrupt && !w->flags_wrong &&
        (s->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY) != 0) {
        ret = qcow2_co_clear_dirty(n);
    }
    if (begun) {
        qcow2_co_trim_room(n, packed_end); /* an error leaves a hole at the end of the file */
    }
    w->begun = false;
    return ret < 0 ? ret : bitmaps;
}

void qcow2_writer_free(Qcow2Writer *w)
{
    if (!w->loaded) {
        return;
    }
    Qcow2FreeBatch *b;
    while ((b = g_queue_pop_head(&w->batches)) != NULL) {
        g_array_unref(b->frees);
        g_free(b);
    }
    g_array_unref(w->frees);
    qcow2_table_free(&w->refcount_table);
    qcow2_cache_destroy(&w->refcounts);
    qcow2_lock_free(w);
    w->loaded = false;
}
