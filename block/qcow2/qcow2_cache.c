/* SPDX-License-Identifier: Apache-2.0 */
/* Slices of tables in memory. */
#include <errno.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_int.h"

#define CACHE_LOAD_BYTES 65536u /* at most, with one read */
#define CACHE_LOAD_MAX 16u      /* slices */
#define CACHE_FILLING 2u        /* the part of the limit that background work may fill */
#define CACHE_FILLING_MIN 16u   /* a smaller limit is too small to be divided */

void qcow2_cache_init(Qcow2Cache *c, uint64_t bytes, size_t slice_size, uint64_t table_size,
                      bool limited)
{
    uint64_t count = MAX(bytes / slice_size, 2);
    *c = (Qcow2Cache){.slice_size = slice_size,
                      .table_size = table_size,
                      .count = (unsigned)MIN(count, UINT32_MAX / 2)};
    c->limit = limited ? c->count / 2 : 0;
    c->dirty_list = g_ptr_array_new();
    c->zeroes = g_array_new(false, false, sizeof(uint64_t));
    unsigned buckets = 1;
    while (buckets < c->count) {
        buckets *= 2;
    }
    c->bucket_mask = buckets - 1;
    c->buckets = g_new0(Qcow2Slice *, buckets);
    c->slices = g_new0(Qcow2Slice, c->count);
    for (unsigned i = 0; i < c->count; i++) {
        c->slices[i].lru_prev = i > 0 ? &c->slices[i - 1] : NULL;
        c->slices[i].lru_next = i + 1 < c->count ? &c->slices[i + 1] : NULL;
    }
    c->lru_first = &c->slices[0];
    c->lru_last = &c->slices[c->count - 1];
    co_queue_init(&c->waiters);
}

void qcow2_cache_destroy(Qcow2Cache *c)
{
    g_clear_pointer(&c->dirty_list, g_ptr_array_unref);
    g_clear_pointer(&c->zeroes, g_array_unref);
    for (unsigned i = 0; i < c->count; i++) {
        free(c->slices[i].data);
    }
    g_free(c->slices);
    g_free(c->buckets);
    *c = (Qcow2Cache){0};
}

/* ---- the hash table ---- */

static Qcow2Slice **cache_bucket(const Qcow2Cache *c, uint64_t offset)
{
    uint64_t hash = offset / c->slice_size * 0x9e3779b97f4a7c15u;
    return &c->buckets[(hash >> 32) & c->bucket_mask];
}

static Qcow2Slice *cache_find(const Qcow2Cache *c, uint64_t offset)
{
    Qcow2Slice *s = *cache_bucket(c, offset);
    while (s != NULL && s->offset != offset) {
        s = s->hash_next;
    }
    return s;
}

static void cache_insert(Qcow2Cache *c, Qcow2Slice *s, uint64_t offset)
{
    Qcow2Slice **bucket = cache_bucket(c, offset);
    s->offset = offset;
    s->hash_next = *bucket;
    *bucket = s;
}

static void cache_unhash(Qcow2Cache *c, Qcow2Slice *s)
{
    Qcow2Slice **link = cache_bucket(c, s->offset);
    while (*link != s) {
        link = &(*link)->hash_next;
    }
    *link = s->hash_next;
    s->hash_next = NULL;
    s->offset = 0;
    if (s->dirty) { /* its contents are given up */
        s->dirty = false;
        c->dirty--;
    }
}

/* ---- the order of use ---- */

static void cache_unlink(Qcow2Cache *c, Qcow2Slice *s)
{
    *(s->lru_prev != NULL ? &s->lru_prev->lru_next : &c->lru_first) = s->lru_next;
    *(s->lru_next != NULL ? &s->lru_next->lru_prev : &c->lru_last) = s->lru_prev;
}

static void cache_make_latest(Qcow2Cache *c, Qcow2Slice *s)
{
    if (c->lru_last == s) {
        return;
    }
    cache_unlink(c, s);
    s->lru_prev = c->lru_last;
    s->lru_next = NULL;
    c->lru_last->lru_next = s;
    c->lru_last = s;
}

static void cache_make_first(Qcow2Cache *c, Qcow2Slice *s)
{
    if (c->lru_first == s) {
        return;
    }
    cache_unlink(c, s);
    s->lru_next = c->lru_first;
    s->lru_prev = NULL;
    c->lru_first->lru_prev = s;
    c->lru_first = s;
}

