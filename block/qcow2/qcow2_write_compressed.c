/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compressed writes. The clusters of a request are compressed at the same time, each by a worker:
 *
 *   compress --smaller than a cluster--> exclusive lock --> place (qcow2_pack.c) --> write the data
 *      |                                                                                  |
 *      '--else--> normal write                    unlock <-- change the entry, free the old cluster
 *
 * What the guest cluster had before, compressed or not, is replaced.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- one cluster ---- */

/* The entry for data of @length bytes at @host. */
static Qcow2Entry compressed_entry(const Qcow2State *s, uint64_t host, uint64_t length)
{
    unsigned shift = 62 - (s->header.cluster_bits - 8);
    uint64_t sectors =
        (host + length - 1) / QCOW2_COMPRESSED_SECTOR - host / QCOW2_COMPRESSED_SECTOR;
    return (Qcow2Entry){.entry = QCOW2_ENTRY_COMPRESSED | sectors << shift | host};
}

/* Whether an entry has enough bits for the place. */
static bool compressed_fits(const Qcow2State *s, uint64_t host, uint64_t length)
{
    return (host + length) >> (62 - (s->header.cluster_bits - 8)) == 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int compressed_link(BlockNode *n, uint64_t guest, Qcow2Entry m)
{
    Qcow2State *s = n->state;
    Qcow2Slice *slice;
    uint64_t index;
    int ret = qcow2_co_change_l2(n, guest, &slice, &index);
    if (ret < 0) {
        return ret;
    }
    Qcow2Entry old = qcow2_get_entry(s, slice, index);
    ret = qcow2_check_entry(n, guest, old);
    if (ret == 0) {
        qcow2_set_entry(s, slice, index, m);
        qcow2_free_entry(n, old, false);
        s->w.data_written = true;
    }
    qcow2_cache_put(&s->l2, slice);
    return ret;
}

/* Under the exclusive lock. -EFBIG: no place that an entry can describe. */
static coroutine_fn RUNS_IN_IOTHREAD int compressed_store(BlockNode *n, uint64_t guest,
                                                          uint8_t *data, uint64_t length)
{
    const Qcow2State *s = n->state;
    struct iovec iov = {data, length};
    uint64_t host;
    int ret = qcow2_co_pack(n, length, &host);
    if (ret < 0) {
        return ret;
    }
    ret = compressed_fits(s, host, length) ? 0 : -EFBIG;
    if (ret == 0) {
        ret = block_node_co_pwritev(n->file, host, length, &iov, 1, 0);
    }
    if (ret == 0) {
        ret = compressed_link(n, guest, compressed_entry(s, host, length));
    }
    if (ret < 0) {
        qcow2_co_unpack(n, host, length);
    }
    return ret;
}

typedef struct CompressedWork {
    Qcow2Compressor *compressor;
    size_t length;
} CompressedWork;

static int compressed_work(void *opaque)
{
    CompressedWork *c = opaque;
    enter_worker();
    c->length = qcow2_compress(c->compressor);
    return 0;
}

/* A part of a request. */
typedef struct CompressedPart {
    Qcow2Parts *parts;
    BlockNode *node;
    uint64_t offset, bytes; /* on the disk: a cluster, or its part before the disk's end */
    const struct iovec *iov;
    unsigned niov;
    uint64_t skip; /* bytes of the buffers */
} CompressedPart;

static coroutine_fn RUNS_IN_IOTHREAD int compressed_write_cluster(const CompressedPart *p,
                                                                  Qcow2Compressor *compressor)
{
    BlockNode *n = p->node;
    Qcow2State *s = n->state;
    uint8_t *in = qcow2_compressor_input(compressor);
    CompressedWork c = {.compressor = compressor};
    struct iovec whole = {in, p->bytes};
    int ret = -EFBIG;
    iov_copy_to_buf(p->iov, p->niov, p->skip, in, p->bytes);
    memset(in + p->bytes, 0, qcow2_cluster_size(&s->header) - p->bytes);
    co_run_in_lane(&s->lane, compressed_work, &c);
    if (c.length > 0) {
        qcow2_co_lock(&s->w, p->offset >> s->header.cluster_bits, 1, true);
        ret = compressed_store(n, p->offset, qcow2_compressor_output(compressor), c.length);
        qcow2_unlock(&s->w, p->offset >> s->header.cluster_bits, 1);
    }
    return ret == -EFBIG ? qcow2_co_pwritev(n, p->offset, p->bytes, &whole, 1, 0) : ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int compressed_write_part(const CompressedPart *p)
{
    Qcow2State *s = p->node->state;
    while (s->compressing >= qcow2_compress_limit(s)) {
        co_queue_wait(&s->compress_waiters, "memory to compress a cluster");
    }
    s->compressing++;
    Qcow2Compressor *c = qcow2_compressor_get(&s->compressors, s->header.compression,
                                              qcow2_cluster_size(&s->header));
    int ret = -ENOMEM;
    if (c != NULL) {
        ret = compressed_write_cluster(p, c);
        qcow2_compressor_put(&s->compressors, c);
    }
    s->compressing--;
    co_queue_wake_one(&s->compress_waiters);
    return ret;
}

static void compressed_part_run(void *opaque)
{
    CompressedPart *p = opaque;
    enter_coroutine();
    enter_iothread(p->node->home);
    int ret = p->parts->ret;
    if (ret == 0) {
        ret = compressed_write_part(p);
    }
    qcow2_part_end(p->parts, ret);
    g_free(p);
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_IOTHREAD int compressed_write(BlockNode *n, uint64_t offset,
                                                          uint64_t bytes, const struct iovec *iov,
                                                          unsigned niov)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    Qcow2Parts parts = {0};
    int ret = 0;
    for (uint64_t done = 0; done < bytes && parts.ret == 0; done += cluster) {
        CompressedPart p = {.parts = &parts,
                            .node = n,
                            .offset = offset + done,
                            .bytes = MIN(cluster, bytes - done),
                            .iov = iov,
                            .niov = niov,
                            .skip = done};
        if (bytes - done > cluster) {
            qcow2_parts_co_begin(&parts);
            co_start(n->home, compressed_part_run, g_memdup2(&p, sizeof(p)));
        } else {
            ret = compressed_write_part(&p);
        }
    }
    return qcow2_parts_co_wait(&parts, ret);
}

int qcow2_co_pwrite_compressed(BlockNode *n, uint64_t offset, uint64_t bytes,
                               const struct iovec *iov, unsigned niov)
{
    Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header);
    Qcow2Use use;
    if (qcow2_has_data_file(&s->header)) {
        return -ENOTSUP;
    }
    if (!block_is_aligned(offset, cluster) ||
        (!block_is_aligned(bytes, cluster) && offset + bytes != block_node_size(n))) {
        return -EINVAL;
    }
    int ret = qcow2_co_begin_change(n);
    if (ret < 0) {
        return ret;
    }
    qcow2_use_begin(&s->w, &use);
    ret = compressed_write(n, offset, bytes, iov, niov);
    if (ret == -ENOSPC && qcow2_co_reclaim(n, &use)) {
        ret = compressed_write(n, offset, bytes, iov, niov);
    }
    if (ret == 0 && s->w.frees->len > QCOW2_FREES_MAX) {
        ret = qcow2_co_make_room(n);
    }
    qcow2_use_end(n, &use);
    return qcow2_co_save_corrupt(n, ret);
}
