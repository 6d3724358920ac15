/* SPDX-License-Identifier: Apache-2.0 */
#include "block/driver/fault.h"

#include <assert.h>
#include <errno.h>
#include "block/drivers.h"
#include "block/trace_events.h"
#include "util/iov.h"

/* A write that has completed towards the parent and is not carried out yet. */
typedef struct FaultLateWrite {
    BlockNode *node;
    uint64_t offset, bytes;
    uint8_t *data;
    struct FaultLateWrite *next, **link;
} FaultLateWrite;

typedef struct FaultState {
    /* config; fault is also set by tests */
    BlockFault fault;
    uint64_t align;
    bool write_cache;
    /* runtime */
    uint64_t seen;         /* requests that matched */
    _Atomic unsigned hits; /* requests that were hit */
    _Atomic unsigned held;
    CoQueue holding;
    FaultLateWrite *late;
    CoQueue late_waiters; /* woken when a late write ends */
    int late_error;       /* first error of a late write; every later flush fails with it */
} FaultState;

static const char *const fault_op_names[] = {
    "none", "read", "write", "flush", "discard", "write-zeroes", "block-status", "any", NULL};

static const OptSpec fault_options[] = {
    OPT_SPEC(FaultState, "fail-op", OPT_ENUM, fault.op, .help = "which requests are hit",
             .def = "none", .names = fault_op_names),
    OPT_SPEC(FaultState, "fail-offset", OPT_SIZE, fault.offset,
             .help = "only those that touch this range", .def = "0"),
    OPT_SPEC(FaultState, "fail-length", OPT_SIZE, fault.length,
             .help = "length of that range; 0: anywhere", .def = "0"),
    OPT_SPEC(FaultState, "fail-after", OPT_U64, fault.after,
             .help = "this many requests pass first", .def = "0"),
    OPT_SPEC(FaultState, "fail-count", OPT_U64, fault.count,
             .help = "then this many are hit; 0: all", .def = "0"),
    OPT_SPEC(FaultState, "delay-ns", OPT_U64, fault.delay_ns, .help = "delay of a hit request",
             .def = "0", .max = 3600 * UINT64_C(1000000000)),
    OPT_SPEC(FaultState, "hold", OPT_BOOL, fault.hold, .help = "then wait to be released",
             .def = "off"),
    OPT_SPEC(FaultState, "errno", OPT_U32, fault.error,
             .help = "then fail with this error; 0: succeed", .def = "5", .max = 4095),
    OPT_SPEC(FaultState, "align", OPT_SIZE, align, .help = "required alignment; 0: the file's",
             .def = "0", .max = BLOCK_ALIGNMENT_MAX),
    OPT_SPEC(FaultState, "write-cache", OPT_BOOL, write_cache,
             .help = "writes complete before they are carried out; a flush waits for them",
             .def = "off"),
    {0},
};

static RUNS_IN_MAIN void fault_child_changed(BlockNode *n)
{
    const FaultState *s = n->state;
    block_filter_child_changed(n);
    n->limits.request_alignment = MAX(n->limits.request_alignment, (uint32_t)s->align);
}

static coroutine_fn RUNS_IN_MAIN bool fault_co_open(BlockNode *n, GError **error)
{
    FaultState *s = n->state;
    n->limits = n->file->limits;
    n->caps = n->file->caps;
    if ((s->align & (s->align - 1)) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=fault: align=%" G_GUINT64_FORMAT ": not a power "
                    "of two",
                    s->align);
        return false;
    }
    if (!block_is_aligned(block_node_size(n->file), MAX(s->align, 1))) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=fault: align=%" G_GUINT64_FORMAT
                    ": the size of node '%s' is not a multiple of it",
                    s->align, n->file->name);
        return false;
    }
    n->limits.request_alignment = MAX(n->limits.request_alignment, (uint32_t)s->align);
    co_queue_init(&s->holding);
    co_queue_init(&s->late_waiters);
    atomic_store(&n->size, block_node_size(n->file));
    return true;
}

