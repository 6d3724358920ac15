/* SPDX-License-Identifier: Apache-2.0 */
/* Bitmaps of jobs: what has to be copied, and bitmaps of nodes while a job uses them. */
#include <errno.h>
#include "block/core/dirty_bitmap.h"

/* ---- bitmaps without a node ---- */

BlockDirtyBitmap *block_bitmap_new(uint64_t size, uint32_t granularity)
{
    BlockDirtyBitmap *b = g_new0(BlockDirtyBitmap, 1);
    b->shift = (unsigned)__builtin_ctz(granularity);
    if (!bitmap_init_bits(b, size)) {
        bitmap_free(b);
        return NULL;
    }
    return b;
}

void block_bitmap_free(BlockDirtyBitmap *b)
{
    if (b != NULL) {
        bitmap_free(b);
    }
}

uint64_t block_bitmap_size(const BlockDirtyBitmap *b)
{
    return b->size;
}

uint32_t block_bitmap_granularity(const BlockDirtyBitmap *b)
{
    return (uint32_t)1 << b->shift;
}

static bool job_bit(const BlockDirtyBitmap *b, uint64_t bit)
{
    return (b->words[bit / BITMAP_WORD] >> bit % BITMAP_WORD & 1) != 0;
}

uint64_t block_bitmap_dirty_bytes(const BlockDirtyBitmap *b)
{
    uint64_t bytes = atomic_load_explicit(&b->set, memory_order_relaxed) << b->shift;
    uint64_t bits = bitmap_bits(b->size, b->shift);
    if (bits > 0 && job_bit(b, bits - 1)) {
        bytes -= (bits << b->shift) - b->size; /* beyond the end */
    }
    return bytes;
}

void block_bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes)
{
    bitmap_set(b, offset, bytes);
}

static void job_clear_bits(BlockDirtyBitmap *b, uint64_t first, uint64_t end)
{
    uint64_t less = 0;
    while (first < end) {
        uint64_t word = first / BITMAP_WORD,
                 count = MIN(end - first, BITMAP_WORD - first % BITMAP_WORD);
        uint64_t mask = (UINT64_MAX >> (BITMAP_WORD - count)) << first % BITMAP_WORD;
        less += (uint64_t)__builtin_popcountll(b->words[word] & mask);
        b->words[word] &= ~mask;
        first += count;
    }
    uint64_t set = atomic_load_explicit(&b->set, memory_order_relaxed);
    atomic_store_explicit(&b->set, set - less, memory_order_relaxed);
}

void block_bitmap_clear(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes)
{
    uint64_t unit = (uint64_t)1 << b->shift;
    if (offset < b->size) {
        uint64_t end = offset + MIN(bytes, b->size - offset);
        uint64_t last = end == b->size ? bitmap_bits(end, b->shift) : end >> b->shift;
        job_clear_bits(b, (offset + unit - 1) >> b->shift, last);
        b->changed = true;
    }
}

/* The first bit from @bit on that is set, or not set; @end if there is none before. */
static uint64_t job_seek(const BlockDirtyBitmap *b, uint64_t bit, uint64_t end, bool set)
{
    while (bit < end) {
        uint64_t word = b->words[bit / BITMAP_WORD];
        word = (set ? word : ~word) >> bit % BITMAP_WORD;
        if (word != 0) {
            return MIN(bit + (unsigned)__builtin_ctzll(word), end);
        }
        bit = (bit / BITMAP_WORD + 1) * BITMAP_WORD;
    }
    return end;
}

bool block_bitmap_find(const BlockDirtyBitmap *b, uint64_t from, uint64_t end, uint64_t *offset,
                       uint64_t *bytes)
{
    end = MIN(end, b->size);
    if (from >= end) {
        return false;
    }
    uint64_t bits = bitmap_bits(end, b->shift);
    uint64_t first = job_seek(b, from >> b->shift, bits, true);
    if (first == bits) {
        return false;
    }
    uint64_t last = job_seek(b, first, bits, false);
    *offset = MAX(first << b->shift, from);
    *bytes = MIN(last << b->shift, end) - *offset;
    return true;
}

/* ---- a bitmap of a node that a job uses ---- */

typedef struct BitmapJob {
    BlockNode *node;
    BlockDirtyBitmap *bitmap;
    BlockDirtyBitmap *todo;       /* begin */
    bool keep;                    /* end */
    const BlockDirtyBitmap *left; /* end */
    int ret;
} BitmapJob;

static void job_begin_at_home(void *opaque)
{
    BitmapJob *job = opaque;
    BlockDirtyBitmap *b = job->bitmap;
    enter_coroutine();
    enter_iothread(job->node->home);
    job->ret = bitmap_co_begin_change(job->node, b, true);
    if (job->ret == 0) {
        b->successor = block_bitmap_new(b->size, (uint32_t)1 << b->shift);
        job->ret = b->successor != NULL ? 0 : -ENOMEM;
    }
    if (job->ret == 0) {
        bitmap_add_bits(job->todo, b);
    }
}

bool block_dirty_bitmap_co_begin_job(BlockNode *n, const char *name, bool changes,
                                     BlockDirtyBitmap *todo, GError **error)
{
    BitmapJob job = {.node = n, .todo = todo};
    unsigned use = BITMAP_FOR_BITS | (changes ? BITMAP_FOR_CHANGE : 0);
    job.bitmap = bitmap_find_for(n, name, use, error);
    if (job.bitmap == NULL) {
        return false;
    }
    job.bitmap->busy = true;
    co_call_in(n->home, job_begin_at_home, &job);
    if (job.ret < 0) {
        job.bitmap->busy = false;
        bitmap_change_failed(n, job.ret, error);
    }
    return job.ret == 0;
}

static void job_end_at_home(void *opaque)
{
    BitmapJob *job = opaque;
    BlockDirtyBitmap *b = job->bitmap, *since = b->successor;
    enter_coroutine();
    enter_iothread(job->node->home);
    if (!job->keep) {
        job_clear_bits(b, 0, bitmap_bits(b->size, b->shift));
    }
    b->successor = NULL;
    bitmap_add_bits(b, since);
    if (job->left != NULL) {
        bitmap_add_bits(b, job->left);
    }
    b->changed = true;
    bitmap_free(since);
}

void block_dirty_bitmap_co_end_job(BlockNode *n, const char *name, bool keep,
                                   const BlockDirtyBitmap *left)
{
    BitmapJob job = {.node = n, .keep = keep, .left = left, .bitmap = bitmap_find(n, name, NULL)};
    if (job.bitmap == NULL || !job.bitmap->busy) {
        bug_abort("node '%s': no job uses bitmap '%s'", n->name, name);
    }
    co_call_in(n->home, job_end_at_home, &job);
    job.bitmap->busy = false;
}