/* The least recently used slice that is clean and not in use, made free; NULL: there is none. */
static Qcow2Slice *cache_evict(Qcow2Cache *c)
{
    Qcow2Slice *s = c->lru_first;
    while (s != NULL && (s->users > 0 || s->dirty || s->writing)) {
        s = s->lru_next;
    }
    if (s != NULL && s->offset != 0) {
        cache_unhash(c, s);
    }
    return s;
}

/* The least recently used dirty slice that can be written now; NULL: there is none. */
static Qcow2Slice *cache_find_dirty(const Qcow2Cache *c)
{
    Qcow2Slice *s = c->limit == 0 ? c->lru_first : NULL;
    while (s != NULL && (s->users > 0 || !s->dirty || s->writing)) {
        s = s->lru_next;
    }
    return s;
}

/* ---- loading ---- */

static bool cache_is_zero(const Qcow2Cache *c, uint64_t offset)
{
    for (unsigned i = 0; i < c->zeroes->len; i++) {
        uint64_t table = g_array_index(c->zeroes, uint64_t, i);
        if (offset >= table && offset - table < c->table_size) {
            return true;
        }
    }
    return false;
}

/* Slices that are loaded together: the wanted one and those behind it. */
typedef struct CacheLoad {
    Qcow2Slice *slices[CACHE_LOAD_MAX];
    struct iovec iov[CACHE_LOAD_MAX];
    unsigned count;
} CacheLoad;

/* Makes the free slice @s the next one to be loaded. False: there is no memory. */
static bool cache_claim(Qcow2Cache *c, Qcow2Slice *s, uint64_t offset, CacheLoad *load)
{
    if (s->data == NULL) {
        size_t alignment = MIN(MAX(c->slice_size, sizeof(void *)), BLOCK_MEMORY_ALIGNMENT_MAX);
        s->data = aligned_alloc(alignment, c->slice_size);
    }
    if (s->data == NULL) {
        return false;
    }
    cache_make_latest(c, s);
    cache_insert(c, s, offset);
    s->users++;
    s->loading = s->touched = true;
    load->slices[load->count] = s;
    load->iov[load->count] = (struct iovec){s->data, c->slice_size};
    load->count++;
    return true;
}

/* Adds the slices that follow in the table, as long as they are not in memory and others are free:
 * nothing is evicted for them. So a sequential access waits once for many slices. */
