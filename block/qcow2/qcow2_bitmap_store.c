/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storing bitmaps: everything new goes to new clusters, and is on stable storage with its refcounts
 * before the header leads to it. Then what was replaced loses its reference.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "util/log.h"

#define STORE_RUN ((uint64_t)1 << 20)    /* bits at a time, or a cluster */
#define STORE_PIECE ((uint64_t)64 << 10) /* bytes of an old table at a time */

typedef struct Store {
    BlockNode *node;
    uint64_t cluster;
    GArray *list;   /* Qcow2Bitmap: the new directory */
    GArray *runs;   /* Qcow2Run: new clusters */
    GArray *old;    /* Qcow2Free: extents that are replaced */
    unsigned guess; /* of store_find() */
} Store;

static void store_init(Store *st, BlockNode *n)
{
    *st = (Store){
        .node = n,
        .cluster = qcow2_cluster_size(&((const Qcow2State *)n->state)->header),
        .list = qcow2_bitmap_list_new(),
        .runs = g_array_new(false, false, sizeof(Qcow2Run)),
        .old = g_array_new(false, false, sizeof(Qcow2Free)),
    };
}

static void store_clear(Store *st)
{
    g_array_unref(st->list);
    g_array_unref(st->runs);
    g_array_unref(st->old);
}

/* ---- new clusters ---- */

/* Writes a structure to new clusters, filled with zeroes. */
static coroutine_fn RUNS_IN_IOTHREAD int store_structure(Store *st, uint8_t *bytes, uint64_t size,
                                                         uint64_t *offset)
{
    Qcow2Run run;
    struct iovec iov = {bytes, size};
    int ret = qcow2_co_alloc_table(st->node, size / st->cluster, &run);
    if (ret < 0) {
        return ret;
    }
    g_array_append_val(st->runs, run);
    *offset = run.host;
    return block_node_co_pwritev(st->node->file, run.host, size, &iov, 1, 0);
}

/* Writes clusters @first to @first + @count of the bits, none of which needs no cluster, as far as one
 * run goes. Returns the number of clusters, or -errno. */
static coroutine_fn RUNS_IN_IOTHREAD int64_t store_run(Store *st, const BlockDirtyBitmap *b,
                                                       uint64_t first, uint64_t count,
                                                       uint8_t *table)
{
    Qcow2Run run;
    int ret = qcow2_co_alloc(st->node, count, false, &run);
    if (ret < 0) {
        return ret;
    }
    g_array_append_val(st->runs, run);
    uint64_t bytes = run.count * st->cluster;
    g_autofree uint8_t *buffer = g_malloc(bytes);
    block_bitmap_save(b, first * st->cluster, buffer, bytes);
    for (uint64_t i = 0; i < run.count; i++) {
        qcow2_put64(table + (first + i) * 8, run.host + i * st->cluster);
    }
    struct iovec iov = {buffer, bytes};
    ret = block_node_co_pwritev(st->node->file, run.host, bytes, &iov, 1, 0);
    return ret < 0 ? ret : (int64_t)run.count;
}

static coroutine_fn RUNS_IN_IOTHREAD int store_bits(Store *st, const BlockDirtyBitmap *b,
                                                    uint64_t count, uint8_t *table)
{
    uint64_t most = MAX(STORE_RUN / st->cluster, 1);
    for (uint64_t i = 0; i < count;) {
        BlockBitmapBits bits = block_bitmap_look(b, i * st->cluster, st->cluster);
        if (bits != BLOCK_BITMAP_MIXED) {
            qcow2_put64(table + i * 8, bits == BLOCK_BITMAP_ONES ? QCOW2_BITMAP_ONES : 0);
            i++;
            continue;
        }
        uint64_t run = 1;
        while (run < most && i + run < count &&
               block_bitmap_look(b, (i + run) * st->cluster, st->cluster) == BLOCK_BITMAP_MIXED) {
            run++;
        }
        int64_t done = store_run(st, b, i, run, table);
        if (done < 0) {
            return (int)done;
        }
        i += (uint64_t)done;
    }
    return 0;
}