static coroutine_fn RUNS_IN_MAIN void fault_co_close(BlockNode *n)
{
    FaultState *s = n->state;
    assert(co_queue_empty(&s->holding) && s->late == NULL);
}

static bool fault_matches(const BlockFault *f, BlockFaultOp op, uint64_t offset, uint64_t bytes)
{
    if (f->op != (int)op && f->op != BLOCK_FAULT_ANY) {
        return false;
    }
    /* Avoids sums, which could overflow with the user's numbers. */
    bool before = offset < f->offset && f->offset - offset >= bytes;
    bool behind = offset >= f->offset && offset - f->offset >= f->length;
    return f->length == 0 || (!before && !behind);
}

/* 0: the request is carried out. */
static coroutine_fn RUNS_IN_IOTHREAD int fault_co_apply(BlockNode *n, BlockFaultOp op,
                                                        uint64_t offset, uint64_t bytes)
{
    FaultState *s = n->state;
    BlockFault f = s->fault; /* a test may replace the fault during the wait */
    if (!fault_matches(&f, op, offset, bytes)) {
        return 0;
    }
    uint64_t number = s->seen++;
    if (number < f.after || (f.count != 0 && number - f.after >= f.count)) {
        return 0;
    }
    atomic_fetch_add(&s->hits, 1);
    trace_block_fault_inject(n->name, fault_op_names[op], offset, -(int)f.error);
    if (f.delay_ns != 0) {
        co_sleep_ns((int64_t)f.delay_ns);
    }
    if (f.hold) {
        atomic_fetch_add(&s->held, 1);
        co_queue_wait(&s->holding, "the release of a held request");
    }
    return -(int)f.error;
}

/* ---- a volatile write cache ---- */

/* Waits until no late write touches the range; with 0 bytes, until there is no late write at all.
 * */
