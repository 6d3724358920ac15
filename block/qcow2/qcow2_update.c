/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of the header. Its fields are in one sector, which is written atomically; whatever skiff
 * does not know in it is kept. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define UPDATE_AT(field) offsetof(Qcow2DiskHeader, field)

void qcow2_header_encode(const Qcow2Header *h, const uint8_t *old, uint8_t *sector)
{
    memcpy(sector, old, QCOW2_SECTOR);
    qcow2_put64(sector + UPDATE_AT(size), h->size);
    qcow2_put32(sector + UPDATE_AT(l1_size), h->l1_size);
    qcow2_put64(sector + UPDATE_AT(l1_table_offset), h->l1_offset);
    qcow2_put64(sector + UPDATE_AT(refcount_table_offset), h->refcount_offset);
    qcow2_put32(sector + UPDATE_AT(refcount_table_clusters), h->refcount_clusters);
    qcow2_put32(sector + UPDATE_AT(nb_snapshots), h->snapshots);
    qcow2_put64(sector + UPDATE_AT(snapshots_offset), h->snapshots_offset);
    if (h->version >= 3) {
        qcow2_put64(sector + UPDATE_AT(incompatible_features), h->incompatible);
        qcow2_put64(sector + UPDATE_AT(compatible_features), h->compatible);
        qcow2_put64(sector + UPDATE_AT(autoclear_features), h->autoclear);
        qcow2_put32(sector + UPDATE_AT(refcount_order), h->refcount_order);
    }
}

int qcow2_co_write_header(BlockNode *n, const uint8_t *sector)
{
    Qcow2State *s = n->state;
    struct iovec iov = {(void *)(uintptr_t)sector, QCOW2_SECTOR};
    int ret = block_node_co_pwritev(n->file, 0, QCOW2_SECTOR, &iov, 1, 0);
    if (ret == 0) {
        memcpy(s->w.sector, sector, QCOW2_SECTOR);
    }
    return ret;
}

typedef struct UpdateBits {
    uint64_t set, clear; /* incompatible features */
    uint64_t autoclear;  /* those to be cleared */
} UpdateBits;

/* Changes the feature bits on disk, and nothing else of the header. The other bits are as they are
 * when no other change of the header runs. */
static coroutine_fn RUNS_IN_IOTHREAD int update_features(BlockNode *n, UpdateBits bits)
{
    Qcow2State *s = n->state;
    uint8_t sector[QCOW2_SECTOR];
    qcow2_co_commit_begin(&s->w);
    s->header.incompatible = (s->header.incompatible & ~bits.clear) | bits.set;
    s->header.autoclear &= ~bits.autoclear;
    memcpy(sector, s->w.sector, sizeof(sector));
    qcow2_put64(sector + UPDATE_AT(incompatible_features), s->header.incompatible);
    qcow2_put64(sector + UPDATE_AT(autoclear_features), s->header.autoclear);
    qcow2_publish_info(n);
    int ret = qcow2_co_write_header(n, sector);
    if (ret == 0) {
        ret = block_node_co_flush(n->file);
    }
    qcow2_commit_end(&s->w);
    return ret;
}

/* Whoever writes clears the bits of what it does not maintain. */
static coroutine_fn RUNS_IN_IOTHREAD int update_begin(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Header *h = &s->header;
    uint64_t known = QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    bool lazy = (h->compatible & QCOW2_COMPATIBLE_LAZY_REFCOUNTS) != 0;
    if (h->version < 3) {
        return 0;
    }
    int ret = qcow2_co_mark_bitmaps(n);
    if (ret < 0) {
        return ret;
    }
    known |= h->bitmaps > 0 ? QCOW2_AUTOCLEAR_BITMAPS : 0;
    UpdateBits bits = {.set = lazy ? QCOW2_INCOMPATIBLE_DIRTY : 0, .autoclear = ~known};
    if (s->w.header_unsure || (h->autoclear & bits.autoclear) != 0 ||
        (bits.set & ~h->incompatible) != 0) {
        s->w.header_unsure = true;
        ret = update_features(n, bits);
        s->w.header_unsure = ret != 0;
    }
    s->w.lazy = lazy && ret == 0;
    return ret;
}

int qcow2_co_begin_change(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    if (w->corrupt) {
        return -EIO;
    }
    while (w->beginning) {
        co_queue_wait(&w->begin_waiters, "the first change of a qcow2 image");
    }
    if (w->begun) {
        return 0;
    }
    w->beginning = true;
    int ret = update_begin(n);
    w->begun = ret == 0;
    w->beginning = false;
    co_queue_wake_all(&w->begin_waiters);
    return ret;
}

int qcow2_co_set_dirty(BlockNode *n)
{
    const Qcow2State *s = n->state;
    if (s->header.version < 3 || s->w.lazy) {
        return 0;
    }
    return update_features(n, (UpdateBits){.set = QCOW2_INCOMPATIBLE_DIRTY});
}

int qcow2_co_clear_dirty(BlockNode *n)
{
    return update_features(n, (UpdateBits){.clear = QCOW2_INCOMPATIBLE_DIRTY});
}

int qcow2_co_save_corrupt(BlockNode *n, int ret)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    if (!w->corrupt || w->corrupt_saved || !w->loaded || n->flags.read_only) {
        return ret;
    }
    w->corrupt_saved = true;
    if (s->header.version >= 3) {
        /* its failure is reported with the corruption */
        update_features(n, (UpdateBits){.set = QCOW2_INCOMPATIBLE_CORRUPT});
    }
    return ret;
}