/* Writes table and bits of a bitmap, and puts their place into its entry. */
static coroutine_fn RUNS_IN_IOTHREAD int store_bitmap(Store *st, const BlockDirtyBitmap *b,
                                                      Qcow2Bitmap *e)
{
    uint64_t bytes = block_bitmap_bytes(b);
    uint64_t count = MAX(bytes / st->cluster + (bytes % st->cluster != 0), 1);
    if (bytes > QCOW2_BITMAP_BYTES_MAX) {
        return -EFBIG;
    }
    uint64_t size = block_align_up(count * 8, st->cluster);
    g_autofree uint8_t *table = g_try_malloc0(size);
    int ret = table != NULL ? store_bits(st, b, bytes > 0 ? count : 0, table) : -ENOMEM;
    e->table_size = (uint32_t)count;
    return ret == 0 ? store_structure(st, table, size, &e->table_offset) : ret;
}

/* ---- old clusters ---- */

static void store_add_old(Store *st, uint64_t host, uint64_t bytes)
{
    Qcow2Free f = {.cluster = host, .count = bytes}; /* in bytes here */
    g_array_append_val(st->old, f);
}

/* Notes the table of a bitmap and its clusters of bits. What cannot be read leaks. */
static coroutine_fn RUNS_IN_IOTHREAD void store_leave(Store *st, const Qcow2Bitmap *e)
{
    const Qcow2State *s = st->node->state;
    uint64_t bytes = (uint64_t)e->table_size * 8;
    g_autofree uint8_t *piece = g_malloc(STORE_PIECE);
    for (uint64_t done = 0, some; done < bytes; done += some) {
        some = MIN(bytes - done, STORE_PIECE);
        if (qcow2_co_read_table(st->node->file, e->table_offset + done, some, piece) < 0) {
            return;
        }
        for (uint64_t i = 0; i < some; i += 8) {
            uint64_t entry = qcow2_get64(piece + i);
            if (qcow2_bitmap_cluster_ok(&s->header, entry) && (entry & QCOW2_OFFSET_MASK) != 0) {
                store_add_old(st, entry, st->cluster);
            }
        }
    }
    store_add_old(st, e->table_offset, bytes);
}

/* ---- the switch ---- */

/* Writes the directory of st->list and makes the header lead to it. */
static coroutine_fn RUNS_IN_IOTHREAD int store_switch(Store *st)
{
    Qcow2State *s = st->node->state;
    Qcow2Directory d = {.count = st->list->len, .bytes = qcow2_directory_bytes(st->list)};
    int ret = 0;
    if (d.count > QCOW2_BITMAPS_MAX || d.bytes > QCOW2_BITMAP_DIRECTORY_BYTES_MAX) {
        return -EFBIG;
    }
    if (d.count > 0) {
        uint64_t size = block_align_up(d.bytes, st->cluster);
        g_autofree uint8_t *bytes = qcow2_directory_encode(st->list, size);
        ret = store_structure(st, bytes, size, &d.offset);
    }
    if (ret == 0) {
        s->w.data_written = true; /* before what refers to it */
        ret = qcow2_co_flush(st->node);
    }
    return ret == 0 ? qcow2_co_switch_directory(st->node, d) : ret;
}

/* Makes the new list the image's. */
static coroutine_fn RUNS_IN_IOTHREAD int store_commit(Store *st)
{
    Qcow2State *s = st->node->state;
    if (s->header.bitmaps > 0) {
        store_add_old(st, s->header.bitmaps_offset, s->header.bitmaps_size);
    }
    int ret = store_switch(st);
    if (ret < 0) {
        for (unsigned i = 0; i < st->runs->len && !s->bitmaps.unsure; i++) {
            qcow2_co_unalloc(st->node, &g_array_index(st->runs, Qcow2Run, i));
        }
        return ret;
    }
    qcow2_bitmaps_free(s);
    s->bitmaps.entries = g_array_ref(st->list);
    for (unsigned i = 0; i < st->old->len; i++) {
        const Qcow2Free *f = &g_array_index(st->old, Qcow2Free, i);
        qcow2_free_later(st->node, f->cluster, f->count, true);
    }
    return 0;
}

/* ---- all bitmaps ---- */

/* The entry of a bitmap. *@guess is its index if bitmaps and entries are in the same order, as they are
 * unless some were added or removed; the index after it is stored there. */
static const Qcow2Bitmap *store_find(const Qcow2State *s, const char *name, unsigned *guess)
{
    const GArray *list = s->bitmaps.entries;
    unsigned count = list != NULL ? list->len : 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned index = (*guess + i) % count;
        const Qcow2Bitmap *e = &g_array_index(list, Qcow2Bitmap, index);
        if (strcmp(e->name, name) == 0) {
            *guess = index + 1;
            return e;
        }
    }
    return NULL;
}

