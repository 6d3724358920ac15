/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines: asynchronous reads, writes and flushes of a descriptor that do not block the loop.
 *
 * An engine belongs to one context; only that context's thread submits to it and reaps it
 * (checked). Requests are gathered during a turn and submitted together at its end. A completion
 * wakes its coroutine through the ready list, a limited number per turn. There is one instance per
 * context and kind, shared by the nodes that use it and freed with the last of them.
 *
 * While a request waits in the queue, one that continues it in the file is merged with it: the
 * kernel carries out both as one.
 *
 *   alone --merge--> group --done in full--> each is complete
 *                      \--done in part, or an error--> those done in full are complete, the first
 *                                                      other one has the rest, if any; all others
 *                                                      are submitted again, each alone
 *
 * So a request always has its own result.
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

/* What a merged request has at most. One larger than this has no merged ones. */
#define BLOCK_ENGINE_MERGE_BYTES (32u << 20)
#define BLOCK_ENGINE_MERGE_IOV 512u

/* The buffers of a merged request. They return to the engine, which keeps them for the next one. */
typedef union BlockMergedIov {
    struct iovec iov[BLOCK_ENGINE_MERGE_IOV];
    union BlockMergedIov *next;
} BlockMergedIov;

typedef enum BlockIoState { BLOCK_IO_NEW, BLOCK_IO_QUEUED, BLOCK_IO_DONE } BlockIoState;

/* One system call to be made. Lives on the stack of the coroutine that waits for it. */
typedef struct BlockIo {
    BlockIoOp op;
    int fd;
    bool dsync; /* a write: on stable storage before it completes */
    unsigned niov;
    const struct iovec *iov;
    uint64_t offset;
    uint64_t bytes;   /* of all buffers */
    WorkerLane *lane; /* the file's */
    /* the engine's */
    BlockIoState state;
    int64_t result; /* bytes or -errno */
    CoToken token;
    struct BlockIo *next;
    bool alone;                           /* not to be merged */
    struct BlockIo *merged, *merged_last; /* requests that continue this one; lists by next */
    uint64_t merged_bytes;
    unsigned merged_niov;
    BlockMergedIov *merged_iov; /* all buffers of the group, set by block_engine_iov() */
    struct iocb iocb;
} BlockIo;

/* Requests that the kernel does not have yet. */
typedef struct BlockIoQueue {
    BlockIo *first, **tail, *last;
} BlockIoQueue;

typedef struct BlockEngine BlockEngine;

/* All in the home context; co_run is a coroutine. */
typedef struct BlockEngineOps {
    BlockEngineKind kind;
    BlockEngine *(*create)(AioContext *ctx, GError **error);
    void (*destroy)(BlockEngine *e);
    /* Queues @io; block_engine_complete() is called when it is done. NULL if co_run is set. */
    void (*submit)(BlockEngine *e, BlockIo *io);
    /* Carries @io out and waits for it. */
    int64_t (*co_run)(BlockIo *io);
} BlockEngineOps;

/* The first member of every engine's struct. */
struct BlockEngine {
    const BlockEngineOps *ops;
    AioContext *ctx;
    unsigned users;
    BlockEngine *next;     /* list of this thread's engines */
    BlockMergedIov *spare; /* list, owned */
};

/* The number of requests for one system call, with @in_flight already in the kernel. The kernel
 * holds back a call of more than two until all are prepared, so an idle disk is started by a short
 * call. Calls of more than 8 save nothing measurable. */
static inline unsigned block_engine_batch(unsigned in_flight)
{
    return CLAMP(in_flight, 2, BLOCK_ENGINE_BATCH_MAX);
}

extern const BlockEngineOps block_engine_threads;
extern const BlockEngineOps block_engine_native;
extern const BlockEngineOps block_engine_io_uring;

/* Returns the context's engine; the first user creates it. The error names an engine that works. */
BlockEngine *block_co_engine_get(AioContext *ctx, BlockEngineKind kind, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Releases @e; the last user's call frees it. NULL is fine. */
void block_co_engine_put(BlockEngine *e) coroutine_fn RUNS_IN_MAIN;
/* The same in the context itself. NULL + @error: the host has none. */
BlockEngine *block_engine_get_here(AioContext *ctx, BlockEngineKind kind, GError **error)
    RUNS_IN_IOTHREAD;
void block_engine_put_here(BlockEngine *e) RUNS_IN_IOTHREAD;

/* Creates up to @count io_uring rings in all, as far as the host allows. If a sandbox later forbids
 * new rings, a context takes one of these and returns it when done.
 */
#define BLOCK_SPARE_RINGS_MAX 8u
void block_engine_make_spare_rings(unsigned count) RUNS_IN_MAIN;

/* Returns bytes done (maybe too few) or -errno. Set op, fd, dsync, iov, niov, offset, bytes, lane. */
int64_t block_engine_co_io(BlockEngine *e, BlockIo *io) coroutine_fn RUNS_IN_IOTHREAD;
/* ---- for engines ---- */
/* Completes @io and those merged with it, and wakes their coroutines; or submits some of them again.
 * @io is invalid afterwards. */
void block_engine_complete(BlockEngine *e, BlockIo *io, int64_t result) RUNS_IN_IOTHREAD;
void block_io_queue_init(BlockIoQueue *q) ANY_THREAD;
/* Appends @io, or merges it with the last one. */
void block_io_queue_push(BlockIoQueue *q, BlockIo *io) RUNS_IN_IOTHREAD;
BlockIo *block_io_queue_pop(BlockIoQueue *q) RUNS_IN_IOTHREAD;
/* The buffers of @io and of those merged with it. From now on nothing is merged with it. */
const struct iovec *block_engine_iov(BlockEngine *e, BlockIo *io, unsigned *niov) RUNS_IN_IOTHREAD;

#endif
