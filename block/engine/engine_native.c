/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio=native: Linux AIO, for O_DIRECT (on buffered files io_submit() would block the loop).
 *
 * Requests are gathered and submitted at the end of the turn, a few with each system call. An
 * eventfd signals completions, which are then read without a system call from the ring shared with
 * the kernel. That ring has one consumer: the context's thread.
 */
#include <errno.h>
#include <libaio.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "block/engine/engine.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

#define NATIVE_DEPTH 512u
#define NATIVE_REAP_MAX 128u
#define NATIVE_RING_MAGIC 0xa10a10a1u

/* The struct behind an io_context_t (fs/aio.c of the kernel, struct aio_ring). */
typedef struct NativeRing {
    uint32_t id;
    uint32_t nr;
    _Atomic uint32_t head; /* written by skiff */
    _Atomic uint32_t tail; /* written by the kernel */
    uint32_t magic;
    uint32_t compat_features;
    uint32_t incompat_features;
    uint32_t header_length;
    struct io_event events[];
} NativeRing;

typedef struct EngineNative {
    BlockEngine base;
    io_context_t context;
    NativeRing *ring;
    int event_fd;
    AioHandler *handler;
    BlockIoQueue queued; /* not yet submitted */
    unsigned in_flight;
    AioBh again; /* makes the loop reap again in its next turn */
} EngineNative;

/* ---- reaping ---- */

static bool engine_native_ready(const EngineNative *e)
{
    return atomic_load_explicit(&e->ring->head, memory_order_relaxed) !=
           atomic_load_explicit(&e->ring->tail, memory_order_acquire);
}

static RUNS_IN_IOTHREAD void engine_native_reap(EngineNative *e)
{
    assert_home(e->base.ctx);
    NativeRing *ring = e->ring;
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    unsigned count = 0;
    for (; head != tail && count < NATIVE_REAP_MAX; count++) {
        struct io_event event = ring->events[head];
        SP("engine.native_event", e);
        head = head + 1 < ring->nr ? head + 1 : 0;
        block_engine_complete(&e->base, event.data, (int64_t)event.res);
    }
    atomic_store_explicit(&ring->head, head, memory_order_release);
    if (count > 0) {
        SP("engine.native_reaped", e); /* the events are fetched, and not counted */
    }
    e->in_flight -= count;
    if (count > 0) {
        trace_block_engine_reap("native", count, e->in_flight);
    }
    if (head != tail) {
        aio_bh_schedule(&e->again); /* the eventfd was read and will not signal again */
    }
}

static void engine_native_readable(void *opaque)
{
    EngineNative *e = opaque;
    enter_iothread(e->base.ctx);
    uint64_t count;
    ssize_t n = read(e->event_fd, &count, sizeof(count)); /* before the ring is read */
    (void)n;
    engine_native_reap(e);
}

static bool engine_native_poll(void *opaque)
{
    return engine_native_ready(opaque);
}

static void engine_native_again(void *opaque)
{
    EngineNative *e = opaque;
    enter_iothread(e->base.ctx);
    engine_native_reap(e);
}

/* ---- submitting ---- */

static RUNS_IN_IOTHREAD void engine_native_prepare(EngineNative *e, BlockIo *io)
{
    unsigned niov;
    const struct iovec *iov = block_engine_iov(&e->base, io, &niov);
    switch (io->op) {
    case BLOCK_IO_READ:
        io_prep_preadv(&io->iocb, io->fd, iov, (int)niov, (long long)io->offset);
        break;
    case BLOCK_IO_WRITE:
        io_prep_pwritev(&io->iocb, io->fd, iov, (int)niov, (long long)io->offset);
        io->iocb.aio_rw_flags = io->dsync ? RWF_DSYNC : 0;
        break;
    case BLOCK_IO_FDSYNC:
        io_prep_fdsync(&io->iocb, io->fd);
        break;
    }
    io->iocb.data = io;
    io_set_eventfd(&io->iocb, e->event_fd);
}

