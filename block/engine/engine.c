/* SPDX-License-Identifier: Apache-2.0 */
#include "block/engine/engine.h"

#include <errno.h>
#include <string.h>

const char *const block_engine_names[] = {"threads", "native", "io_uring", NULL};

static const BlockEngineOps *const engine_ops[] = {
    [BLOCK_ENGINE_THREADS] = &block_engine_threads,
    [BLOCK_ENGINE_NATIVE] = &block_engine_native,
    [BLOCK_ENGINE_IO_URING] = &block_engine_io_uring,
};

/* The engines whose contexts this thread owns. Only this thread uses the list, so it has no lock.
 * */
static __thread BlockEngine *engines_here;

typedef struct EngineCall {
    AioContext *ctx;
    BlockEngineKind kind;
    BlockEngine *engine;
    GError *error;
} EngineCall;

BlockEngine *block_engine_get_here(AioContext *ctx, BlockEngineKind kind, GError **error)
{
    BlockEngine *e = engines_here;
    while (e != NULL && (e->ctx != ctx || e->ops->kind != kind)) {
        e = e->next;
    }
    if (e == NULL) {
        e = engine_ops[kind]->create(ctx, error);
        if (e == NULL) {
            return NULL;
        }
        e->ops = engine_ops[kind];
        e->ctx = ctx;
        e->next = engines_here;
        engines_here = e;
    }
    e->users++;
    return e;
}

static void engine_get_at_home(void *opaque)
{
    EngineCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->ctx);
    call->engine = block_engine_get_here(call->ctx, call->kind, &call->error);
}

static RUNS_IN_IOTHREAD void engine_free_spare(BlockEngine *e)
{
    while (e->spare != NULL) {
        BlockMergedIov *m = e->spare;
        e->spare = m->next;
        g_free(m);
    }
}

void block_engine_put_here(BlockEngine *e)
{
    assert_home(e->ctx);
    if (--e->users > 0) {
        return;
    }
    BlockEngine **link = &engines_here;
    while (*link != e) {
        link = &(*link)->next;
    }
    *link = e->next;
    engine_free_spare(e);
    e->ops->destroy(e);
}

static void engine_put_at_home(void *opaque)
{
    BlockEngine *e = opaque;
    enter_coroutine();
    enter_iothread(e->ctx);
    block_engine_put_here(e);
}

BlockEngine *block_co_engine_get(AioContext *ctx, BlockEngineKind kind, GError **error)
{
    EngineCall call = {.ctx = ctx, .kind = kind};
    co_call_in(ctx, engine_get_at_home, &call);
    if (call.engine == NULL) {
        g_propagate_error(error, call.error);
    }
    return call.engine;
}

void block_co_engine_put(BlockEngine *e)
{
    if (e != NULL) {
        co_call_in(e->ctx, engine_put_at_home, e);
    }
}

int64_t block_engine_co_io(BlockEngine *e, BlockIo *io)
{
    assert_home(e->ctx);
    if (e->ops->co_run != NULL) {
        return e->ops->co_run(io);
    }
    io->state = BLOCK_IO_QUEUED;
    io->next = io->merged = NULL;
    io->alone = false;
    io->token = co_arm();
    e->ops->submit(e, io);
    co_wait(io->token);
    return io->result;
}

static RUNS_IN_IOTHREAD void engine_complete_one(BlockEngine *e, BlockIo *io, int64_t result)
{
    if (io->state != BLOCK_IO_QUEUED) {
        bug_abort("engine %s: a request completes twice (fd %d, offset %" G_GUINT64_FORMAT ")",
                  block_engine_names[e->ops->kind], io->fd, io->offset);
    }
    io->state = BLOCK_IO_DONE;
    io->result = result;
    co_wake(io->token);
}

static RUNS_IN_IOTHREAD void engine_submit_alone(BlockEngine *e, BlockIo *io)
{
    io->alone = true;
    io->next = NULL;
    e->ops->submit(e, io);
}

void block_engine_complete(BlockEngine *e, BlockIo *io, int64_t result)
{
    assert_home(e->ctx);
    BlockIo *rest = io->merged;
    if (io->merged_iov != NULL) {
        io->merged_iov->next = e->spare;
        e->spare = io->merged_iov;
        io->merged_iov = NULL;
    }
    if (rest == NULL) {
        engine_complete_one(e, io, result);
        return;
    }
    io->next = rest;
    io->merged = NULL;
    uint64_t left = result > 0 ? (uint64_t)result : 0;
    bool begun = result >= 0; /* an error may be any request's */
    for (BlockIo *next; io != NULL; io = next) {
        uint64_t bytes = io->bytes;
        next = io->next;
        if (begun && left > 0) {
            engine_complete_one(e, io, (int64_t)MIN(bytes, left));
            left -= MIN(bytes, left);
        } else {
            engine_submit_alone(e, io);
        }
    }
}

/* ---- the queue ---- */

void block_io_queue_init(BlockIoQueue *q)
{
    *q = (BlockIoQueue){.tail = &q->first};
}

/* Whether @io continues @last and both can be one request. */
static bool queue_can_merge(const BlockIo *last, const BlockIo *io)
{
    return last->op == io->op && io->op != BLOCK_IO_FDSYNC && last->fd == io->fd &&
           last->offset + last->merged_bytes == io->offset && last->dsync == io->dsync &&
           !last->alone && !io->alone && last->merged_iov == NULL &&
           last->merged_bytes + io->bytes <= BLOCK_ENGINE_MERGE_BYTES &&
           last->merged_niov + io->niov <= BLOCK_ENGINE_MERGE_IOV;
}

void block_io_queue_push(BlockIoQueue *q, BlockIo *io)
{
    BlockIo *last = q->last;
    io->merged_bytes = io->bytes;
    io->merged_niov = io->niov;
    if (q->first != NULL && queue_can_merge(last, io)) {
        *(last->merged == NULL ? &last->merged : &last->merged_last->next) = io;
        last->merged_last = io;
        last->merged_bytes += io->bytes;
        last->merged_niov += io->niov;
        return;
    }
    *q->tail = io;
    q->tail = &io->next;
    q->last = io;
}

BlockIo *block_io_queue_pop(BlockIoQueue *q)
{
    BlockIo *io = q->first;
    q->first = io->next;
    if (q->first == NULL) {
        q->tail = &q->first;
    }
    return io;
}

static RUNS_IN_IOTHREAD BlockMergedIov *engine_take_spare(BlockEngine *e)
{
    BlockMergedIov *m = e->spare;
    if (m == NULL) {
        return g_new(BlockMergedIov, 1);
    }
    e->spare = m->next;
    return m;
}

const struct iovec *block_engine_iov(BlockEngine *e, BlockIo *io, unsigned *niov)
{
    *niov = io->merged_niov;
    if (io->merged == NULL) {
        io->alone = true;
        return io->iov;
    }
    if (io->merged_iov == NULL) {
        io->merged_iov = engine_take_spare(e);
        struct iovec *at = io->merged_iov->iov;
        memcpy(at, io->iov, io->niov * sizeof(*at));
        at += io->niov;
        for (const BlockIo *m = io->merged; m != NULL; m = m->next) {
            memcpy(at, m->iov, m->niov * sizeof(*at));
            at += m->niov;
        }
    }
    return io->merged_iov->iov;
}
