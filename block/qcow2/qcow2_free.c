/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clusters that lose a reference.
 *
 *   noted (w->frees) --commit--> permitted (w->batches) --requests end--> decremented
 *          ^--commit failed--'
 *
 * A request in flight may have found the cluster through the old reference. So a permitted batch
 * waits for all requests that had begun before it was permitted. The host's space is given back, and
 * refcounts are decremented, in the background: a flush does not wait for that. A request that hangs
 * delays the reuse of space, and nothing else. While a snapshot is created nothing is
 * decremented. A cluster is noted once for each reference that it has, so the memory is bounded by the
 * clusters of the file.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"
#include "block/qcow2/qcow2_refcount_width.h"

/* ---- requests ---- */

void qcow2_use_begin(Qcow2Writer *w, Qcow2Use *use)
{
    *use = (Qcow2Use){.sequence = ++w->sequence, .prev = w->last_use};
    *(use->prev != NULL ? &use->prev->next : &w->first_use) = use;
    w->last_use = use;
}

void qcow2_use_end(BlockNode *n, Qcow2Use *use)
{
    Qcow2Writer *w = &((Qcow2State *)n->state)->w;
    *(use->prev != NULL ? &use->prev->next : &w->first_use) = use->next;
    *(use->next != NULL ? &use->next->prev : &w->last_use) = use->prev;
    if (w->batches.head != NULL) {
        qcow2_free_start(n);
    }
}

/* ---- frees ---- */

void qcow2_free_later(BlockNode *n, uint64_t host, uint64_t bytes, bool discard)
{
    Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    Qcow2Free f = {.cluster = host >> bits, .discard = discard};
    f.count = ((host + bytes - 1) >> bits) - f.cluster + 1;
    GArray *frees = s->w.frees;
    Qcow2Free *last = frees->len > 0 ? &g_array_index(frees, Qcow2Free, frees->len - 1) : NULL;
    if (last != NULL && last->discard == discard && last->cluster + last->count == f.cluster) {
        last->count += f.count;
        return;
    }
    g_array_append_val(frees, f);
}

void qcow2_free_entry(BlockNode *n, Qcow2Entry m, bool discard)
{
    const Qcow2State *s = n->state;
    uint64_t host = m.entry & QCOW2_OFFSET_MASK, length = qcow2_cluster_size(&s->header);
    if ((m.entry & QCOW2_ENTRY_COMPRESSED) != 0) {
        qcow2_compressed_place(s, m, &host, &length);
    } else if (!qcow2_has_cluster(s, m)) {
        return;
    }
    if (!qcow2_has_data_file(&s->header)) {
        qcow2_free_later(n, host, length, discard);
    }
}

void qcow2_free_permit(Qcow2Writer *w, GArray *frees)
{
    if (frees->len == 0) {
        g_array_unref(frees);
        return;
    }
    Qcow2FreeBatch *b = g_new(Qcow2FreeBatch, 1);
    *b = (Qcow2FreeBatch){.sequence = w->sequence, .frees = frees};
    g_queue_push_tail(&w->batches, b);
}

/* Gives the host's space back for clusters from @first on that are about to become free. Returns the
 * number of clusters looked at. */
static coroutine_fn RUNS_IN_IOTHREAD int free_discard(BlockNode *n, uint64_t first, uint64_t count,
                                                      uint64_t *looked)
{
    Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    Qcow2Slice *slice;
    uint64_t index, length, last = 0, run = 0;
    int ret = qcow2_co_get_refcounts(n, first, &slice, &index, &length);
    *looked = MIN(count, length);
    if (ret < 0 || slice == NULL) {
        return ret;
    }
    for (uint64_t i = 0; i < *looked; i++) {
        last = qcow2_refcount_get(slice->data, index + i, s->header.refcount_order);
        if (last != 1) {
            *looked = MAX(i, 1);
            break;
        }
        run = i + 1;
    }
    qcow2_cache_put(&s->w.refcounts, slice);
    if (run > 0) {
        block_node_co_discard(n->file, first << bits, run << bits); /* only a hint */
    }
    return 0;
}

/* Entries of the L1 and refcount tables that frees are compared with. */
#define FREE_TABLES_MAX 131072u

static void free_add_tables(GArray *places, const Qcow2Table *t, uint64_t mask)
{
    for (uint32_t i = 0; i < t->count; i++) {
        uint64_t offset = t->entries[i] & mask;
        if (offset != 0) {
            g_array_append_val(places, offset);
        }
    }
}

