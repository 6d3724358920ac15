/* SPDX-License-Identifier: Apache-2.0 */
/* Merging of dirty bitmaps: all sources are collected before the target changes. */
#include "block/core/dirty_bitmap.h"

typedef struct BitmapMerge {
    BlockNode *node; /* in whose home a step runs */
    BlockDirtyBitmap *from, *to;
    BlockBitmapUndo *undo; /* of the target; NULL: no drained section covers it */
    uint64_t size;         /* of the source */
    bool ok;
    int ret; /* the image cannot be changed */
} BitmapMerge;

static void bitmap_add_words(BlockDirtyBitmap *to, const BlockDirtyBitmap *from, size_t words)
{
    uint64_t set = atomic_load_explicit(&to->set, memory_order_relaxed);
    for (size_t i = 0; i < words; i++) {
        set += (uint64_t)__builtin_popcountll(from->words[i] & ~to->words[i]);
        to->words[i] |= from->words[i];
    }
    atomic_store_explicit(&to->set, set, memory_order_relaxed);
    to->changed = true;
}

void bitmap_add_bits(BlockDirtyBitmap *to, const BlockDirtyBitmap *from)
{
    size_t words = bitmap_words(bitmap_bits(from->size, from->shift));
    if (to->shift == from->shift && to->size == from->size) {
        bitmap_add_words(to, from, words);
        return;
    }
    for (size_t i = 0; i < words; i++) {
        for (uint64_t rest = from->words[i]; rest != 0; rest &= rest - 1) {
            uint64_t bit = i * BITMAP_WORD + (unsigned)__builtin_ctzll(rest);
            bitmap_set(to, bit << from->shift, (uint64_t)1 << from->shift);
        }
    }
}

static void bitmap_merge_at_home(void *opaque)
{
    BitmapMerge *m = opaque;
    enter_coroutine();
    enter_iothread(m->node->home);
    m->size = m->from->size;
    m->ok = m->from->size == m->to->size;
    if (m->ok && m->undo != NULL && !bitmap_save_bits(m->to, m->undo)) {
        m->ret = -ENOMEM;
    }
    if (m->ok && m->ret == 0) {
        bitmap_add_bits(m->to, m->from);
    }
}

static void bitmap_target_at_home(void *opaque)
{
    BitmapMerge *m = opaque;
    enter_coroutine();
    enter_iothread(m->node->home);
    m->ret = bitmap_co_begin_change(m->node, m->from, m->undo != NULL);
    bitmap_resize(m->to, m->from->size);
}

/* Collects the sources' bits in @sum, which has the size of the target. */
static coroutine_fn RUNS_IN_MAIN bool bitmap_co_collect(BlockDirtyBitmap *sum,
                                                        const BlockDirtyBitmapRef *sources,
                                                        unsigned count, GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        BlockNode *n = sources[i].node;
        BitmapMerge m = {.node = n, .to = sum};
        m.from = bitmap_find_for(n, sources[i].name, BITMAP_FOR_BITS, error);
        if (m.from == NULL) {
            return false;
        }
        co_call_in(n->home, bitmap_merge_at_home, &m);
        if (!m.ok) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "Bitmaps are of different sizes (destination size is %" G_GUINT64_FORMAT
                        ", source size is %" G_GUINT64_FORMAT ") and can't be merged",
                        sum->size, m.size);
            return false;
        }
    }
    return true;
}

/* The target gets the bits of @sum. */
static coroutine_fn RUNS_IN_MAIN bool bitmap_co_take_sum(BlockDirtyBitmap *sum, BlockNode *n,
                                                         BlockDirtyBitmap *b, BlockBitmapUndo *undo,
                                                         GError **error)
{
    BitmapMerge m = {.node = n, .from = sum, .to = b, .undo = undo};
    co_call_in(n->home, bitmap_merge_at_home, &m);
    if (!m.ok) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' was resized while its bitmap was merged", n->name);
    } else if (m.ret < 0) {
        bitmap_change_failed(n, m.ret, error);
    } else if (undo != NULL) {
        undo->bitmap = b;
    }
    return m.ok && m.ret == 0;
}

bool bitmap_co_merge(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
{
    BlockNode *n = op->node;
    BlockDirtyBitmap sum = {0}, *b;
    b = bitmap_find_for(n, op->name, BITMAP_FOR_CHANGE | BITMAP_FOR_BITS, error);
    if (b == NULL) {
        return false;
    }
    sum.shift = b->shift;
    BitmapMerge m = {.node = n, .from = b, .to = &sum, .undo = undo};
    co_call_in(n->home, bitmap_target_at_home, &m);
    if (m.ret < 0) {
        bitmap_change_failed(n, m.ret, error);
    }
    bool ok = m.ret == 0 && bitmap_co_collect(&sum, op->sources, op->count, error) &&
              bitmap_co_take_sum(&sum, n, b, undo, error);
    g_free(sum.words);
    return ok;
}
