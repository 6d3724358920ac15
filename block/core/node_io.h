/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of requests to a node: node_io.c, node_zero.c, copy_read.c. */
#ifndef SKIFF_BLOCK_CORE_NODE_IO_H
#define SKIFF_BLOCK_CORE_NODE_IO_H

#include "block/core/dirty_bitmap.h"

/* Whether [offset, offset + bytes) is within the node, or can be after it has grown. */
bool block_node_range_ok(const BlockNode *n, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Whether the node's dirty bitmaps allow it to grow up to @end. 0 or -errno. */
int block_node_check_growth(const BlockNode *n, uint64_t end) RUNS_IN_IOTHREAD;
/* Data was written up to @end: updates the size. */
void block_node_grow(BlockNode *n, uint64_t end) RUNS_IN_IOTHREAD;

/* ---- node_io.c: parts of a request, which has been checked and begun ---- */
/* Any alignment and length. */
int block_node_co_read_part(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                            unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
int block_node_co_write_part(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                             unsigned niov, unsigned flags) coroutine_fn RUNS_IN_IOTHREAD;
/* node_zero.c: the same with zeroes; flags: BLOCK_REQ_MAY_UNMAP,
 * BLOCK_REQ_NO_FALLBACK. */
int block_node_co_zero_part(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Waits for a part of the node's memory for buffers. A holder of a part does not wait here again. */
void block_node_co_reserve_buffer(BlockNode *n, uint64_t size) coroutine_fn RUNS_IN_IOTHREAD;
void block_node_release_buffer(BlockNode *n, uint64_t size) RUNS_IN_IOTHREAD;
/* Memory of the node's alignment, to be freed with free(). NULL: there is none. */
void *block_node_alloc_buffer(const BlockNode *n, uint64_t size) ANY_THREAD;

/* ---- copy_read.c ---- */
/* Reads, and writes to the node what it reads from below. For nodes with tracking. */
int block_node_co_read_copying(BlockNode *n, uint64_t offset, uint64_t bytes,
                               const struct iovec *iov, unsigned niov)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- changes ---- */
/* Each write, write-zeroes, discard and truncate of a node begins and ends here, once, whatever the
 * parts are that it consists of. */
typedef struct BlockChange {
    BlockTracked tracked;
    bool is_tracked;
    uint64_t offset, bytes; /* for dirty bitmaps */
} BlockChange;

/* Waits until the change may run beside others. @serialising: see BlockTracked. */
coroutine_fn RUNS_IN_IOTHREAD static inline void block_change_co_begin(BlockNode *n, BlockChange *c,
                                                                       uint64_t offset,
                                                                       uint64_t bytes,
                                                                       bool serialising)
{
    assert_home(n->home);
    c->offset = offset;
    c->bytes = bytes;
    c->is_tracked = block_track_needed(n);
    if (__builtin_expect(c->is_tracked, 0)) {
        block_track_co_begin(n, &c->tracked, offset, bytes, serialising || n->keeps_reads);
    }
}

/* The change has succeeded or failed, and the size was updated. */
RUNS_IN_IOTHREAD static inline void block_change_end(BlockNode *n, BlockChange *c)
{
    if (__builtin_expect(n->bitmaps != NULL, 0) && c->bytes > 0) {
        node_bitmaps_set(n, c->offset, c->bytes);
    }
    if (__builtin_expect(c->is_tracked, 0)) {
        block_track_end(n, &c->tracked);
    }
}
/* Each change of a node's size passes here: in its home, or in main while it is drained. */
static inline void node_set_size(BlockNode *n, uint64_t size)
{
    atomic_store_explicit(&n->size, size, memory_order_relaxed);
    node_bitmaps_resize(n, size);
}

#endif