static void cache_claim_more(Qcow2Cache *c, const BlockNode *file, uint64_t offset, CacheLoad *load)
{
    uint64_t end = block_align_down(offset, c->table_size) + c->table_size;
    end = MIN(end, block_align_down(block_node_size(file), c->slice_size));
    end = MIN(end, offset + CACHE_LOAD_BYTES);
    for (uint64_t at = offset + c->slice_size; at < end && load->count < CACHE_LOAD_MAX;
         at += c->slice_size) {
        Qcow2Slice *s = c->lru_first;
        bool is_free = s->offset == 0 && s->users == 0 && !s->dirty && !s->writing;
        if (!is_free || cache_find(c, at) != NULL || !cache_claim(c, s, at, load)) {
            return;
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int cache_fill(const Qcow2Cache *c, BlockNode *file,
                                                    uint64_t offset, const CacheLoad *load)
{
    uint64_t bytes = load->count * c->slice_size, size = block_node_size(file);
    if (cache_is_zero(c, offset)) {
        iov_memset(load->iov, load->count, 0, 0, bytes);
        return 0;
    }
    if (offset > size || bytes > size - offset) {
        return -EIO;
    }
    return block_node_co_preadv(file, offset, bytes, load->iov, load->count);
}

/* Ends the loading of all slices but the first @keep; after an error they are free again. */
static RUNS_IN_IOTHREAD void cache_end_load(Qcow2Cache *c, CacheLoad *load, unsigned keep, int ret)
{
    while (load->count > keep) {
        Qcow2Slice *s = load->slices[--load->count];
        s->loading = false;
        s->users--;
        if (ret < 0) {
            cache_unhash(c, s);
            cache_make_first(c, s);
        }
    }
}

/* Loads the slice at @offset into @s. It is used then, others that are loaded with it are not. */
static coroutine_fn RUNS_IN_IOTHREAD int cache_load(Qcow2Cache *c, BlockNode *file, Qcow2Slice *s,
                                                    uint64_t offset)
{
    CacheLoad load = {0};
    if (!cache_claim(c, s, offset, &load)) {
        return -ENOMEM;
    }
    cache_claim_more(c, file, offset, &load);
    int ret = cache_fill(c, file, offset, &load);
    if (ret < 0 && load.count > 1) { /* maybe only the others cannot be read */
        cache_end_load(c, &load, 1, ret);
        ret = cache_fill(c, file, offset, &load);
    }
    cache_end_load(c, &load, ret < 0 ? 0 : 1, ret);
    s->loading = false;
    co_queue_wake_all(&c->waiters);
    return ret;
}

int qcow2_cache_co_get(Qcow2Cache *c, BlockNode *file, uint64_t offset, Qcow2Slice **slice)
{
    for (;;) {
        Qcow2Slice *s = cache_find(c, offset);
        if (s != NULL && !s->loading) {
            s->users++;
            s->touched = true;
            cache_make_latest(c, s);
            *slice = s;
            return 0;
        }
        Qcow2Slice *fresh = s == NULL ? cache_evict(c) : NULL;
        if (fresh != NULL) {
            *slice = fresh;
            return cache_load(c, file, fresh, offset);
        }
        Qcow2Slice *dirty = s == NULL ? cache_find_dirty(c) : NULL;
        if (dirty != NULL) {
            int ret = qcow2_cache_co_clean_slice(c, file, dirty);
            if (ret < 0) {
                return ret;
            }
            continue;
        }
        co_queue_wait(&c->waiters, "a slice of a qcow2 table");
    }
}

void qcow2_cache_put(Qcow2Cache *c, Qcow2Slice *slice)
{
    slice->users--;
    if (slice->users == 0) {
        co_queue_wake_all(&c->waiters); /* some may wait for another slice to be loaded */
    }
}

/* ---- changes ---- */

bool qcow2_cache_full(const Qcow2Cache *c)
{
    return c->limit != 0 && c->dirty >= c->limit;
}

bool qcow2_cache_filling(const Qcow2Cache *c)
{
    return c->limit >= CACHE_FILLING_MIN && c->dirty >= c->limit / CACHE_FILLING;
}

void qcow2_cache_mark_dirty(Qcow2Cache *c, Qcow2Slice *slice)
{
    if (slice->dirty) {
        return;
    }
    c->dirty += slice->writing ? 0 : 1;
    slice->dirty = true;
    if (!slice->listed) {
        slice->listed = true;
        g_ptr_array_add(c->dirty_list, slice);
    }
}

bool qcow2_cache_forget(Qcow2Cache *c, uint64_t offset, uint64_t bytes)
{
    for (uint64_t at = offset; at < offset + bytes; at += c->slice_size) {
        Qcow2Slice *s = cache_find(c, at);
        if (s == NULL) {
            continue;
        }
        if (s->users > 0 || s->writing) {
            return false;
        }
        cache_unhash(c, s);
        cache_make_first(c, s);
    }
    return true;
}

void qcow2_cache_begin_zeroes(Qcow2Cache *c, uint64_t offset)
{
    g_array_append_val(c->zeroes, offset);
}

void qcow2_cache_end_zeroes(Qcow2Cache *c, uint64_t offset)
{
    for (unsigned i = 0; i < c->zeroes->len; i++) {
        if (g_array_index(c->zeroes, uint64_t, i) == offset) {
            g_array_remove_index_fast(c->zeroes, i);
            return;
        }
    }
}

/* ---- cleaning ---- */

void qcow2_cache_clean(Qcow2Cache *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        Qcow2Slice *s = &c->slices[i];
        if (s->users == 0 && !s->touched && !s->dirty && !s->writing && s->data != NULL) {
            if (s->offset != 0) {
                cache_unhash(c, s);
            }
            cache_make_first(c, s);
            g_clear_pointer(&s->data, free);
        }
        s->touched = false;
    }
}

unsigned qcow2_cache_loaded(const Qcow2Cache *c)
{
    unsigned loaded = 0;
    for (unsigned i = 0; i < c->count; i++) {
        loaded += c->slices[i].data != NULL;
    }
    return loaded;
}