static coroutine_fn RUNS_IN_IOTHREAD void fault_wait_late(FaultState *s, uint64_t offset,
                                                          uint64_t bytes)
{
    for (const FaultLateWrite *w = s->late; w != NULL;) {
        if (bytes == 0 || (offset < w->offset + w->bytes && w->offset < offset + bytes)) {
            co_queue_wait(&s->late_waiters, "a write in the volatile cache");
            w = s->late;
        } else {
            w = w->next;
        }
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_write_through(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov,
                                                             unsigned flags)
{
    int ret = fault_co_apply(n, BLOCK_FAULT_WRITE, offset, bytes);
    return ret < 0 ? ret : block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static void fault_late_run(void *opaque)
{
    FaultLateWrite *w = opaque;
    BlockNode *n = w->node;
    FaultState *s = n->state;
    enter_coroutine();
    enter_iothread(n->home);
    struct iovec iov = {w->data, w->bytes};
    int ret = fault_write_through(n, w->offset, w->bytes, &iov, 1, 0);
    if (ret < 0 && s->late_error == 0) {
        s->late_error = ret;
    }
    *w->link = w->next;
    if (w->next != NULL) {
        w->next->link = w->link;
    }
    co_queue_wake_all(&s->late_waiters);
    block_node_end(n);
    g_free(w->data);
    g_free(w);
}

/* Called within the request that the late write continues, so that the operation is counted. */
static coroutine_fn RUNS_IN_IOTHREAD void fault_write_late(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes, const struct iovec *iov,
                                                           unsigned niov)
{
    FaultState *s = n->state;
    FaultLateWrite *w = g_new0(FaultLateWrite, 1);
    *w = (FaultLateWrite){
        .node = n, .offset = offset, .bytes = bytes, .next = s->late, .link = &s->late};
    w->data = g_malloc(bytes);
    iov_copy_to_buf(iov, niov, 0, w->data, bytes);
    if (w->next != NULL) {
        w->next->link = &w->next;
    }
    s->late = w;
    block_node_begin(n);
    co_start(n->home, fault_late_run, w);
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_preadv(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov)
{
    fault_wait_late(n->state, offset, bytes);
    int ret = fault_co_apply(n, BLOCK_FAULT_READ, offset, bytes);
    return ret < 0 ? ret : block_node_co_preadv(n->file, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_pwritev(BlockNode *n, uint64_t offset,
                                                          uint64_t bytes, const struct iovec *iov,
                                                          unsigned niov, unsigned flags)
{
    FaultState *s = n->state;
    fault_wait_late(s, offset, bytes);
    if (s->write_cache && (flags & BLOCK_REQ_FUA) == 0) {
        fault_write_late(n, offset, bytes, iov, niov);
        return 0;
    }
    return fault_write_through(n, offset, bytes, iov, niov, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_flush(BlockNode *n)
{
    FaultState *s = n->state;
    fault_wait_late(s, 0, 0);
    int ret = fault_co_apply(n, BLOCK_FAULT_FLUSH, 0, 0);
    ret = s->late_error != 0 ? s->late_error : ret;
    return ret < 0 ? ret : block_node_co_flush(n->file);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_discard(BlockNode *n, uint64_t offset,
                                                          uint64_t bytes)
{
    fault_wait_late(n->state, offset, bytes);
    int ret = fault_co_apply(n, BLOCK_FAULT_DISCARD, offset, bytes);
    return ret < 0 ? ret : block_node_co_discard(n->file, offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                               uint64_t bytes, unsigned flags)
{
    fault_wait_late(n->state, offset, bytes);
    int ret = fault_co_apply(n, BLOCK_FAULT_WRITE_ZEROES, offset, bytes);
    return ret < 0 ? ret : block_node_co_write_zeroes(n->file, offset, bytes, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_block_status(BlockNode *n, uint64_t offset,
                                                               uint64_t bytes, bool precise,
                                                               BlockStatus *status)
{
    fault_wait_late(n->state, offset, bytes);
    block_filter_co_block_status(n, offset, bytes, precise, status);
    return fault_co_apply(n, BLOCK_FAULT_BLOCK_STATUS, offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int fault_co_truncate(BlockNode *n, uint64_t size)
{
    return block_node_co_truncate(n->file, size);
}

const BlockDriver block_driver_fault = {
    .name = "fault",
    .help = "filter that fails, delays or holds chosen requests",
    .state_size = sizeof(FaultState),
    .options = fault_options,
    .has_file = true,
    .co_open = fault_co_open,
    .co_close = fault_co_close,
    .child_changed = fault_child_changed,
    .co_preadv = fault_co_preadv,
    .co_pwritev = fault_co_pwritev,
    .co_flush = fault_co_flush,
    .co_discard = fault_co_discard,
    .co_write_zeroes = fault_co_write_zeroes,
    .co_block_status = fault_co_block_status,
    .co_truncate = fault_co_truncate,
};

/* ---- for tests ---- */

static FaultState *fault_state(const BlockNode *n)
{
    assert(n->drv == &block_driver_fault);
    return n->state;
}

void block_fault_set(BlockNode *n, const BlockFault *fault)
{
    assert_home(n->home);
    FaultState *s = fault_state(n);
    s->fault = *fault;
    s->seen = 0;
    atomic_store(&s->hits, 0);
}

unsigned block_fault_held(const BlockNode *n)
{
    return atomic_load(&fault_state(n)->held);
}

unsigned block_fault_hits(const BlockNode *n)
{
    return atomic_load(&fault_state(n)->hits);
}

unsigned block_fault_release(BlockNode *n, unsigned count)
{
    assert_home(n->home);
    FaultState *s = fault_state(n);
    unsigned released = 0;
    while (released < count && co_queue_wake_one(&s->holding)) {
        released++;
    }
    atomic_fetch_sub(&s->held, released);
    return released;
}