static int free_compare_places(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* The places of L2 tables and refcount blocks, ascending; none if there are very many. */
static GArray *free_find_tables(const Qcow2State *s)
{
    GArray *places = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    if ((uint64_t)s->l1.count + s->w.refcount_table.count <= FREE_TABLES_MAX) {
        free_add_tables(places, &s->l1, QCOW2_OFFSET_MASK);
        free_add_tables(places, &s->w.refcount_table, ~(uint64_t)(QCOW2_SECTOR - 1));
        g_array_sort(places, free_compare_places);
    }
    return places;
}

/* The entry of an invalid image can lead to metadata, which is not to become a hole. */
static RUNS_IN_IOTHREAD int free_check(const BlockNode *n, const GArray *places, const Qcow2Free *f)
{
    const Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    uint64_t host = f->cluster << bits, end = host + (f->count << bits);
    guint low = 0, high = places->len;
    while (low < high) { /* the first place that is not before @host */
        guint middle = (low + high) / 2;
        bool before = g_array_index(places, uint64_t, middle) < host;
        low = before ? middle + 1 : low;
        high = before ? high : middle;
    }
    if (low < places->len && g_array_index(places, uint64_t, low) < end) {
        return qcow2_corrupt(n, "a discard at 0x%" PRIx64 " of the file would remove a table",
                             host);
    }
    return qcow2_check_overlap(n, host, f->count << bits);
}

int qcow2_co_free_some(BlockNode *n, Qcow2Free *f)
{
    Qcow2State *s = n->state;
    uint64_t length = f->count, done = 0;
    int ret = f->discard ? free_discard(n, f->cluster, f->count, &length) : 0;
    if (ret == 0) {
        ret = qcow2_co_change_refcounts(n, f->cluster, length, -1, &done);
    }
    if (done > 0) {
        qcow2_note_free(&s->w, f->cluster);
    }
    f->cluster += done;
    f->count -= done;
    return ret;
}

int qcow2_co_free_extent(BlockNode *n, Qcow2Free *f)
{
    int ret = 0;
    while (f->count > 0 && ret == 0) {
        ret = qcow2_co_free_some(n, f);
    }
    return ret;
}

/* -EAGAIN: a drained section waits for the frees in the @background, which leave the rest. */
static coroutine_fn RUNS_IN_IOTHREAD int free_batch(BlockNode *n, const Qcow2FreeBatch *b,
                                                    bool background)
{
    g_autoptr(GArray) places = NULL; /* no cluster of the batch becomes a table meanwhile */
    int ret = 0;
    while (ret == 0 && b->frees->len > 0) {
        Qcow2Free *f = &g_array_index(b->frees, Qcow2Free, b->frees->len - 1);
        if (f->discard) {
            places = places != NULL ? places : free_find_tables(n->state);
            ret = free_check(n, places, f);
        }
        ret = ret == 0 ? qcow2_co_free_extent(n, f) : ret;
        if (ret == 0) {
            g_array_set_size(b->frees, b->frees->len - 1);
            ret = background && n->quiesced > 0 ? -EAGAIN : 0;
        }
    }
    return ret;
}

static RUNS_IN_IOTHREAD Qcow2FreeBatch *free_next(BlockNode *n)
{
    const Qcow2State *s = n->state;
    Qcow2Writer *w = &((Qcow2State *)n->state)->w;
    Qcow2FreeBatch *b = g_queue_peek_head(&w->batches);
    bool used = b != NULL && w->first_use != NULL && w->first_use->sequence <= b->sequence;
    return used || s->snap.fresh != NULL ? NULL : b;
}

static coroutine_fn RUNS_IN_IOTHREAD void free_batches(BlockNode *n, bool background)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    Qcow2FreeBatch *b;
    int ret = 0;
    while (ret == 0 && (b = free_next(n)) != NULL) {
        ret = free_batch(n, b, background);
        if (ret == 0 || w->corrupt) { /* of a corrupt image the rest leaks */
            g_queue_pop_head(&w->batches);
            g_array_unref(b->frees);
            g_free(b);
        }
    }
    w->freeing = false;
    co_queue_wake_all(&w->free_waiters);
}

static void free_run(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    free_batches(n, true);
    qcow2_co_save_corrupt(n, 0);
    block_node_end(n);
}

void qcow2_free_start(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (!s->w.freeing && n->quiesced == 0 && free_next(n) != NULL) {
        s->w.freeing = true;
        block_node_begin(n);
        co_start(n->home, free_run, n);
    }
}

void qcow2_co_free_all(BlockNode *n)
{
    Qcow2State *s = n->state;
    while (s->w.freeing) {
        co_queue_wait(&s->w.free_waiters, "qcow2 clusters to be freed");
    }
    s->w.freeing = true;
    free_batches(n, false);
}

bool qcow2_co_reclaim(BlockNode *n, Qcow2Use *use)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    if (w->frees->len == 0 && g_queue_is_empty(&w->batches)) {
        return false;
    }
    qcow2_use_end(n, use); /* else the clusters wait for it */
    int ret = qcow2_co_flush(n);
    if (ret == 0) {
        qcow2_co_free_all(n);
    }
    qcow2_use_begin(w, use);
    return ret == 0;
}
