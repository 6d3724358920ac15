/* SPDX-License-Identifier: Apache-2.0 */
#include "block/img/img_bitmaps.h"

#include <stdio.h>
#include "block/dirty_bitmap.h"

bool img_bitmaps_check_source(BlockBackend *source, bool skip_broken)
{
    const BlockNode *n = blk_root(source);
    if (!block_node_can_store_bitmaps(n)) {
        img_error("Source lacks bitmap support");
        return false;
    }
    for (unsigned i = 0; i < block_dirty_bitmap_count(n) && !skip_broken; i++) {
        BlockDirtyBitmapInfo info;
        block_dirty_bitmap_info(n, i, &info);
        if (info.inconsistent) {
            img_error("Cannot copy inconsistent bitmap '%s'", info.name);
            fputs("Try --skip-broken-bitmaps, or use 'skiff-img bitmap --remove' to delete it\n",
                  stderr);
            return false;
        }
    }
    return true;
}

bool img_bitmaps_check_target(BlockBackend *target, const char *format)
{
    if (target == NULL || !block_node_can_store_bitmaps(blk_root(target))) {
        img_error("Format driver '%s' does not support bitmaps", format);
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool bitmaps_co_copy_one(BlockNode *from, BlockNode *to,
                                                          const BlockDirtyBitmapInfo *info)
{
    g_autoptr(GError) error = NULL;
    unsigned flags = BLOCK_BITMAP_PERSISTENT | (info->recording ? 0 : BLOCK_BITMAP_DISABLED);
    BlockDirtyBitmapRef target = {to, info->name}, source = {from, info->name};
    if (!block_dirty_bitmap_co_add(to, info->name, info->granularity, flags, &error)) {
        img_error("Failed to create bitmap %s: %s", info->name, error->message);
        return false;
    }
    if (!block_dirty_bitmap_co_merge(target, &source, 1, &error)) {
        img_error("Failed to populate bitmap %s: %s", info->name, error->message);
        block_dirty_bitmap_co_remove(to, info->name, NULL);
        return false;
    }
    return true;
}

bool img_bitmaps_co_copy(BlockBackend *source, BlockBackend *target, bool skip_broken)
{
    BlockNode *from = blk_root(source);
    for (unsigned i = 0; i < block_dirty_bitmap_count(from); i++) {
        BlockDirtyBitmapInfo info;
        block_dirty_bitmap_info(from, i, &info);
        if (info.inconsistent && skip_broken) {
            img_error("warning: Skipping inconsistent bitmap '%s'", info.name);
        } else if (info.persistent && !bitmaps_co_copy_one(from, blk_root(target), &info)) {
            return false;
        }
    }
    return img_co_complete(target);
}
