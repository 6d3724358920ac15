/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed clusters. A worker decompresses a whole cluster; its input is at most two clusters long
 * and its output exactly one, so that hostile data costs bounded time and memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>
#include "block/qcow2/qcow2_int.h"

#define COMPRESS_MEMORY ((uint64_t)24 << 20) /* of a node */
#define COMPRESS_MIN 4u
#define COMPRESS_MAX 16u

static int decompress_zlib(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    z_stream z = {
        .next_in = (Bytef *)(uintptr_t)in,
        .avail_in = (uInt)in_size,
        .next_out = out,
        .avail_out = (uInt)out_size,
    };
    if (inflateInit2(&z, QCOW2_ZLIB_WINDOW_BITS) != Z_OK) {
        return -EIO;
    }
    int ret = inflate(&z, Z_FINISH);
    bool full = z.avail_out == 0;
    inflateEnd(&z);
    /* The input ends with padding, so the stream's end may not have been reached. */
    return full && (ret == Z_STREAM_END || ret == Z_BUF_ERROR) ? 0 : -EIO;
}

/* A stream: one cluster may be several frames, and the input has padding after the last one. */
static int decompress_zstd(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size)
{
    ZSTD_DCtx *z = ZSTD_createDCtx();
    ZSTD_inBuffer input = {in, in_size, 0};
    ZSTD_outBuffer output = {out, out_size, 0};
    size_t ret = z == NULL ? 1 : 0;
    while (z != NULL && output.pos < output.size) {
        size_t in_before = input.pos, out_before = output.pos;
        ret = ZSTD_decompressStream(z, &output, &input);
        if (ZSTD_isError(ret) || (input.pos == in_before && output.pos == out_before)) {
            break;
        }
    }
    ZSTD_freeDCtx(z);
    return output.pos == output.size && !ZSTD_isError(ret) ? 0 : -EIO;
}

int qcow2_decompress(unsigned type, const uint8_t *in, size_t in_size, uint8_t *out,
                     size_t out_size)
{
    return type == QCOW2_COMPRESSION_ZSTD ? decompress_zstd(in, in_size, out, out_size)
                                          : decompress_zlib(in, in_size, out, out_size);
}

/* ---- in a worker ---- */

typedef struct Decompress {
    unsigned type;
    const uint8_t *in;
    uint8_t *out;
    size_t in_size, out_size;
} Decompress;

static int decompress_work(void *opaque)
{
    const Decompress *d = opaque;
    enter_worker();
    return qcow2_decompress(d->type, d->in, d->in_size, d->out, d->out_size);
}

/* Reads the data; what lies beyond the end of the file is zero, as for the last cluster. */
static coroutine_fn RUNS_IN_IOTHREAD int compress_read_data(BlockNode *n, const Qcow2Extent *e,
                                                            uint8_t *in)
{
    uint64_t size = block_node_size(n->file);
    struct iovec iov = {in, e->length};
    if (e->host >= size) {
        return qcow2_damaged(n, "compressed data at 0x%" PRIx64 " is beyond the end of the file",
                             e->host);
    }
    return qcow2_co_read_child(n->file, e->host, e->length, &iov, 1);
}

static coroutine_fn RUNS_IN_IOTHREAD int compress_load(BlockNode *n, const Qcow2Extent *e,
                                                       uint8_t *in, uint8_t *out)
{
    Qcow2State *s = n->state;
    Decompress d = {
        .type = s->header.compression,
        .in = in,
        .in_size = e->length,
        .out = out,
        .out_size = qcow2_cluster_size(&s->header),
    };
    int ret = compress_read_data(n, e, in);
    if (ret == 0) {
        ret = co_run_in_lane(&s->lane, decompress_work, &d);
        if (ret < 0) {
            qcow2_damaged(n, "the compressed data at 0x%" PRIx64 " is damaged", e->host);
        }
    }
    return ret;
}

/* Clusters of a node that are read and decompressed at a time: each needs three times its size. */
static unsigned compress_limit(const Qcow2State *s)
{
    uint64_t each = 3 * qcow2_cluster_size(&s->header);
    return (unsigned)CLAMP(COMPRESS_MEMORY / each, COMPRESS_MIN, COMPRESS_MAX);
}

int qcow2_co_read_compressed(BlockNode *n, uint64_t offset, uint64_t bytes, const Qcow2Extent *e,
                             const struct iovec *iov, unsigned niov, size_t skip)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    while (s->decompressing >= compress_limit(s)) {
        co_queue_wait(&s->decompress_waiters, "memory to decompress a cluster");
    }
    s->decompressing++;
    uint8_t *buffer = malloc(e->length + cluster);
    int ret = buffer != NULL ? compress_load(n, e, buffer, buffer + e->length) : -ENOMEM;
    if (ret == 0) {
        iov_copy_from_buf(iov, niov, skip, buffer + e->length + (offset & (cluster - 1)), bytes);
    }
    free(buffer);
    s->decompressing--;
    co_queue_wake_one(&s->decompress_waiters);
    return ret;
}

/* ---- beside other parts of the request ---- */

typedef struct CompressPart {
    Qcow2Parts *parts;
    BlockNode *node;
    uint64_t offset;
    Qcow2Extent extent;
    const struct iovec *iov;
    unsigned niov;
    size_t skip;
} CompressPart;

static void compress_part_run(void *opaque)
{
    CompressPart *p = opaque;
    enter_coroutine();
    enter_iothread(p->node->home);
    int ret = p->parts->ret;
    if (ret == 0) {
        ret = qcow2_co_read_compressed(p->node, p->offset, p->extent.bytes, &p->extent, p->iov,
                                       p->niov, p->skip);
    }
    qcow2_part_end(p->parts, ret);
    g_free(p);
}

void qcow2_co_start_compressed(Qcow2Parts *parts, BlockNode *n, uint64_t offset,
                               const Qcow2Extent *e, const struct iovec *iov, unsigned niov,
                               size_t skip)
{
    qcow2_parts_co_begin(parts);
    CompressPart *p = g_new(CompressPart, 1);
    *p = (CompressPart){.parts = parts,
                        .node = n,
                        .offset = offset,
                        .extent = *e,
                        .iov = iov,
                        .niov = niov,
                        .skip = skip};
    co_start(n->home, compress_part_run, p);
}
