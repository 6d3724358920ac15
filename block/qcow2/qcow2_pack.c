/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where compressed data goes: one piece behind the other, without gaps, as long as their clusters are
 * neighbours in the file.
 *
 *   cluster 7                         cluster 8
 *   | piece a | piece b | piece c ... | ... c | piece d |  (pack_at)
 *     refcounts: 3 (a, b, c)            3 (c, d, and one for the packing)
 *
 * One place is found at a time.
 */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* Counts one more reference to the cluster at @host. */
static coroutine_fn RUNS_IN_IOTHREAD int pack_refer(BlockNode *n, uint64_t host)
{
    const Qcow2State *s = n->state;
    uint64_t done;
    return qcow2_co_change_refcounts(n, host >> s->header.cluster_bits, 1, 1, &done);
}

static coroutine_fn RUNS_IN_IOTHREAD void pack_drop(BlockNode *n, uint64_t host)
{
    const Qcow2State *s = n->state;
    Qcow2Run run = {.host = block_align_down(host, qcow2_cluster_size(&s->header)), .count = 1};
    qcow2_co_unalloc(n, &run);
}

void qcow2_co_pack_end(BlockNode *n)
{
    Qcow2State *s = n->state;
    uint64_t at = s->w.pack_at;
    s->w.pack_at = 0;
    if (at != 0 && !s->w.corrupt) {
        pack_drop(n, at);
    }
}

void qcow2_co_unpack(BlockNode *n, uint64_t host, uint64_t bytes)
{
    const Qcow2State *s = n->state;
    unsigned bits = s->header.cluster_bits;
    Qcow2Run run = {.host = host >> bits << bits};
    run.count = ((host + bytes - 1) >> bits) - (host >> bits) + 1;
    qcow2_co_unalloc(n, &run);
}

/* Takes @bytes of the cluster that is being packed. -EINVAL: it cannot have more references. */
static coroutine_fn RUNS_IN_IOTHREAD int pack_append(BlockNode *n, uint64_t bytes, uint64_t *host)
{
    Qcow2State *s = n->state;
    uint64_t at = s->w.pack_at;
    int ret = pack_refer(n, at);
    if (ret < 0) {
        return ret;
    }
    *host = at;
    s->w.pack_at = at + bytes;
    if (block_is_aligned(at + bytes, qcow2_cluster_size(&s->header))) { /* it is full */
        s->w.pack_at = 0;
        pack_drop(n, at);
    }
    return 0;
}

/* Takes a new cluster. The data begins in the one before if that is being packed, has @left bytes,
 * and can have one more reference. */
static coroutine_fn RUNS_IN_IOTHREAD int pack_begin(BlockNode *n, uint64_t bytes, uint64_t left,
                                                    uint64_t *host)
{
    Qcow2State *s = n->state;
    uint64_t old = s->w.pack_at;
    Qcow2Run run;
    int ret = qcow2_co_alloc(n, 1, false, &run);
    if (ret < 0) {
        return ret;
    }
    bool spans = left > 0 && left < bytes && run.host == old + left;
    ret = spans ? pack_refer(n, old) : 0;
    if (ret < 0 && ret != -EINVAL) {
        qcow2_co_unalloc(n, &run);
        return ret;
    }
    *host = spans && ret == 0 ? old : run.host;
    qcow2_co_pack_end(n);
    if (pack_refer(n, run.host) == 0) { /* else no more data goes there */
        s->w.pack_at = *host + bytes;
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int pack_find(BlockNode *n, uint64_t bytes, uint64_t *host)
{
    const Qcow2State *s = n->state;
    uint64_t cluster = qcow2_cluster_size(&s->header), at = s->w.pack_at;
    uint64_t left = at != 0 ? cluster - (at & (cluster - 1)) : 0;
    int ret = left >= bytes ? pack_append(n, bytes, host) : -EINVAL;
    return ret == -EINVAL ? pack_begin(n, bytes, left, host) : ret;
}

int qcow2_co_pack(BlockNode *n, uint64_t bytes, uint64_t *host)
{
    Qcow2State *s = n->state;
    Qcow2Writer *w = &s->w;
    while (w->packing) {
        co_queue_wait(&w->pack_waiters, "a place for other compressed data");
    }
    w->packing = true;
    int ret = pack_find(n, bytes, host);
    w->packing = false;
    co_queue_wake_one(&w->pack_waiters);
    return ret;
}
