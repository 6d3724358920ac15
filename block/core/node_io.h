/* SPDX-License-Identifier: Apache-2.0 */
/* What node_io.c and node_zero.c share. */
#ifndef SKIFF_BLOCK_CORE_NODE_IO_H
#define SKIFF_BLOCK_CORE_NODE_IO_H

#include "block/node.h"

/* [offset, offset + bytes) is within the node, or may come to be by growing. */
bool block_node_range_ok(const BlockNode *n, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Something was written up to @end. */
void block_node_grow(BlockNode *n, uint64_t end) RUNS_IN_IOTHREAD;

#endif
