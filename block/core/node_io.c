/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to a node: range, alignment and length are adapted here, so that a driver gets only
 * requests that its limits allow. Requests that fit pass unchanged. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include "block/core/node_io.h"
#include "block/trace_events.h"

#define NODE_SLICE_IOV 64u
#define NODE_BOUNCE_MAX ((uint64_t)256 << 10) /* at least the largest possible alignment */
/* The limit for all buffers of a node: a guest can send thousands of unaligned requests. */
#define NODE_BOUNCE_TOTAL ((uint64_t)16 << 20)

_Static_assert(NODE_BOUNCE_MAX >= BLOCK_ALIGNMENT_MAX, "a bounce buffer holds an aligned block");

/* ---- the border to the driver ---- */

static coroutine_fn RUNS_IN_IOTHREAD int node_check_result(const BlockNode *n, const char *op,
                                                           int ret)
{
    assert_home(n->home);
    if (ret > 0) {
        bug_abort("driver '%s' of node '%s': %s returned %d, neither 0 nor an error", n->drv->name,
                  n->name, op, ret);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int node_driver_preadv(BlockNode *n, uint64_t offset,
                                                            uint64_t bytes, const struct iovec *iov,
                                                            unsigned niov)
{
    int ret = n->drv->co_preadv(n, offset, bytes, iov, niov);
    return node_check_result(n, "read", ret);
}

static coroutine_fn RUNS_IN_IOTHREAD int node_driver_pwritev(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov,
                                                             unsigned flags)
{
    int ret = n->drv->co_pwritev(n, offset, bytes, iov, niov, flags);
    return node_check_result(n, "write", ret);
}

static coroutine_fn RUNS_IN_IOTHREAD int
node_driver_pwrite_compressed(BlockNode *n, uint64_t offset, uint64_t bytes,
                              const struct iovec *iov, unsigned niov)
{
    if (n->drv->co_pwrite_compressed == NULL) {
        return -ENOTSUP;
    }
    int ret = n->drv->co_pwrite_compressed(n, offset, bytes, iov, niov);
    return node_check_result(n, "compressed write", ret);
}

bool block_node_can_compress(const BlockNode *n)
{
    return n->drv->co_pwrite_compressed != NULL;
}

/* ---- requests that fit ---- */

bool block_node_range_ok(const BlockNode *n, uint64_t offset, uint64_t bytes)
{
    uint64_t end = n->caps.grows ? BLOCK_SIZE_MAX : block_node_size(n);
    return offset <= end && bytes <= end - offset;
}

static bool node_is_aligned(const BlockNode *n, uint64_t offset, uint64_t bytes)
{
    return block_is_aligned(offset | bytes, n->limits.request_alignment);
}

/* Whether start and end of each buffer are aligned as the driver requires. */
static bool node_memory_fits(const BlockNode *n, const struct iovec *iov, unsigned niov)
{
    uint64_t address_mask = n->limits.memory_alignment - 1;
    uint64_t length_mask = n->limits.request_alignment - 1;
    if ((address_mask | length_mask) == 0) {
        return true;
    }
    for (unsigned i = 0; i < niov; i++) {
        if (((uintptr_t)iov[i].iov_base & address_mask) != 0 ||
            (iov[i].iov_len & length_mask) != 0) {
            return false;
        }
    }
    return true;
}

static bool node_length_fits(const BlockNode *n, uint64_t bytes, unsigned niov)
{
    return bytes <= n->limits.max_transfer && niov <= n->limits.max_iov;
}

/* ---- requests above the driver's maximum: in slices ---- */

typedef int NodeSliceFn(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov, unsigned flags);

static coroutine_fn RUNS_IN_IOTHREAD int node_read_slice(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    return node_driver_preadv(n, offset, bytes, iov, niov);
}

/* The lengths of all elements are multiples of the alignment, so the slices are too. */
static coroutine_fn RUNS_IN_IOTHREAD int node_do_in_slices(BlockNode *n, NodeSliceFn *fn,
                                                           uint64_t offset, uint64_t bytes,
                                                           const struct iovec *iov, unsigned niov,
                                                           unsigned flags)
{
    struct iovec slice[NODE_SLICE_IOV];
    unsigned max = MIN(NODE_SLICE_IOV, n->limits.max_iov);
    for (uint64_t done = 0; done < bytes;) {
        size_t len;
        unsigned count =
            iov_slice(slice, max, iov, niov, done, MIN(bytes - done, n->limits.max_transfer), &len);
        int ret = fn(n, offset + done, len, slice, count, flags);
        if (ret < 0) {
            return ret;
        }
        done += len;
    }
    return 0;
}

/* ---- unaligned requests: through an aligned buffer ---- */

typedef struct NodeBounce {
    uint8_t *buffer;
    uint64_t size;       /* size of the buffer */
    uint64_t start, end; /* aligned outwards */
    /* one pass: the buffer holds [pos, pos + len); the request covers [from, to) of it */
    uint64_t pos, len, from, to;
} NodeBounce;

void block_node_co_reserve_buffer(BlockNode *n, uint64_t size)
{
    bool wait = !co_queue_empty(&n->bounce_waiters);
    while (wait || (n->bounced != 0 && size > NODE_BOUNCE_TOTAL - n->bounced)) {
        co_queue_wait(&n->bounce_waiters, "memory for an unaligned request");
        wait = false;
    }
    n->bounced += size;
    if (n->bounced < NODE_BOUNCE_TOTAL) {
        co_queue_wake_one(&n->bounce_waiters);
    }
}

void block_node_release_buffer(BlockNode *n, uint64_t size)
{
    n->bounced -= size;
    co_queue_wake_one(&n->bounce_waiters);
}

void *block_node_alloc_buffer(const BlockNode *n, uint64_t size)
{
    void *buffer;
    size_t alignment = MAX(n->limits.memory_alignment, sizeof(void *));
    return posix_memalign(&buffer, alignment, size) == 0 ? buffer : NULL;
}

static coroutine_fn RUNS_IN_IOTHREAD bool node_bounce_init(BlockNode *n, NodeBounce *b,
                                                           uint64_t offset, uint64_t bytes)
{
    uint64_t alignment = n->limits.request_alignment;
    b->start = block_align_down(offset, alignment);
    b->end = block_align_up(offset + bytes, alignment);
    b->size = MIN(MIN(b->end - b->start, NODE_BOUNCE_MAX), n->limits.max_transfer);
    block_node_co_reserve_buffer(n, b->size);
    b->buffer = block_node_alloc_buffer(n, b->size);
    if (b->buffer == NULL) {
        block_node_release_buffer(n, b->size);
    }
    return b->buffer != NULL;
}

typedef int NodeBounceFn(BlockNode *n, const NodeBounce *b, uint64_t done, const struct iovec *iov,
                         unsigned niov, unsigned flags);

/* Calls @pass for each bufferful; @done is the part of the request handled before. */
static coroutine_fn RUNS_IN_IOTHREAD int node_do_bounced(BlockNode *n, NodeBounceFn *pass,
                                                         uint64_t offset, uint64_t bytes,
                                                         const struct iovec *iov, unsigned niov,
                                                         unsigned flags)
{
    NodeBounce b;
    if (!node_bounce_init(n, &b, offset, bytes)) {
        return -ENOMEM;
    }
    int ret = 0;
    for (b.pos = b.start; b.pos < b.end && ret == 0; b.pos += b.size) {
        b.len = MIN(b.end - b.pos, b.size);
        b.from = MAX(b.pos, offset);
        b.to = MIN(b.pos + b.len, offset + bytes);
        ret = pass(n, &b, b.from - offset, iov, niov, flags);
    }
    free(b.buffer);
    block_node_release_buffer(n, b.size);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int node_read_into(BlockNode *n, uint64_t offset, void *buffer,
                                                        uint64_t bytes)
{
    struct iovec iov = {buffer, bytes};
    return node_driver_preadv(n, offset, bytes, &iov, 1);
}

static coroutine_fn RUNS_IN_IOTHREAD int node_bounce_read(BlockNode *n, const NodeBounce *b,
                                                          uint64_t done, const struct iovec *iov,
                                                          unsigned niov, unsigned flags)
{
    int ret = node_read_into(n, b->pos, b->buffer, b->len);
    if (ret == 0) {
        iov_copy_from_buf(iov, niov, done, b->buffer + (b->from - b->pos), b->to - b->from);
    }
    return ret;
}

/* Reads the blocks at both ends of the buffer that the request covers only partially. */
static coroutine_fn RUNS_IN_IOTHREAD int node_read_edges(BlockNode *n, const NodeBounce *b)
{
    uint64_t alignment = n->limits.request_alignment;
    uint64_t last = b->len - alignment;
    int ret = 0;
    if (b->from > b->pos) {
        ret = node_read_into(n, b->pos, b->buffer, alignment);
    }
    if (ret == 0 && b->to < b->pos + b->len && (last > 0 || b->from == b->pos)) {
        ret = node_read_into(n, b->pos + last, b->buffer + last, alignment);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int node_bounce_write(BlockNode *n, const NodeBounce *b,
                                                           uint64_t done, const struct iovec *iov,
                                                           unsigned niov, unsigned flags)
{
    int ret = node_read_edges(n, b);
    if (ret == 0) {
        iov_copy_to_buf(iov, niov, done, b->buffer + (b->from - b->pos), b->to - b->from);
        struct iovec whole = {b->buffer, b->len};
        ret = node_driver_pwritev(n, b->pos, b->len, &whole, 1, flags);
    }
    return ret;
}

/* ---- requests ---- */

int block_node_co_read_part(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                            unsigned niov)
{
    if (!node_is_aligned(n, offset, bytes) || !node_memory_fits(n, iov, niov)) {
        return node_do_bounced(n, node_bounce_read, offset, bytes, iov, niov, 0);
    }
    if (!node_length_fits(n, bytes, niov)) {
        return node_do_in_slices(n, node_read_slice, offset, bytes, iov, niov, 0);
    }
    return node_driver_preadv(n, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int node_read(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                   const struct iovec *iov, unsigned niov)
{
    if (!block_node_range_ok(n, offset, bytes)) {
        return -EINVAL;
    }
    if (bytes == 0) {
        return 0;
    }
    if (__builtin_expect(n->copy_on_read, 0)) {
        return block_node_co_read_copying(n, offset, bytes, iov, niov);
    }
    if (__builtin_expect(n->keeps_reads, 0)) {
        BlockTracked t;
        block_track_co_begin(n, &t, offset, bytes, false);
        int ret = block_node_co_read_part(n, offset, bytes, iov, niov);
        block_track_end(n, &t);
        return ret;
    }
    return block_node_co_read_part(n, offset, bytes, iov, niov);
}

int block_node_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                         unsigned niov)
{
    block_node_begin(n);
    int ret = node_read(n, offset, bytes, iov, niov);
    block_node_end(n);
    return ret;
}

int block_node_co_write_part(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                             unsigned niov, unsigned flags)
{
    if ((flags & BLOCK_REQ_COMPRESSED) != 0) {
        return node_driver_pwrite_compressed(n, offset, bytes, iov, niov);
    }
    if (!node_is_aligned(n, offset, bytes) || !node_memory_fits(n, iov, niov)) {
        return node_do_bounced(n, node_bounce_write, offset, bytes, iov, niov, flags);
    }
    if (!node_length_fits(n, bytes, niov)) {
        return node_do_in_slices(n, node_driver_pwritev, offset, bytes, iov, niov, flags);
    }
    return node_driver_pwritev(n, offset, bytes, iov, niov, flags);
}

int block_node_check_growth(const BlockNode *n, uint64_t end)
{
    bool checked = n->bitmaps != NULL && end > block_node_size(n);
    return __builtin_expect(checked, 0) ? node_bitmaps_can_resize(n, end) : 0;
}

void block_node_grow(BlockNode *n, uint64_t end)
{
    if (n->caps.grows && end > block_node_size(n)) {
        node_set_size(n, end);
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int node_write_and_grow(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov,
                                                             unsigned flags)
{
    assert(!n->flags.read_only);
    if (!block_node_range_ok(n, offset, bytes)) {
        return -EINVAL;
    }
    int ret = block_node_check_growth(n, offset + bytes);
    if (bytes == 0 || ret < 0) {
        return ret;
    }
    bool flush_after = (flags & BLOCK_REQ_FUA) != 0 && !n->caps.fua;
    unsigned driver_flags =
        flags & (n->caps.fua ? BLOCK_REQ_FUA | BLOCK_REQ_COMPRESSED : BLOCK_REQ_COMPRESSED);
    BlockChange c;
    block_change_co_begin(n, &c, offset, bytes, !node_is_aligned(n, offset, bytes));
    ret = block_node_co_write_part(n, offset, bytes, iov, niov, driver_flags);
    if (ret == 0) {
        block_node_grow(n, offset + bytes);
    }
    block_change_end(n, &c);
    if (ret == 0 && flush_after) {
        ret = block_node_co_flush(n);
    }
    return ret;
}

int block_node_co_pwritev(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                          unsigned niov, unsigned flags)
{
    block_node_begin(n);
    int ret = node_write_and_grow(n, offset, bytes, iov, niov, flags);
    block_node_end(n);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int node_flush(BlockNode *n)
{
    if (n->flags.read_only) {
        return 0;
    }
    int ret = 0;
    if (n->drv->co_flush != NULL) {
        ret = n->drv->co_flush(n);
        return node_check_result(n, "flush", ret);
    }
    for (unsigned i = 0; ret == 0 && i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (e->role != BLOCK_ROLE_BACKING) {
            ret = block_node_co_flush(e->node);
        }
    }
    return ret;
}

int block_node_co_flush(BlockNode *n)
{
    block_node_begin(n);
    int ret = node_flush(n);
    block_node_end(n);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int node_truncate(BlockNode *n, uint64_t size)
{
    assert(!n->flags.read_only);
    if (n->drv->co_truncate == NULL) {
        return -ENOTSUP;
    }
    if (size > BLOCK_SIZE_MAX) {
        return -EFBIG;
    }
    if (!block_is_aligned(size, n->limits.request_alignment)) {
        return -EINVAL; /* else writes to the last block would exceed the end, or grow the file */
    }
    int ret = node_bitmaps_can_resize(n, size);
    if (ret < 0) {
        return ret;
    }
    block_node_co_shut_lanes(n); /* they know the present size */
    BlockChange c;
    uint64_t from = MIN(size, block_node_size(n));
    block_change_co_begin(n, &c, from, BLOCK_SIZE_MAX - from, true);
    c.bytes = 0; /* bitmaps follow the size */
    ret = n->drv->co_truncate(n, size);
    node_check_result(n, "truncate", ret);
    trace_block_node_truncate(n->name, size, ret);
    if (ret == 0) {
        node_set_size(n, size);
    }
    block_change_end(n, &c);
    return ret;
}

int block_node_co_truncate(BlockNode *n, uint64_t size)
{
    block_node_begin(n);
    int ret = node_truncate(n, size);
    block_node_end(n);
    return ret;
}
