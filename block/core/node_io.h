/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by node_io.c and node_zero.c: the ends of what changes a node. */
#ifndef SKIFF_BLOCK_CORE_NODE_IO_H
#define SKIFF_BLOCK_CORE_NODE_IO_H

#include "block/core/dirty_bitmap.h"

/* Whether [offset, offset + bytes) is within the node, or can be after it has grown. */
bool block_node_range_ok(const BlockNode *n, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Data was written up to @end: updates the size. */
void block_node_grow(BlockNode *n, uint64_t end) RUNS_IN_IOTHREAD;

/* Each write, write-zeroes and discard passes here when it ends, whether it succeeded or not, after
 * the size was updated. */
RUNS_IN_IOTHREAD static inline void node_changed(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    if (__builtin_expect(n->bitmaps != NULL, 0)) {
        node_bitmaps_set(n, offset, bytes);
    }
}
/* Each change of a node's size passes here: in its home, or in main while it is drained. */
static inline void node_set_size(BlockNode *n, uint64_t size)
{
    atomic_store_explicit(&n->size, size, memory_order_relaxed);
    node_bitmaps_resize(n, size);
}

#endif
