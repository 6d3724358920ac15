/* SPDX-License-Identifier: Apache-2.0 */
/* null-co, null-aio: accept all requests and store nothing; for measuring the layers above. null-co
 * completes at once, null-aio in a later turn of the loop. */
#include "block/drivers.h"
#include "block/lane.h"

typedef struct NullState {
    uint64_t size;
    uint64_t latency_ns;
    bool read_zeroes;
} NullState;

static const OptSpec null_options[] = {
    OPT_SPEC(NullState, "size", OPT_SIZE, size, .help = "size of the device", .def = "1G",
             .max = BLOCK_SIZE_MAX),
    OPT_SPEC(NullState, "latency-ns", OPT_U64, latency_ns, .help = "delay of each completion",
             .def = "0", .max = 3600 * UINT64_C(1000000000)),
    OPT_SPEC(NullState, "read-zeroes", OPT_BOOL, read_zeroes,
             .help = "off: reads leave the buffers as they are", .def = "on"),
    {0},
};

static coroutine_fn RUNS_IN_MAIN bool null_co_open(BlockNode *n, GError **error)
{
    const NullState *s = n->state;
    if (!block_is_aligned(s->size, BLOCK_SECTOR_SIZE)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=%s: size must be a multiple of %u", n->drv->name, BLOCK_SECTOR_SIZE);
        return false;
    }
    atomic_store(&n->size, s->size);
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_wait(const BlockNode *n)
{
    const NullState *s = n->state;
    if (s->latency_ns != 0) {
        co_sleep_ns((int64_t)s->latency_ns);
    } else if (n->drv == &block_driver_null_aio) {
        co_yield_turn();
    }
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_preadv(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov)
{
    const NullState *s = n->state;
    if (s->read_zeroes) {
        iov_memset(iov, niov, 0, 0, bytes);
    }
    return null_co_wait(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_pwritev(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    return null_co_wait(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_flush(BlockNode *n)
{
    return null_co_wait(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_discard(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes)
{
    return null_co_wait(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                              uint64_t bytes, unsigned flags)
{
    return null_co_wait(n);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_co_block_status(BlockNode *n, uint64_t offset,
                                                              uint64_t bytes, bool precise,
                                                              BlockStatus *status)
{
    const NullState *s = n->state;
    unsigned kind = s->read_zeroes ? BLOCK_STATUS_ZERO : BLOCK_STATUS_DATA;
    *status = (BlockStatus){.bytes = bytes,
                            .flags = kind | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n,
                            .map_offset = offset};
    return null_co_wait(n);
}

static RUNS_IN_MAIN int64_t null_allocated_size(const BlockNode *n)
{
    return 0;
}

/* ---- lanes ---- */

static RUNS_IN_IOTHREAD BlockNode *null_lane_pass(const BlockNode *n, BlockLanePlan *plan)
{
    return NULL;
}

static RUNS_IN_IOTHREAD bool null_lane_enter(const BlockNode *leaf, AioContext *ctx, void **state)
{
    return true;
}

static void null_lane_leave(void *state)
{
}

static coroutine_fn RUNS_IN_IOTHREAD int null_lane_co_preadv(BlockNode *leaf, void *state,
                                                             uint64_t offset, uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov)
{
    return null_co_preadv(leaf, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int null_lane_co_pwritev(BlockNode *leaf, void *state,
                                                              uint64_t offset, uint64_t bytes,
                                                              const struct iovec *iov,
                                                              unsigned niov)
{
    return null_co_pwritev(leaf, offset, bytes, iov, niov, 0);
}

static const BlockLaneDriver null_lane = {
    .pass = null_lane_pass,
    .enter = null_lane_enter,
    .leave = null_lane_leave,
    .co_preadv = null_lane_co_preadv,
    .co_pwritev = null_lane_co_pwritev,
};

#define NULL_DRIVER(driver_name, driver_help)                                                      \
    {                                                                                              \
        .name = (driver_name), .help = (driver_help), .state_size = sizeof(NullState),             \
        .options = null_options, .caps = {.fua = true}, .co_open = null_co_open,                   \
        .co_preadv = null_co_preadv, .co_pwritev = null_co_pwritev, .co_flush = null_co_flush,     \
        .co_discard = null_co_discard, .co_write_zeroes = null_co_write_zeroes,                    \
        .co_block_status = null_co_block_status, .allocated_size = null_allocated_size,            \
        .lane = &null_lane,                                                                        \
    }

const BlockDriver block_driver_null_co =
    NULL_DRIVER("null-co", "stores nothing, completes at once");
const BlockDriver block_driver_null_aio =
    NULL_DRIVER("null-aio", "stores nothing, completes later");
