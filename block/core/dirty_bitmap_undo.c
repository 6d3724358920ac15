/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on dirty bitmaps: alone, and such that they can be undone as long as the nodes are drained.
 */
#include <string.h>
#include "block/core/dirty_bitmap.h"

bool bitmap_save_bits(const BlockDirtyBitmap *b, BlockBitmapUndo *undo)
{
    size_t words = bitmap_words(bitmap_bits(b->size, b->shift));
    undo->words = g_try_new(uint64_t, MAX(words, 1));
    if (undo->words == NULL) {
        return false;
    }
    memcpy(undo->words, b->words, words * sizeof(uint64_t));
    undo->set = atomic_load_explicit(&b->set, memory_order_relaxed);
    return true;
}

typedef bool BitmapCommand(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error);
static BitmapCommand *const bitmap_commands[] = {
    [BLOCK_BITMAP_ADD] = bitmap_co_add,
    [BLOCK_BITMAP_REMOVE] = bitmap_co_remove,
    [BLOCK_BITMAP_ZERO] = bitmap_co_clear,
    [BLOCK_BITMAP_ENABLE] = bitmap_co_set_enabled,
    [BLOCK_BITMAP_DISABLE] = bitmap_co_set_enabled,
    [BLOCK_BITMAP_MERGE] = bitmap_co_merge,
};

bool block_bitmap_co_run(const BlockBitmapOp *op, GError **error)
{
    return bitmap_commands[op->kind](op, NULL, error);
}

BlockBitmapUndo *block_bitmap_co_do(const BlockBitmapOp *op, GError **error)
{
    BlockBitmapUndo *undo = g_new0(BlockBitmapUndo, 1);
    undo->kind = op->kind;
    undo->node = op->node;
    if (!bitmap_commands[op->kind](op, undo, error)) {
        g_free(undo->words);
        g_free(undo);
        return NULL;
    }
    return undo;
}

static void undo_at_home(void *opaque)
{
    BlockBitmapUndo *undo = opaque;
    BlockDirtyBitmap *b = undo->bitmap;
    enter_coroutine();
    enter_iothread(undo->node->home);
    switch (undo->kind) {
    case BLOCK_BITMAP_ADD:
        bitmap_unlink(undo->node, b);
        break;
    case BLOCK_BITMAP_REMOVE:
        bitmap_co_append(undo->node, b);
        b->changed = true; /* it is no longer in the image */
        break;
    case BLOCK_BITMAP_ENABLE:
    case BLOCK_BITMAP_DISABLE:
        atomic_store_explicit(&b->enabled, undo->enabled, memory_order_relaxed);
        break;
    case BLOCK_BITMAP_ZERO:
    case BLOCK_BITMAP_MERGE:
        g_free(b->words);
        b->words = g_steal_pointer(&undo->words);
        atomic_store_explicit(&b->set, undo->set, memory_order_relaxed);
        break;
    }
}

void block_bitmap_co_undo(BlockBitmapUndo *undo)
{
    GPtrArray *names = undo->node->bitmap_names;
    co_call_in(undo->node->home, undo_at_home, undo);
    if (undo->kind == BLOCK_BITMAP_ADD) {
        g_ptr_array_remove(names, undo->bitmap);
        bitmap_free(undo->bitmap);
    } else if (undo->kind == BLOCK_BITMAP_REMOVE) {
        g_ptr_array_insert(names, (int)undo->place, undo->bitmap);
        undo->bitmap = NULL;
    }
    block_bitmap_undo_free(undo);
}

void block_bitmap_undo_free(BlockBitmapUndo *undo)
{
    if (undo->kind == BLOCK_BITMAP_REMOVE && undo->bitmap != NULL) {
        bitmap_free(undo->bitmap);
    }
    g_free(undo->words);
    g_free(undo);
}

/* ---- alone ---- */

bool block_dirty_bitmap_co_add(BlockNode *n, const char *name, uint32_t granularity, unsigned flags,
                               GError **error)
{
    BlockBitmapOp op = {.node = n, .name = name, .granularity = granularity, .flags = flags};
    return bitmap_co_add(&op, NULL, error);
}

bool block_dirty_bitmap_co_remove(BlockNode *n, const char *name, GError **error)
{
    BlockBitmapOp op = {.node = n, .name = name};
    return bitmap_co_remove(&op, NULL, error);
}

bool block_dirty_bitmap_co_clear(BlockNode *n, const char *name, GError **error)
{
    BlockBitmapOp op = {.node = n, .name = name};
    return bitmap_co_clear(&op, NULL, error);
}

bool block_dirty_bitmap_co_set_enabled(BlockNode *n, const char *name, bool enabled, GError **error)
{
    BlockBitmapOp op = {
        .kind = enabled ? BLOCK_BITMAP_ENABLE : BLOCK_BITMAP_DISABLE, .node = n, .name = name};
    return bitmap_co_set_enabled(&op, NULL, error);
}

bool block_dirty_bitmap_co_merge(BlockDirtyBitmapRef target, const BlockDirtyBitmapRef *sources,
                                 unsigned count, GError **error)
{
    BlockBitmapOp op = {
        .node = target.node, .name = target.name, .sources = sources, .count = count};
    return bitmap_co_merge(&op, NULL, error);
}
