/* SPDX-License-Identifier: Apache-2.0 */
/* What the node's requests and its closing do with its dirty bitmaps. */
#ifndef SKIFF_BLOCK_CORE_DIRTY_BITMAP_H
#define SKIFF_BLOCK_CORE_DIRTY_BITMAP_H

#include "block/dirty_bitmap.h"
#include "block/node.h"

/* Sets the bits of [offset, offset + bytes) in all enabled bitmaps of @n, which has some. */
void node_bitmaps_set(BlockNode *n, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* The node's size is about to become @size. False: a bitmap would be too large. */
bool node_bitmaps_can_resize(const BlockNode *n, uint64_t size) RUNS_IN_IOTHREAD;
/* In the node's home, or in main while it is drained. */
void node_bitmaps_resize(BlockNode *n, uint64_t size) ANY_THREAD;
/* The node has no requests any more. */
void node_bitmaps_free(BlockNode *n) RUNS_IN_MAIN;

#endif
