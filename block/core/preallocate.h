/* SPDX-License-Identifier: Apache-2.0 */
/* Preallocation: a part of a file that is to read as zeroes gets its storage in advance. */
#ifndef SKIFF_BLOCK_CORE_PREALLOCATE_H
#define SKIFF_BLOCK_CORE_PREALLOCATE_H

#include "block/node.h"

/* The names of the modes, in the order of the enumeration; NULL-terminated. */
extern const char *const block_preallocation_names[];

/* Preallocates a part of @n, which reads as zeroes, or lies behind the end of a node that can grow. Off
 * does nothing, nor does metadata if the driver has none. 0 or -errno. */
int block_node_co_preallocate(BlockNode *n, uint64_t offset, uint64_t bytes,
                              BlockPreallocation mode) coroutine_fn RUNS_IN_IOTHREAD;

#endif
