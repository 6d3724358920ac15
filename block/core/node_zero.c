/* SPDX-License-Identifier: Apache-2.0 */
/* Discard and write-zeroes of a node: aligned for the driver; zeroes are written if it cannot. */
#include <assert.h>
#include <errno.h>
#include "block/core/node_io.h"

#define ZERO_BUFFER_SIZE ((uint64_t)64 << 10)
#define ZERO_IOV 16u

/* Never written, so the kernel backs it with the zero page. */
static uint8_t zero_buffer[ZERO_BUFFER_SIZE] __attribute__((aligned(BLOCK_MEMORY_ALIGNMENT_MAX)));

static coroutine_fn RUNS_IN_IOTHREAD int zero_by_writing(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes)
{
    struct iovec iov[ZERO_IOV];
    while (bytes > 0) {
        uint64_t len = 0;
        unsigned count = 0;
        for (; count < ZERO_IOV && len < bytes; count++) {
            iov[count] = (struct iovec){zero_buffer, MIN(ZERO_BUFFER_SIZE, bytes - len)};
            len += iov[count].iov_len;
        }
        int ret = block_node_co_write_part(n, offset, len, iov, count, 0);
        if (ret < 0) {
            return ret;
        }
        block_node_grow(n, offset + len);
        offset += len;
        bytes -= len;
    }
    return 0;
}

typedef int ZeroPieceFn(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags);

/* Passes an aligned range to the driver in pieces of at most @max. *@done is the progress. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_in_pieces(BlockNode *n, ZeroPieceFn *fn,
                                                        uint64_t offset, uint64_t bytes,
                                                        uint64_t max, unsigned flags,
                                                        uint64_t *done)
{
    int ret = 0;
    for (*done = 0; *done < bytes && ret == 0;) {
        uint64_t len = MIN(bytes - *done, max);
        ret = fn(n, offset + *done, len, flags);
        assert_home(n->home);
        assert(ret <= 0);
        *done += ret == 0 ? len : 0;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int zero_driver_zeroes(BlockNode *n, uint64_t offset,
                                                            uint64_t bytes, unsigned flags)
{
    return n->drv->co_write_zeroes(n, offset, bytes, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int zero_driver_discard(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, unsigned flags)
{
    return n->drv->co_discard(n, offset, bytes);
}

/* The part of a range that is aligned for the driver; false: there is none. */
static bool zero_shrink(const BlockNode *n, uint64_t offset, uint64_t bytes, uint64_t *start,
                        uint64_t *end)
{
    uint64_t alignment = MAX(n->limits.request_alignment, n->limits.zero_alignment);
    *start = block_align_up(offset, alignment);
    *end = block_align_down(offset + bytes, alignment);
    return *start < *end;
}

/* Whole aligned blocks; zeroes are written if the driver refuses. */
static coroutine_fn RUNS_IN_IOTHREAD int zero_aligned(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                      unsigned flags)
{
    uint64_t done;
    int ret = zero_in_pieces(n, zero_driver_zeroes, offset, bytes, n->limits.max_write_zeroes,
                             flags, &done);
    if (ret == -ENOTSUP && (flags & BLOCK_REQ_NO_FALLBACK) == 0) {
        ret = zero_by_writing(n, offset + done, bytes - done);
    }
    return ret;
}

int block_node_co_zero_part(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    bool fallback = (flags & BLOCK_REQ_NO_FALLBACK) == 0;
    uint64_t start, end;
    if (n->drv->co_write_zeroes == NULL || n->limits.max_write_zeroes == 0 ||
        !zero_shrink(n, offset, bytes, &start, &end)) {
        return fallback ? zero_by_writing(n, offset, bytes) : -ENOTSUP;
    }
    if (!fallback && (start != offset || end != offset + bytes)) {
        return -ENOTSUP;
    }
    int ret = zero_by_writing(n, offset, start - offset);
    if (ret == 0) {
        ret = zero_aligned(n, start, end - start, flags);
    }
    if (ret == 0) {
        ret = zero_by_writing(n, end, offset + bytes - end);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int zero_write(BlockNode *n, uint64_t offset, uint64_t bytes,
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
    unsigned driver_flags = flags & BLOCK_REQ_NO_FALLBACK;
    driver_flags |= n->flags.discard_unmap ? flags & BLOCK_REQ_MAY_UNMAP : 0;
    bool aligned = block_is_aligned(offset | bytes, n->limits.request_alignment);
    BlockChange c;
    block_change_co_begin(n, &c, offset, bytes, !aligned);
    ret = block_node_co_zero_part(n, offset, bytes, driver_flags);
    if (ret == 0) {
        block_node_grow(n, offset + bytes);
    }
    block_change_end(n, &c);
    if (ret == 0 && (flags & BLOCK_REQ_FUA) != 0) {
        ret = block_node_co_flush(n);
    }
    return ret;
}

int block_node_co_write_zeroes(BlockNode *n, uint64_t offset, uint64_t bytes, unsigned flags)
{
    block_node_begin(n);
    int ret = zero_write(n, offset, bytes, flags);
    block_node_end(n);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int zero_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    assert(!n->flags.read_only);
    if (!block_node_range_ok(n, offset, bytes)) {
        return -EINVAL;
    }
    uint64_t start, end, done;
    if (bytes == 0 || !n->flags.discard_unmap || n->drv->co_discard == NULL ||
        n->limits.max_discard == 0 || !zero_shrink(n, offset, bytes, &start, &end)) {
        return 0;
    }
    BlockChange c;
    block_change_co_begin(n, &c, start, end - start, false);
    int ret =
        zero_in_pieces(n, zero_driver_discard, start, end - start, n->limits.max_discard, 0, &done);
    block_change_end(n, &c);
    return ret == -ENOTSUP ? 0 : ret; /* a discard is only a hint */
}

int block_node_co_discard(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    block_node_begin(n);
    int ret = zero_discard(n, offset, bytes);
    block_node_end(n);
    return ret;
}
