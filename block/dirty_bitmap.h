/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty bitmaps: which parts of a node have changed since a bitmap was added or cleared.
 *
 * A bitmap has one bit for each @granularity bytes of its node. While it is enabled, each write,
 * write-zeroes and discard of the node sets the bits of its range when it ends, also when it fails,
 * since it may have changed something. Bits of a part by which the node grows are clear.
 *
 * Names belong to a node. The functions with a name run under the operation lock, which keeps the
 * node's home; bits are read and changed in that home only.
 */
#ifndef SKIFF_BLOCK_DIRTY_BITMAP_H
#define SKIFF_BLOCK_DIRTY_BITMAP_H

#include "block/block.h"

#define BLOCK_BITMAP_NAME_MAX 1023u
#define BLOCK_BITMAP_BITS_MAX ((uint64_t)1 << 31) /* 256 MiB of memory */
#define BLOCK_BITMAP_GRANULARITY_DEFAULT 65536u

typedef struct BlockDirtyBitmapInfo {
    const char *name; /* borrowed */
    uint32_t granularity;
    uint64_t dirty_bytes; /* set bits, in bytes: a multiple of the granularity */
    bool recording;       /* enabled */
} BlockDirtyBitmapInfo;

/* Adds a bitmap without set bits. @granularity is a power of two of at least 512, or 0 for the
 * default. */
bool block_dirty_bitmap_co_add(BlockNode *n, const char *name, uint32_t granularity, bool enabled,
                               GError **error) coroutine_fn RUNS_IN_MAIN;
bool block_dirty_bitmap_co_remove(BlockNode *n, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool block_dirty_bitmap_co_clear(BlockNode *n, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool block_dirty_bitmap_co_set_enabled(BlockNode *n, const char *name, bool enabled, GError **error)
    coroutine_fn RUNS_IN_MAIN;

typedef struct BlockDirtyBitmapRef {
    BlockNode *node;
    const char *name;
} BlockDirtyBitmapRef;
/* Sets in @target's bitmap what is set in any of the @count @sources. The nodes have the same size,
 * the granularities can differ. On failure @target is as it was. */
bool block_dirty_bitmap_co_merge(BlockDirtyBitmapRef target, const BlockDirtyBitmapRef *sources,
                                 unsigned count, GError **error) coroutine_fn RUNS_IN_MAIN;

/* The number of bitmaps of @n, and one of them. */
unsigned block_dirty_bitmap_count(const BlockNode *n) RUNS_IN_MAIN;
void block_dirty_bitmap_info(const BlockNode *n, unsigned i, BlockDirtyBitmapInfo *info)
    RUNS_IN_MAIN;

#endif