static RUNS_IN_IOTHREAD unsigned engine_native_gather(EngineNative *e, struct iocb **batch)
{
    unsigned room = MIN(block_engine_batch(e->in_flight), NATIVE_DEPTH - e->in_flight);
    unsigned count = 0;
    for (BlockIo *io = e->queued.first; io != NULL && count < room; io = io->next) {
        engine_native_prepare(e, io);
        batch[count++] = &io->iocb;
    }
    return count;
}

static void engine_native_flush(void *opaque)
{
    EngineNative *e = opaque;
    enter_iothread(e->base.ctx);
    struct iocb *batch[BLOCK_ENGINE_BATCH_MAX];
    unsigned count;
    while ((count = engine_native_gather(e, batch)) > 0) {
        int ret = io_submit(e->context, count, batch);
        trace_block_engine_submit("native", count, ret);
        if (ret == -EAGAIN || ret == -EINTR || ret == 0) {
            aio_bh_schedule(&e->again); /* temporarily out of resources: retried in the next turn */
            return;
        }
        if (ret < 0) { /* the first request is invalid */
            block_engine_complete(&e->base, block_io_queue_pop(&e->queued), ret);
            continue;
        }
        for (int i = 0; i < ret; i++) {
            block_io_queue_pop(&e->queued);
        }
        e->in_flight += (unsigned)ret;
        if (engine_native_ready(e)) {
            engine_native_reap(e); /* completed requests need not wait for the eventfd */
        }
    }
}

static RUNS_IN_IOTHREAD void engine_native_submit(BlockEngine *base, BlockIo *io)
{
    EngineNative *e = (EngineNative *)base;
    block_io_queue_push(&e->queued, io);
}

/* ---- life cycle ---- */

static const AioHandlerOps engine_native_handler = {
    .readable = engine_native_readable,
    .poll = engine_native_poll,
    .poll_ready = engine_native_again,
    .flush = engine_native_flush,
};

static bool engine_native_fail(GError **error, const char *what, int err)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_UNSUPPORTED,
                "aio=native: %s: %s%s; use aio=threads", what, g_strerror(err),
                err == EAGAIN ? " (sysctl fs.aio-max-nr is exhausted)" : "");
    return false;
}

static bool engine_native_setup(EngineNative *e, GError **error)
{
    int ret = io_setup(NATIVE_DEPTH, &e->context);
    if (ret < 0) {
        return engine_native_fail(error, "io_setup", -ret);
    }
    e->ring = (NativeRing *)(void *)e->context;
    e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->ring->magic == NATIVE_RING_MAGIC && e->event_fd >= 0) {
        return true;
    }
    int err = e->event_fd < 0 ? errno : ENOSYS;
    if (e->event_fd >= 0) {
        close(e->event_fd);
    }
    io_destroy(e->context);
    return engine_native_fail(error, "eventfd and completion ring", err);
}

static RUNS_IN_IOTHREAD BlockEngine *engine_native_create(AioContext *ctx, GError **error)
{
    EngineNative *e = g_new0(EngineNative, 1);
    if (!engine_native_setup(e, error)) {
        g_free(e);
        return NULL;
    }
    block_io_queue_init(&e->queued);
    aio_bh_init(&e->again, ctx, engine_native_again, e);
    e->handler = aio_handler_add(ctx, e->event_fd, &engine_native_handler, e);
    return &e->base;
}

static RUNS_IN_IOTHREAD void engine_native_destroy(BlockEngine *base)
{
    EngineNative *e = (EngineNative *)base;
    if (e->in_flight != 0 || e->queued.first != NULL) {
        bug_abort("engine native ends with %u requests in flight", e->in_flight);
    }
    aio_bh_cancel(&e->again);
    aio_handler_remove(e->handler);
    io_destroy(e->context);
    close(e->event_fd);
    g_free(e);
}

const BlockEngineOps block_engine_native = {
    .kind = BLOCK_ENGINE_NATIVE,
    .create = engine_native_create,
    .destroy = engine_native_destroy,
    .submit = engine_native_submit,
};
