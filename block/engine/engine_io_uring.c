/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio=io_uring: one ring per context.
 *
 * Requests are gathered in a list. At the end of the turn they become SQEs and are submitted, a few
 * with each system call. At most as many are in flight as the completion queue holds, so it never
 * overflows. The ring's descriptor is in the loop's epoll set. While the loop busy-polls, it checks
 * the completion queue in memory instead.
 *
 * If the kernel supports COOP_TASKRUN, it completes requests when this thread enters the kernel
 * anyway and does not interrupt it; a blocking epoll_wait() returns EINTR for that. DEFER_TASKRUN
 * would defer more, but does not wake a thread that polls the ring's descriptor.
 */
#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "block/engine/engine.h"
#include "block/trace_events.h"

#define URING_SQ_ENTRIES 256u
#define URING_CQ_ENTRIES 1024u
#define URING_REAP_MAX 128u /* per pass, so that others get their turn */

typedef struct EngineUring {
    BlockEngine base;
    struct io_uring ring;
    AioHandler *handler;
    BlockIoQueue queued; /* not yet in the ring */
    unsigned in_flight;  /* in the ring, submitted or about to be */
    bool spare;          /* the ring returns to the spare ones */
    AioBh again;         /* makes the loop take another turn */
} EngineUring;

/* ---- reaping ---- */

