/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: each extent of a request is read from where it is. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define READ_SLICE_IOV 32u

/* ---- children ---- */

int qcow2_co_read_child(BlockNode *child, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov)
{
    uint64_t size = child->drv->can_grow ? BLOCK_SIZE_MAX : block_node_size(child);
    uint64_t there = offset < size ? MIN(bytes, size - offset) : 0;
    if (there == bytes) {
        return block_node_co_preadv(child, offset, bytes, iov, niov);
    }
    for (uint64_t done = 0; done < there;) {
        struct iovec slice[READ_SLICE_IOV];
        size_t len;
        unsigned count = iov_slice(slice, READ_SLICE_IOV, iov, niov, done, there - done, &len);
        int ret = block_node_co_preadv(child, offset + done, len, slice, count);
        if (ret < 0) {
            return ret;
        }
        done += len;
    }
    iov_memset(iov, niov, there, 0, bytes - there);
    return 0;
}

int qcow2_co_read_table(BlockNode *file, uint64_t offset, uint64_t bytes, void *buffer)
{
    uint64_t size = block_node_size(file);
    struct iovec iov = {buffer, bytes};
    if (offset > size || bytes > size - offset) {
        return -EIO;
    }
    return block_node_co_preadv(file, offset, bytes, &iov, 1);
}

/* ---- extents ---- */

static coroutine_fn RUNS_IN_IOTHREAD int read_from(BlockNode *n, uint64_t offset, uint64_t bytes,
                                                   const Qcow2Extent *e, const struct iovec *iov,
                                                   unsigned niov)
{
    const Qcow2State *s = n->state;
    if (e->kind == QCOW2_DATA) {
        return qcow2_co_read_child(s->data, e->host, bytes, iov, niov);
    }
    return qcow2_co_read_child(s->backing, offset, bytes, iov, niov);
}

/* Reads part of a request: [done, done + e->bytes) of it. */
static coroutine_fn RUNS_IN_IOTHREAD int read_part(BlockNode *n, uint64_t offset, Qcow2Extent e,
                                                   const struct iovec *iov, unsigned niov,
                                                   uint64_t done)
{
    for (uint64_t end = done + e.bytes; done < end;) {
        struct iovec slice[READ_SLICE_IOV];
        size_t len;
        unsigned count = iov_slice(slice, READ_SLICE_IOV, iov, niov, done, end - done, &len);
        int ret = read_from(n, offset, len, &e, slice, count);
        if (ret < 0) {
            return ret;
        }
        done += len;
        offset += len;
        e.host += len;
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int read_extent(BlockNode *n, uint64_t offset,
                                                     const Qcow2Extent *e, const struct iovec *iov,
                                                     unsigned niov, uint64_t done, bool whole)
{
    const Qcow2State *s = n->state;
    if (e->kind == QCOW2_COMPRESSED) {
        return qcow2_co_read_compressed(n, offset, e->bytes, e, iov, niov, done);
    }
    if (e->kind == QCOW2_ZERO || (e->kind == QCOW2_UNALLOCATED && s->backing == NULL)) {
        iov_memset(iov, niov, done, 0, e->bytes);
        return 0;
    }
    return whole ? read_from(n, offset, e->bytes, e, iov, niov)
                 : read_part(n, offset, *e, iov, niov, done);
}

int qcow2_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                    unsigned niov)
{
    for (uint64_t done = 0; done < bytes;) {
        Qcow2Extent e;
        int ret = qcow2_co_map(n, offset + done, bytes - done, &e);
        if (ret == 0) {
            ret = read_extent(n, offset + done, &e, iov, niov, done, e.bytes == bytes);
        }
        if (ret < 0) {
            return ret;
        }
        done += e.bytes;
    }
    return 0;
}
