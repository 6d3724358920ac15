/* SPDX-License-Identifier: Apache-2.0 */
/* raw: a range of its child, by default the whole child. */
#include <errno.h>
#include "block/drivers.h"
#include "block/lane.h"

typedef struct RawState {
    uint64_t offset;
    uint64_t size; /* 0: to the end of the child */
} RawState;

static const OptSpec raw_options[] = {
    OPT_SPEC(RawState, "offset", OPT_SIZE, offset, .help = "first byte of the range", .def = "0"),
    OPT_SPEC(RawState, "size", OPT_SIZE, size, .help = "length of the range; 0: to the end",
             .def = "0"),
    {0},
};

static void raw_take_limits(BlockNode *n)
{
    const RawState *s = n->state;
    n->limits = n->file->limits;
    n->caps = n->file->caps;
    n->caps.grows = n->caps.grows && s->size == 0; /* a range with a given size cannot grow */
    if (!block_is_aligned(s->offset | block_node_size(n), n->limits.request_alignment)) {
        n->limits.request_alignment = 1; /* the child aligns its requests */
        n->limits.memory_alignment = 1;
    }
    if (!block_is_aligned(s->offset, n->limits.zero_alignment)) {
        n->limits.zero_alignment = n->limits.request_alignment;
    }
}

static bool raw_check_child(const BlockNode *n, const char *name, const BlockNode *child,
                            GError **error)
{
    const RawState *s = n->state;
    uint64_t child_size = block_node_size(child);
    if (s->offset > child_size || s->size > child_size - s->offset) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=raw: offset %" G_GUINT64_FORMAT " and size %" G_GUINT64_FORMAT
                    " go beyond the %" G_GUINT64_FORMAT " bytes of node '%s'",
                    s->offset, s->size, child_size, child->name);
        return false;
    }
    return true;
}

static RUNS_IN_MAIN void raw_child_changed(BlockNode *n)
{
    const RawState *s = n->state;
    if (s->size == 0) {
        block_node_follow_size(n, block_node_size(n->file) - s->offset);
    }
    raw_take_limits(n);
}

static coroutine_fn RUNS_IN_MAIN bool raw_co_open(BlockNode *n, GError **error)
{
    const RawState *s = n->state;
    if (!block_is_aligned(s->offset | s->size, BLOCK_SECTOR_SIZE)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=raw: offset and size must be multiples of %u", BLOCK_SECTOR_SIZE);
        return false;
    }
    if (!raw_check_child(n, "file", n->file, error)) {
        return false;
    }
    atomic_store(&n->size, s->size != 0 ? s->size : block_node_size(n->file) - s->offset);
    raw_take_limits(n);
    return true;
}

static coroutine_fn RUNS_IN_IOTHREAD int
raw_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
    const RawState *s = n->state;
    return block_node_co_preadv(n->file, s->offset + offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int raw_co_pwritev(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov, unsigned flags)
{
    const RawState *s = n->state;
    return block_node_co_pwritev(n->file, s->offset + offset, bytes, iov, niov, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int raw_co_discard(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes)
{
    const RawState *s = n->state;
    return block_node_co_discard(n->file, s->offset + offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int raw_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, unsigned flags)
{
    const RawState *s = n->state;
    return block_node_co_write_zeroes(n->file, s->offset + offset, bytes, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int raw_co_block_status(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, bool precise,
                                                             BlockStatus *status)
{
    const RawState *s = n->state;
    *status = (BlockStatus){.bytes = bytes,
                            .flags = BLOCK_STATUS_RAW | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n->file,
                            .map_offset = s->offset + offset};
    return 0;
}

static coroutine_fn RUNS_IN_IOTHREAD int raw_co_truncate(BlockNode *n, uint64_t size)
{
    const RawState *s = n->state;
    if (s->size != 0) {
        return -ENOTSUP;
    }
    return block_node_co_truncate(n->file, s->offset + size);
}

static RUNS_IN_IOTHREAD BlockNode *raw_lane_pass(const BlockNode *n, BlockLanePlan *plan)
{
    const RawState *s = n->state;
    plan->offset += s->offset;
    return n->file;
}

static const BlockLaneDriver raw_lane = {.pass = raw_lane_pass};

const BlockDriver block_driver_raw = {
    .name = "raw",
    .help = "the bytes of its file, or a range of them",
    .state_size = sizeof(RawState),
    .options = raw_options,
    .has_file = true,
    .shows_file = true,
    .co_open = raw_co_open,
    .child_changed = raw_child_changed,
    .check_child = raw_check_child,
    .co_preadv = raw_co_preadv,
    .co_pwritev = raw_co_pwritev,
    .co_discard = raw_co_discard,
    .co_write_zeroes = raw_co_write_zeroes,
    .co_block_status = raw_co_block_status,
    .co_truncate = raw_co_truncate,
    .lane = &raw_lane,
};