/* Whether the bitmap on disk, @e (NULL: none), differs from the one in memory. */
static RUNS_IN_IOTHREAD bool store_differs(const BlockDirtyBitmap *b, const Qcow2Bitmap *e)
{
    BlockStoredBitmap d = block_bitmap_describe(b);
    if (d.inconsistent) {
        return false;
    }
    return e == NULL || (e->flags & QCOW2_BITMAP_IN_USE) != 0 || block_bitmap_changed(b) ||
           ((e->flags & QCOW2_BITMAP_AUTO) != 0) != d.enabled;
}

static RUNS_IN_IOTHREAD bool store_needed(const BlockNode *n)
{
    unsigned guess = 0;
    for (BlockDirtyBitmap *b = block_bitmap_next(n, NULL); b != NULL; b = block_bitmap_next(n, b)) {
        if (store_differs(b, store_find(n->state, block_bitmap_describe(b).name, &guess))) {
            return true;
        }
    }
    return false;
}

/* Adds the bitmap to the new directory. */
static coroutine_fn RUNS_IN_IOTHREAD int store_add(Store *st, const BlockDirtyBitmap *b)
{
    BlockStoredBitmap d = block_bitmap_describe(b);
    const Qcow2Bitmap *old = store_find(st->node->state, d.name, &st->guess);
    int ret = 0;
    if (d.inconsistent) {
        if (old != NULL) {
            qcow2_bitmap_list_add(st->list, old);
        }
        return 0;
    }
    Qcow2Bitmap e = {.name = (char *)(uintptr_t)d.name, .granularity_bits = d.granularity_bits};
    if (old != NULL) {
        e = *old;
    }
    e.flags &= ~(QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO);
    e.flags |= d.enabled ? QCOW2_BITMAP_AUTO : 0;
    if (old == NULL || block_bitmap_changed(b)) {
        ret = store_bitmap(st, b, &e);
        if (ret == 0 && old != NULL) {
            store_leave(st, old);
        }
    }
    qcow2_bitmap_list_add(st->list, &e);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int store_all(Store *st)
{
    BlockNode *n = st->node;
    int ret = 0;
    for (BlockDirtyBitmap *b = block_bitmap_next(n, NULL); b != NULL && ret == 0;
         b = block_bitmap_next(n, b)) {
        ret = store_add(st, b);
    }
    if (ret < 0) {
        for (unsigned i = 0; i < st->runs->len; i++) {
            qcow2_co_unalloc(n, &g_array_index(st->runs, Qcow2Run, i));
        }
        return ret;
    }
    ret = store_commit(st);
    for (BlockDirtyBitmap *b = block_bitmap_next(n, NULL); b != NULL && ret == 0;
         b = block_bitmap_next(n, b)) {
        block_bitmap_note_stored(b);
    }
    return ret;
}

int qcow2_co_store_bitmaps(BlockNode *n)
{
    if (!store_needed(n)) {
        return 0;
    }
    Store st;
    int ret = qcow2_co_begin_change(n);
    if (ret == 0) {
        store_init(&st, n);
        ret = store_all(&st);
        store_clear(&st);
    }
    if (ret < 0) {
        log_warn("%s: the dirty bitmaps cannot be stored: %s; those that have changed are "
                 "inconsistent when the image is opened again",
                 qcow2_who(n), g_strerror(-ret));
    }
    return ret;
}

/* ---- removal ---- */

int qcow2_co_remove_bitmap(BlockNode *n, const char *name)
{
    const Qcow2State *s = n->state;
    Store st;
    unsigned guess = 0;
    if (store_find(s, name, &guess) == NULL) {
        return 0;
    }
    int ret = qcow2_co_begin_change(n);
    if (ret < 0) {
        return ret;
    }
    store_init(&st, n);
    for (unsigned i = 0; i < s->bitmaps.entries->len; i++) {
        const Qcow2Bitmap *e = &g_array_index(s->bitmaps.entries, Qcow2Bitmap, i);
        if (strcmp(e->name, name) != 0) {
            qcow2_bitmap_list_add(st.list, e);
        } else {
            store_leave(&st, e);
        }
    }
    ret = qcow2_co_settle_directory(n);
    ret = ret == 0 ? store_commit(&st) : ret;
    store_clear(&st);
    return qcow2_co_save_corrupt(n, ret);
}