static RUNS_IN_IOTHREAD unsigned engine_uring_reap(EngineUring *e)
{
    assert_home(e->base.ctx);
    unsigned flags = IO_URING_READ_ONCE(*e->ring.sq.kflags);
    if (__builtin_expect((flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0, 0)) {
        io_uring_get_events(&e->ring);
    }
    struct io_uring_cqe *cqes[URING_REAP_MAX];
    unsigned count = io_uring_peek_batch_cqe(&e->ring, cqes, URING_REAP_MAX);
    for (unsigned i = 0; i < count; i++) {
        block_engine_complete(&e->base, io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
    }
    if (count > 0) {
        io_uring_cq_advance(&e->ring, count);
        e->in_flight -= count;
        trace_block_engine_reap("io_uring", count, e->in_flight);
    }
    return count;
}

static void engine_uring_readable(void *opaque)
{
    EngineUring *e = opaque;
    enter_iothread(e->base.ctx);
    engine_uring_reap(e);
}

static bool engine_uring_poll(void *opaque)
{
    EngineUring *e = opaque;
    return io_uring_cq_ready(&e->ring) != 0 ||
           (IO_URING_READ_ONCE(*e->ring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

/* ---- submitting ---- */

static RUNS_IN_IOTHREAD void engine_uring_prepare(EngineUring *e, struct io_uring_sqe *sqe,
                                                  BlockIo *io)
{
    unsigned niov;
    const struct iovec *iov = block_engine_iov(&e->base, io, &niov);
    switch (io->op) {
    case BLOCK_IO_READ:
        if (niov == 1) {
            io_uring_prep_read(sqe, io->fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
        } else {
            io_uring_prep_readv(sqe, io->fd, iov, niov, io->offset);
        }
        break;
    case BLOCK_IO_WRITE:
        if (niov == 1) {
            io_uring_prep_write(sqe, io->fd, iov->iov_base, (unsigned)iov->iov_len, io->offset);
        } else {
            io_uring_prep_writev(sqe, io->fd, iov, niov, io->offset);
        }
        sqe->rw_flags = io->dsync ? RWF_DSYNC : 0;
        break;
    case BLOCK_IO_FDSYNC:
        io_uring_prep_fsync(sqe, io->fd, IORING_FSYNC_DATASYNC);
        break;
    }
    io_uring_sqe_set_data(sqe, io);
}

/* Moves queued requests into the ring: at most one call's worth, if there is room. */
static RUNS_IN_IOTHREAD void engine_uring_fill(EngineUring *e)
{
    unsigned batch = block_engine_batch(e->in_flight);
    while (e->queued.first != NULL && e->in_flight < URING_CQ_ENTRIES &&
           io_uring_sq_ready(&e->ring) < batch) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&e->ring);
        if (sqe == NULL) {
            return;
        }
        BlockIo *io = block_io_queue_pop(&e->queued);
        engine_uring_prepare(e, sqe, io);
        e->in_flight++;
    }
}

static void engine_uring_flush(void *opaque)
{
    EngineUring *e = opaque;
    enter_iothread(e->base.ctx);
    if (engine_uring_poll(e)) {
        engine_uring_reap(e);
    }
    for (;;) {
        engine_uring_fill(e);
        if (io_uring_sq_ready(&e->ring) == 0) {
            return; /* nothing to do, or in_flight is at its limit: a completion continues */
        }
        unsigned count = io_uring_sq_ready(&e->ring);
        int ret = io_uring_submit(&e->ring);
        trace_block_engine_submit("io_uring", count, ret);
        engine_uring_reap(e); /* requests served by the page cache are done already */
        if (ret < 0) {
            /* Temporarily out of memory (EAGAIN), completions must be reaped first (EBUSY), or a
             * signal: the rest stays in the ring for the next turn. */
            if (ret != -EAGAIN && ret != -EBUSY && ret != -EINTR) {
                bug_abort("io_uring_submit: %s", g_strerror(-ret));
            }
            aio_bh_schedule(&e->again);
            return;
        }
    }
}

static RUNS_IN_IOTHREAD void engine_uring_submit(BlockEngine *base, BlockIo *io)
{
    EngineUring *e = (EngineUring *)base;
    block_io_queue_push(&e->queued, io);
}

/* ---- life cycle ---- */

static const AioHandlerOps engine_uring_handler = {
    .readable = engine_uring_readable,
    .poll = engine_uring_poll,
    .poll_ready = engine_uring_readable,
    .flush = engine_uring_flush,
};

static void engine_uring_no_op(void *opaque)
{
}

/* Restricts the ring to the operations of this file: a ring could also open files and sockets,
 * which a filter of system calls does not see. Kernels before 5.10 have no restrictions and do not
 * set R_DISABLED up. */
static int engine_uring_restrict(struct io_uring *ring)
{
    static const unsigned ops[] = {IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE,
                                   IORING_OP_WRITEV, IORING_OP_FSYNC};
    static const unsigned registers[] = {IORING_REGISTER_ENABLE_RINGS, IORING_REGISTER_RING_FDS,
                                         IORING_UNREGISTER_RING_FDS};
    struct io_uring_restriction rules[G_N_ELEMENTS(ops) + G_N_ELEMENTS(registers)] = {{0}};
    unsigned n = 0;
    for (unsigned i = 0; i < G_N_ELEMENTS(ops); i++) {
        rules[n].opcode = IORING_RESTRICTION_SQE_OP;
        rules[n++].sqe_op = (uint8_t)ops[i];
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(registers); i++) {
        rules[n].opcode = IORING_RESTRICTION_REGISTER_OP;
        rules[n++].register_op = (uint8_t)registers[i];
    }
    /* Debian's liburing declares functions for this but does not contain them. */
    int fd = ring->ring_fd;
    if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_RESTRICTIONS, rules, n) != 0 ||
        syscall(SYS_io_uring_register, fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) != 0) {
        return -errno;
    }
    return 0;
}

/* Tries the flags of the newest kernels first: 6.0, 5.19, 5.10, any. With @for_any_thread the ring
 * is not bound to its first user, and must be restrictable. */
static int engine_uring_setup(struct io_uring *ring, bool for_any_thread)
{
    static const unsigned flags[] = {
        IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN |
            IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_R_DISABLED,
        0,
    };
    unsigned first = for_any_thread ? 1 : 0;
    unsigned end = for_any_thread ? G_N_ELEMENTS(flags) - 1 : G_N_ELEMENTS(flags);
    int ret = -EINVAL;
    for (unsigned i = first; i < end && ret == -EINVAL; i++) {
        struct io_uring_params params = {
            .flags = flags[i] | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
            .cq_entries = URING_CQ_ENTRIES,
        };
        ret = io_uring_queue_init_params(URING_SQ_ENTRIES, ring, &params);
        if (ret == 0 && (flags[i] & IORING_SETUP_R_DISABLED) != 0) {
            ret = engine_uring_restrict(ring);
            if (ret != 0) {
                io_uring_queue_exit(ring);
            }
        }
    }
    return ret;
}

/* ---- spare rings: for contexts created when no new ring is allowed ---- */

static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static struct io_uring spare_rings[BLOCK_SPARE_RINGS_MAX];
static unsigned spare_count, spare_made;

void block_engine_make_spare_rings(unsigned count)
{
    pthread_mutex_lock(&spare_lock);
    while (spare_made < MIN(count, BLOCK_SPARE_RINGS_MAX) &&
           engine_uring_setup(&spare_rings[spare_count], true) == 0) {
        spare_count++;
        spare_made++;
    }
    pthread_mutex_unlock(&spare_lock);
}

/* Returns 0, -EBUSY if all are in use, -EPERM if none were made. */
static int engine_uring_take_spare(struct io_uring *ring)
{
    pthread_mutex_lock(&spare_lock);
    int ret = spare_count > 0 ? 0 : spare_made > 0 ? -EBUSY : -EPERM;
    if (ret == 0) {
        *ring = spare_rings[--spare_count];
    }
    pthread_mutex_unlock(&spare_lock);
    return ret;
}

/* Nothing is in flight in the ring or registered with it. */
static void engine_uring_give_spare(const struct io_uring *ring)
{
    pthread_mutex_lock(&spare_lock);
    spare_rings[spare_count++] = *ring;
    pthread_mutex_unlock(&spare_lock);
}

static const char *engine_uring_hint(int err)
{
    switch (err) {
    case ENOSYS:
        return "this kernel has no io_uring; use aio=threads";
    case EPERM:
    case EACCES:
        return "the host forbids io_uring (sysctl kernel.io_uring_disabled, or a sandbox); use "
               "aio=threads";
    case EBUSY:
        return "all rings reserved for iothreads created in the sandbox are in use; use "
               "aio=threads";
    case ENOMEM:
        return "not enough lockable memory (ulimit -l); use aio=threads";
    default:
        return "use aio=threads";
    }
}

static RUNS_IN_IOTHREAD BlockEngine *engine_uring_create(AioContext *ctx, GError **error)
{
    EngineUring *e = g_new0(EngineUring, 1);
    int ret = engine_uring_setup(&e->ring, false);
    if (ret == -EPERM) {
        ret = engine_uring_take_spare(&e->ring);
        e->spare = ret == 0;
    }
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_UNSUPPORTED, "aio=io_uring: %s: %s",
                    g_strerror(-ret), engine_uring_hint(-ret));
        g_free(e);
        return NULL;
    }
    io_uring_register_ring_fd(&e->ring); /* saves a look-up per call; optional */
    block_io_queue_init(&e->queued);
    aio_bh_init(&e->again, ctx, engine_uring_no_op, NULL);
    e->handler = aio_handler_add(ctx, e->ring.ring_fd, &engine_uring_handler, e);
    return &e->base;
}

static RUNS_IN_IOTHREAD void engine_uring_destroy(BlockEngine *base)
{
    EngineUring *e = (EngineUring *)base;
    if (e->in_flight != 0 || e->queued.first != NULL) {
        bug_abort("engine io_uring ends with %u requests in flight", e->in_flight);
    }
    aio_bh_cancel(&e->again);
    aio_handler_remove(e->handler);
    if (e->spare) {
        io_uring_unregister_ring_fd(&e->ring);
        engine_uring_give_spare(&e->ring);
    } else {
        io_uring_queue_exit(&e->ring);
    }
    g_free(e);
}

const BlockEngineOps block_engine_io_uring = {
    .kind = BLOCK_ENGINE_IO_URING,
    .create = engine_uring_create,
    .destroy = engine_uring_destroy,
    .submit = engine_uring_submit,
};
