/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of compressed clusters. A worker decompresses a whole cluster; its input is at most two
 * clusters long and its output exactly one, so that hostile data costs bounded time and memory.
 */
#include <errno.h>
#include <stdlib.h>
#include "block/qcow2/qcow2_int.h"

#define COMPRESS_MEMORY ((uint64_t)24 << 20) /* of a node */
#define COMPRESS_MIN 4u
#define COMPRESS_MAX 16u

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

unsigned qcow2_compress_limit(const Qcow2State *s)
{
    uint64_t each = 3 * qcow2_cluster_size(&s->header);
    return (unsigned)CLAMP(COMPRESS_MEMORY / each, COMPRESS_MIN, COMPRESS_MAX);
}

/* Reads and decompresses the cluster, and gives back its share of the memory. */
static coroutine_fn RUNS_IN_IOTHREAD int compress_read(BlockNode *n, uint64_t offset,
                                                       uint64_t bytes, const Qcow2Extent *e,
                                                       const struct iovec *iov, unsigned niov,
                                                       size_t skip)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
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

int qcow2_co_read_compressed(BlockNode *n, uint64_t offset, uint64_t bytes, const Qcow2Extent *e,
                             const struct iovec *iov, unsigned niov, size_t skip)
{
    Qcow2State *s = n->state;
    while (s->decompressing >= qcow2_compress_limit(s)) {
        co_queue_wait(&s->decompress_waiters, "memory to decompress a cluster");
    }
    s->decompressing++;
    return compress_read(n, offset, bytes, e, iov, niov, skip);
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
    int ret =
        compress_read(p->node, p->offset, p->extent.bytes, &p->extent, p->iov, p->niov, p->skip);
    qcow2_part_end(p->parts, ret);
    g_free(p);
}

bool qcow2_co_start_compressed(Qcow2Parts *parts, BlockNode *n, uint64_t offset,
                               const Qcow2Extent *e, const struct iovec *iov, unsigned niov,
                               size_t skip)
{
    Qcow2State *s = n->state;
    if (s->decompressing >= qcow2_compress_limit(s) || !co_queue_empty(&s->decompress_waiters)) {
        return false;
    }
    s->decompressing++; /* at most QCOW2_PARTS_MAX: the begin does not wait */
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
    return true;
}
