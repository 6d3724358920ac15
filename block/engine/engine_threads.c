/* SPDX-License-Identifier: Apache-2.0 */
/* aio=threads: each request is one system call in a worker. */
#include <errno.h>
#include <unistd.h>
#include "block/engine/engine.h"

static int64_t engine_threads_call(const BlockIo *io)
{
    switch (io->op) {
    case BLOCK_IO_READ:
        return preadv2(io->fd, io->iov, (int)io->niov, (off_t)io->offset, 0);
    case BLOCK_IO_WRITE:
        return pwritev2(io->fd, io->iov, (int)io->niov, (off_t)io->offset,
                        io->dsync ? RWF_DSYNC : 0);
    case BLOCK_IO_FDSYNC:
        return fdatasync(io->fd);
    }
    g_assert_not_reached();
}

static int engine_threads_work(void *opaque)
{
    BlockIo *io = opaque;
    enter_worker();
    do {
        io->result = engine_threads_call(io);
    } while (io->result < 0 && errno == EINTR);
    if (io->result < 0) {
        io->result = -errno;
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int64_t engine_threads_co_run(BlockIo *io)
{
    co_run_in_lane(io->lane, engine_threads_work, io);
    return io->result;
}

static RUNS_IN_IOTHREAD BlockEngine *engine_threads_create(AioContext *ctx, GError **error)
{
    return g_new0(BlockEngine, 1);
}

static RUNS_IN_IOTHREAD void engine_threads_destroy(BlockEngine *e)
{
    g_free(e);
}

const BlockEngineOps block_engine_threads = {
    .kind = BLOCK_ENGINE_THREADS,
    .create = engine_threads_create,
    .destroy = engine_threads_destroy,
    .co_run = engine_threads_co_run,
};
