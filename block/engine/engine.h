/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines: how reads, writes and flushes of a descriptor reach the kernel without stopping a loop.
 *
 * An engine belongs to one context; it is submitted to and reaped by that context's thread alone
 * (checked). Requests are gathered during a turn and submitted together at its end; what completed
 * wakes its coroutine through the ready list, a bounded number per turn. There is one instance per
 * context and kind, shared by the nodes that use it and freed with the last of them.
 *
 *   threads    preadv2/pwritev2 in workers; takes everything
 *   native     Linux AIO; O_DIRECT only, since io_submit() blocks on buffered files
 *   io_uring   takes everything
 */
#ifndef SKIFF_BLOCK_ENGINE_ENGINE_H
#define SKIFF_BLOCK_ENGINE_ENGINE_H

#include <libaio.h>
#include "block/block.h"
#include "util/loop/worker.h"

typedef enum BlockEngineKind {
    BLOCK_ENGINE_THREADS,
    BLOCK_ENGINE_NATIVE,
    BLOCK_ENGINE_IO_URING,
} BlockEngineKind;

extern const char *const block_engine_names[]; /* NULL-terminated, by kind: the values of aio= */

#define BLOCK_ENGINE_BATCH_MAX 8u

typedef enum BlockIoOp { BLOCK_IO_READ, BLOCK_IO_WRITE, BLOCK_IO_FDSYNC } BlockIoOp;

typedef enum BlockIoState { BLOCK_IO_NEW, BLOCK_IO_QUEUED, BLOCK_IO_DONE } BlockIoState;

/* One system call to be. Lives on the stack of the coroutine that waits for it. */
typedef struct BlockIo {
    BlockIoOp op;
    int fd;
    bool dsync; /* a write: on stable storage before it completes */
    unsigned niov;
    const struct iovec *iov;
    uint64_t offset;
    WorkerLane *lane; /* the file's */
    /* the engine's */
    BlockIoState state;
    int64_t result; /* bytes or -errno */
    CoToken token;
    struct BlockIo *next;
    struct iocb iocb;
} BlockIo;

typedef struct BlockEngine BlockEngine;

/* All in the home context; co_run is a coroutine. */
typedef struct BlockEngineOps {
    BlockEngineKind kind;
    BlockEngine *(*create)(AioContext *ctx, GError **error);
    void (*destroy)(BlockEngine *e);
    /* Queues @io, which will be completed by block_engine_complete(). NULL: co_run is there. */
    void (*submit)(BlockEngine *e, BlockIo *io);
    /* Carries @io out and waits for it. */
    int64_t (*co_run)(BlockIo *io);
} BlockEngineOps;

/* What every engine's struct begins with. */
struct BlockEngine {
    const BlockEngineOps *ops;
    AioContext *ctx;
    unsigned users;
    BlockEngine *next; /* of this thread's */
};

/* How many requests a system call takes along, with @in_flight in the kernel already. It holds what
 * a call of more than two submits back until it has prepared all of it, so an idle disk is started
 * by a short call. From 8 on longer calls save nothing that can be measured. */
static inline unsigned block_engine_batch(unsigned in_flight)
{
    return CLAMP(in_flight, 2, BLOCK_ENGINE_BATCH_MAX);
}

extern const BlockEngineOps block_engine_threads;
extern const BlockEngineOps block_engine_native;
extern const BlockEngineOps block_engine_io_uring;

/* The context's engine, created by the first user; the error says which engine would work. */
BlockEngine *block_co_engine_get(AioContext *ctx, BlockEngineKind kind, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The last user's frees it. NULL is fine. */
void block_co_engine_put(BlockEngine *e) coroutine_fn RUNS_IN_MAIN;

/* Makes io_uring's rings, up to @count in all, as far as the host has it: from now on a context for
 * which none can be made, because a sandbox forbids it, takes one of these for as long as it has a
 * use for it. */
#define BLOCK_SPARE_RINGS_MAX 8u
void block_engine_make_spare_rings(unsigned count) RUNS_IN_MAIN;

/* Bytes done (may be fewer than asked) or -errno. Fill op, fd, dsync, iov, niov, offset, lane. */
int64_t block_engine_co_io(BlockEngine *e, BlockIo *io) coroutine_fn RUNS_IN_IOTHREAD;
/* For engines: @io is done; wakes its coroutine. @io is gone afterwards. */
void block_engine_complete(BlockEngine *e, BlockIo *io, int64_t result) RUNS_IN_IOTHREAD;

#endif
