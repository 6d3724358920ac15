/* SPDX-License-Identifier: Apache-2.0 */
/* Reads: each extent of a request is read from where it is, one after another. Compressed clusters
 * are read and decompressed beside that. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

#define READ_SLICE_IOV 32u

/* ---- children ---- */

/* Reads into part of the buffers: [done, done + bytes) of them. */
static coroutine_fn RUNS_IN_IOTHREAD int read_part(BlockNode *child, uint64_t offset,
                                                   uint64_t bytes, const struct iovec *iov,
                                                   unsigned niov, uint64_t done)
{
    for (uint64_t end = done + bytes; done < end;) {
        struct iovec slice[READ_SLICE_IOV];
        size_t len;
        unsigned count = iov_slice(slice, READ_SLICE_IOV, iov, niov, done, end - done, &len);
        int ret = qcow2_co_read_child(child, offset, len, slice, count);
        if (ret < 0) {
            return ret;
        }
        done += len;
        offset += len;
    }
    return 0;
}

int qcow2_co_read_child(BlockNode *child, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov)
{
    uint64_t size = child->caps.grows ? BLOCK_SIZE_MAX : block_node_size(child);
    uint64_t there = offset < size ? MIN(bytes, size - offset) : 0;
    if (there == bytes) {
        return block_node_co_preadv(child, offset, bytes, iov, niov);
    }
    int ret = read_part(child, offset, there, iov, niov, 0); /* slices that lie in the child */
    if (ret == 0) {
        iov_memset(iov, niov, there, 0, bytes - there);
    }
    return ret;
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

/* @backing: reads where nothing is allocated; NULL: zeroes. */
static coroutine_fn RUNS_IN_IOTHREAD int read_extent(BlockNode *n, BlockNode *backing,
                                                     uint64_t offset, const Qcow2Extent *e,
                                                     const struct iovec *iov, unsigned niov,
                                                     uint64_t done, bool whole)
{
    const Qcow2State *s = n->state;
    if (e->kind == QCOW2_COMPRESSED) {
        return qcow2_co_read_compressed(n, offset, e->bytes, e, iov, niov, done);
    }
    if (e->kind == QCOW2_ZERO || (e->kind == QCOW2_UNALLOCATED && backing == NULL)) {
        iov_memset(iov, niov, done, 0, e->bytes);
        return 0;
    }
    BlockNode *child = e->kind == QCOW2_DATA ? s->data : backing;
    uint64_t at = e->kind == QCOW2_DATA ? e->host : offset;
    return whole ? qcow2_co_read_child(child, at, e->bytes, iov, niov)
                 : read_part(child, at, e->bytes, iov, niov, done);
}

/* @m NULL: of the disk, whose L1 table can become another one meanwhile. */
static coroutine_fn RUNS_IN_IOTHREAD int read_extents(BlockNode *n, const Qcow2Map *m,
                                                      uint64_t offset, uint64_t bytes,
                                                      const struct iovec *iov, unsigned niov)
{
    BlockNode *backing = m == NULL ? n->backing : NULL;
    Qcow2Parts parts = {0};
    int ret = 0;
    for (uint64_t done = 0; done < bytes && ret == 0 && parts.ret == 0;) {
        Qcow2Extent e;
        ret = m != NULL ? qcow2_co_map_in(n, m, offset + done, bytes - done, &e)
                        : qcow2_co_map(n, offset + done, bytes - done, &e);
        if (ret < 0) {
            break;
        }
        bool started = e.kind == QCOW2_COMPRESSED && done + e.bytes < bytes &&
                       qcow2_co_start_compressed(&parts, n, offset + done, &e, iov, niov, done);
        if (!started) {
            ret = read_extent(n, backing, offset + done, &e, iov, niov, done, e.bytes == bytes);
        }
        done += e.bytes;
    }
    return qcow2_parts_co_wait(&parts, ret);
}

int qcow2_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                    unsigned niov)
{
    Qcow2State *s = n->state;
    Qcow2Use use;
    qcow2_use_begin(&s->w, &use);
    int ret = read_extents(n, NULL, offset, bytes, iov, niov);
    qcow2_use_end(n, &use);
    return qcow2_co_save_corrupt(n, ret);
}

int qcow2_co_read_map(BlockNode *n, const Qcow2Map *m, uint64_t offset, uint64_t bytes,
                      const struct iovec *iov, unsigned niov)
{
    return qcow2_co_save_corrupt(n, read_extents(n, m, offset, bytes, iov, niov));
}
