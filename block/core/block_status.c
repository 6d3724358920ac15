/* SPDX-License-Identifier: Apache-2.0 */
/* What a node holds in a range of bytes, and what it uses on the host. */
#include <assert.h>
#include <errno.h>
#include "block/core/node_io.h"

/* A wrong answer of a driver would lose data in a copy. */
static void status_check_answer(const BlockNode *n, uint64_t offset, uint64_t bytes,
                                const BlockStatus *s)
{
    bool maps = (s->flags & BLOCK_STATUS_OFFSET_VALID) != 0;
    bool empty = s->bytes == 0 || s->bytes > bytes;
    bool needs_map = (s->flags & (BLOCK_STATUS_RAW | BLOCK_STATUS_RECURSE)) != 0;
    if (empty || !block_is_aligned(s->bytes, n->limits.request_alignment) ||
        maps != (s->map_node != NULL) || (needs_map && !maps)) {
        bug_abort("driver '%s' of node '%s': a status of %" G_GUINT64_FORMAT
                  " bytes with flags %#x for %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT,
                  n->drv->name, n->name, s->bytes, s->flags, bytes, offset);
    }
}

/* An aligned range of the driver's. */
static coroutine_fn RUNS_IN_IOTHREAD int
status_of_driver(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise, BlockStatus *s)
{
    *s = (BlockStatus){.bytes = bytes, .flags = BLOCK_STATUS_DATA};
    if (n->drv->co_block_status == NULL) {
        return 0;
    }
    *s = (BlockStatus){0};
    int ret = n->drv->co_block_status(n, offset, bytes, precise, s);
    assert_home(n->home);
    if (ret == 0) {
        status_check_answer(n, offset, bytes, s);
    }
    return ret;
}

/* Clips the answer for the aligned range from @start on to the requested range. */
static void status_clip(BlockStatus *s, uint64_t start, uint64_t offset, uint64_t bytes)
{
    uint64_t head = offset - start;
    s->bytes = MIN(s->bytes - head, bytes);
    if ((s->flags & BLOCK_STATUS_OFFSET_VALID) != 0) {
        s->map_offset += head;
    }
}

/* The node itself holds nothing. */
static coroutine_fn RUNS_IN_IOTHREAD int status_of_backing(const BlockNode *n, uint64_t offset,
                                                           bool precise, BlockStatus *s)
{
    BlockNode *backing = n->backing;
    if (backing == NULL || (precise && offset >= block_node_size(backing))) {
        s->flags |= BLOCK_STATUS_ZERO;
        return 0;
    }
    if (!precise) {
        *s = (BlockStatus){.bytes = s->bytes};
        return 0;
    }
    int ret = block_node_co_block_status(backing, offset, s->bytes, precise, s);
    s->flags &= ~(unsigned)BLOCK_STATUS_EOF;
    s->depth++;
    return ret;
}

/* Searches for a hole below data. What is wrong there is reported by reads. */
static coroutine_fn RUNS_IN_IOTHREAD void status_find_hole(BlockStatus *s)
{
    BlockStatus below;
    s->flags &= ~(unsigned)BLOCK_STATUS_RECURSE;
    if (block_node_co_block_status(s->map_node, s->map_offset, s->bytes, true, &below) < 0) {
        return;
    }
    if (below.bytes == 0) { /* beyond the end of the file */
        s->flags |= BLOCK_STATUS_ZERO;
        return;
    }
    s->flags |= below.flags & BLOCK_STATUS_ZERO;
    if ((below.flags & BLOCK_STATUS_ZERO) == 0 || (below.flags & BLOCK_STATUS_EOF) == 0) {
        s->bytes = below.bytes;
    }
}

/* Completes the flags of a driver's answer, which has been clipped. */
static coroutine_fn RUNS_IN_IOTHREAD int status_finish(const BlockNode *n, uint64_t offset,
                                                       bool precise, BlockStatus *s)
{
    if ((s->flags & BLOCK_STATUS_RAW) != 0) {
        uint64_t bytes = s->bytes;
        int ret = block_node_co_block_status(s->map_node, s->map_offset, bytes, precise, s);
        if (ret == 0 && s->bytes == 0) { /* the file is shorter than the node */
            *s = (BlockStatus){.bytes = bytes, .flags = BLOCK_STATUS_ZERO};
        }
        s->flags = (s->flags | BLOCK_STATUS_ALLOCATED) & ~(unsigned)BLOCK_STATUS_EOF;
        s->depth = 0; /* this node determines the bytes, whatever its file is */
        return ret;
    }
    if ((s->flags & BLOCK_STATUS_NOTHING) != 0) {
        s->flags &= ~(unsigned)BLOCK_STATUS_NOTHING;
        return 0;
    }
    if ((s->flags & (BLOCK_STATUS_DATA | BLOCK_STATUS_ZERO)) == 0) {
        return status_of_backing(n, offset, precise, s);
    }
    s->flags |= BLOCK_STATUS_ALLOCATED;
    if ((s->flags & BLOCK_STATUS_RECURSE) != 0) {
        status_find_hole(s);
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int status_find(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                     bool precise, BlockStatus *s)
{
    uint64_t size = block_node_size(n);
    *s = (BlockStatus){0};
    if (offset >= size) {
        s->flags = BLOCK_STATUS_EOF;
        return 0;
    }
    bytes = MIN(bytes, size - offset);
    if (bytes == 0) {
        return 0;
    }
    uint64_t alignment = n->limits.request_alignment;
    uint64_t start = block_align_down(offset, alignment);
    uint64_t end = block_align_up(offset + bytes, alignment);
    int ret = status_of_driver(n, start, end - start, precise, s);
    if (ret == 0) {
        status_clip(s, start, offset, bytes);
        ret = status_finish(n, offset, precise, s);
    }
    if (ret == 0 && offset + s->bytes == size) {
        s->flags |= BLOCK_STATUS_EOF;
    }
    return ret;
}

int block_node_co_block_status(BlockNode *n, uint64_t offset, uint64_t bytes, bool precise,
                               BlockStatus *status)
{
    block_node_begin(n);
    int ret = status_find(n, offset, bytes, precise, status);
    block_node_end(n);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int64_t status_allocated_size(BlockNode *n)
{
    int64_t sum = n->drv->co_allocated_size != NULL ? n->drv->co_allocated_size(n) : 0;
    if (n->drv->co_allocated_size == NULL && n->children->len == 0) {
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < n->children->len && sum >= 0; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (e->role != BLOCK_ROLE_BACKING) {
            int64_t size = block_node_co_allocated_size(e->node);
            sum = size < 0 ? size : sum + size;
        }
    }
    return sum;
}

int64_t block_node_allocated_size(const BlockNode *n)
{
    int64_t sum = n->drv->allocated_size != NULL ? n->drv->allocated_size(n) : 0;
    if (n->drv->allocated_size == NULL && n->children->len == 0) {
        return -ENOTSUP;
    }
    for (unsigned i = 0; i < n->children->len && sum >= 0; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (e->role != BLOCK_ROLE_BACKING) {
            int64_t size = block_node_allocated_size(e->node);
            sum = size < 0 ? size : sum + size;
        }
    }
    return sum;
}

int64_t block_node_co_allocated_size(BlockNode *n)
{
    block_node_begin(n);
    int64_t size = status_allocated_size(n);
    block_node_end(n);
    return size;
}
