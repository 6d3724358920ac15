/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/chain_commit.h"
#include <errno.h>
#include <stdlib.h>
#include "block/chain/chain.h"
#include "block/graph.h"
#include "util/loop/sched_point.h"

#define COMMIT_CHUNK ((uint64_t)1 << 20)

/* ---- checks ---- */

bool chain_can_commit(BlockNode *n)
{
    return chain_image(n)->backing != NULL;
}

/* The base changes: nobody else may see it. */
static RUNS_IN_MAIN bool commit_check_base(const BlockNode *top, const BlockNode *base,
                                           GError **error)
{
    for (unsigned i = 0; i < base->parents->len; i++) {
        const BlockEdge *e = base->parents->pdata[i];
        if (e->parent != top && e->uses != 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' cannot be changed: %s uses it", base->name, e->user);
            return false;
        }
    }
    return block_node_check_no_job(top, error);
}

/* ---- the copy, in the home and drained ---- */

typedef struct CommitRun {
    BlockNode *top, *base;
    uint8_t *buffer;
    int ret;
} CommitRun;

static coroutine_fn RUNS_IN_IOTHREAD int commit_copy(const CommitRun *r, uint64_t at,
                                                     uint64_t bytes)
{
    int ret = 0;
    for (uint64_t done = 0; done < bytes && ret == 0;) {
        struct iovec iov = {r->buffer, MIN(bytes - done, COMMIT_CHUNK)};
        ret = block_node_co_preadv(r->top, at + done, iov.iov_len, &iov, 1);
        if (ret == 0) {
            ret = block_node_co_pwritev(r->base, at + done, iov.iov_len, &iov, 1, 0);
        }
        done += iov.iov_len;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_range(const CommitRun *r, uint64_t at,
                                                      uint64_t *bytes)
{
    BlockStatus s;
    int ret = block_node_co_block_status(r->top, at, *bytes, true, &s);
    if (ret < 0) {
        return ret;
    }
    *bytes = s.bytes;
    if ((s.flags & BLOCK_STATUS_ALLOCATED) == 0 || s.depth > 0) {
        return 0;
    }
    return (s.flags & BLOCK_STATUS_ZERO) != 0
               ? block_node_co_write_zeroes(r->base, at, s.bytes, BLOCK_REQ_MAY_UNMAP)
               : commit_copy(r, at, s.bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int commit_all(const CommitRun *r)
{
    uint64_t size = block_node_size(r->top);
    int ret = size > block_node_size(r->base) ? block_node_co_truncate(r->base, size) : 0;
    for (uint64_t at = 0; at < size && ret == 0;) {
        uint64_t bytes = size - at;
        ret = commit_range(r, at, &bytes);
        at += bytes;
        co_yield_turn();
    }
    ret = ret == 0 ? block_node_co_flush(r->base) : ret;
    SP("chain.commit_copied", r->top);
    return ret == 0 ? block_node_co_make_empty(r->top) : ret;
}

static void commit_at_home(void *opaque)
{
    CommitRun *r = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(r->top));
    void *buffer;
    if (posix_memalign(&buffer, BLOCK_MEMORY_ALIGNMENT_MAX, COMMIT_CHUNK) != 0) {
        r->ret = -ENOMEM;
        return;
    }
    r->buffer = buffer;
    r->ret = commit_all(r);
    free(buffer);
}

/* ---- in main ---- */

static coroutine_fn RUNS_IN_MAIN bool commit_co_drained(BlockNode *top, GError **error)
{
    CommitRun r = {.top = top, .base = top->backing};
    BlockGraphChange *c = block_graph_co_begin(&top, 1, error);
    if (c == NULL) {
        return false;
    }
    co_call_in(block_node_home(top), commit_at_home, &r);
    block_graph_co_end(c);
    if (r.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s", g_strerror(-r.ret));
    }
    return r.ret == 0;
}

bool chain_co_commit(BlockNode *n, GError **error)
{
    BlockNode *top = chain_image(n), *base = top->backing;
    if (base == NULL || top->drv->co_make_empty == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "%s", g_strerror(ENOTSUP));
        return false;
    }
    if (block_node_read_only(top)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "%s", g_strerror(EACCES));
        return false;
    }
    bool read_only = block_node_read_only(base);
    if (!commit_check_base(top, base, error) || !block_node_co_set_read_only(base, false, error)) {
        return false;
    }
    bool ok = commit_co_drained(top, error);
    if (read_only) {
        block_node_co_set_read_only(base, true, NULL);
    }
    return ok;
}
