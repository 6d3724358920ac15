/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by node_io.c and node_zero.c. */
#ifndef SKIFF_BLOCK_CORE_NODE_IO_H
#define SKIFF_BLOCK_CORE_NODE_IO_H

#include "block/node.h"

/* Whether [offset, offset + bytes) is within the node, or can be after it has grown. */
bool block_node_range_ok(const BlockNode *n, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Data was written up to @end: updates the size. */
void block_node_grow(BlockNode *n, uint64_t end) RUNS_IN_IOTHREAD;

#endif
