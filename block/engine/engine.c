/* SPDX-License-Identifier: Apache-2.0 */
#include "block/engine/engine.h"

#include <errno.h>

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

static void engine_get_at_home(void *opaque)
{
    EngineCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->ctx);
    BlockEngine *e = engines_here;
    while (e != NULL && (e->ctx != call->ctx || e->ops->kind != call->kind)) {
        e = e->next;
    }
    if (e == NULL) {
        e = engine_ops[call->kind]->create(call->ctx, &call->error);
        if (e == NULL) {
            return;
        }
        e->ops = engine_ops[call->kind];
        e->ctx = call->ctx;
        e->next = engines_here;
        engines_here = e;
    }
    e->users++;
    call->engine = e;
}

static void engine_put_at_home(void *opaque)
{
    BlockEngine *e = opaque;
    enter_coroutine();
    enter_iothread(e->ctx);
    if (--e->users > 0) {
        return;
    }
    BlockEngine **link = &engines_here;
    while (*link != e) {
        link = &(*link)->next;
    }
    *link = e->next;
    e->ops->destroy(e);
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
    io->next = NULL;
    io->token = co_arm();
    e->ops->submit(e, io);
    co_wait(io->token);
    return io->result;
}

void block_engine_complete(BlockEngine *e, BlockIo *io, int64_t result)
{
    assert_home(e->ctx);
    if (io->state != BLOCK_IO_QUEUED) {
        bug_abort("engine %s: a request completes twice (fd %d, offset %" G_GUINT64_FORMAT ")",
                  block_engine_names[e->ops->kind], io->fd, io->offset);
    }
    io->state = BLOCK_IO_DONE;
    io->result = result;
    co_wake(io->token);
}
