/* SPDX-License-Identifier: Apache-2.0 */
/* copy-on-read: a filter whose reads copy to its child what the child finds below itself. */
#include <errno.h>
#include "block/drivers.h"

typedef struct CorState {
    BlockNode *tracked; /* the file that tracks its changes for this node; borrowed */
} CorState;

static const OptSpec cor_options[] = {{0}};

static RUNS_IN_MAIN void cor_child_changed(BlockNode *n)
{
    CorState *s = n->state;
    block_filter_child_changed(n);
    if (s->tracked != n->file) {
        block_node_move_copying(s->tracked, n->file);
        s->tracked = n->file;
    }
}

static coroutine_fn RUNS_IN_MAIN bool cor_co_open(BlockNode *n, GError **error)
{
    if (n->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Block node is read-only");
        return false;
    }
    if (!block_node_co_prepare_copying(n->file, error)) {
        return false;
    }
    ((CorState *)n->state)->tracked = n->file;
    block_filter_child_changed(n);
    return true;
}

static coroutine_fn RUNS_IN_MAIN void cor_co_close(BlockNode *n)
{
    block_node_co_end_copying(((const CorState *)n->state)->tracked);
}

static coroutine_fn RUNS_IN_IOTHREAD int
cor_co_preadv(BlockNode *n, uint64_t offset, uint64_t bytes, const struct iovec *iov, unsigned niov)
{
    return block_node_co_preadv_copying(n->file, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int cor_co_pwritev(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov, unsigned flags)
{
    return block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int cor_co_discard(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes)
{
    return block_node_co_discard(n->file, offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int cor_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes, unsigned flags)
{
    return block_node_co_write_zeroes(n->file, offset, bytes, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int cor_co_truncate(BlockNode *n, uint64_t size)
{
    return block_node_co_truncate(n->file, size);
}

static coroutine_fn RUNS_IN_MAIN bool cor_co_reopen_prepare(BlockNode *n, BlockReopen *r,
                                                            GError **error)
{
    if (r->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't set node '%s' to r/o with copy-on-read enabled", n->name);
        return false;
    }
    return true;
}

const BlockDriver block_driver_copy_on_read = {
    .name = "copy-on-read",
    .help = "filter that copies to its file what it reads from the file's backing node",
    .state_size = sizeof(CorState),
    .options = cor_options,
    .has_file = true,
    .is_filter = true,
    .shows_file = true,
    .co_open = cor_co_open,
    .co_close = cor_co_close,
    .co_reopen_prepare = cor_co_reopen_prepare,
    .child_changed = cor_child_changed,
    .co_preadv = cor_co_preadv,
    .co_pwritev = cor_co_pwritev,
    .co_discard = cor_co_discard,
    .co_write_zeroes = cor_co_write_zeroes,
    .co_block_status = block_filter_co_block_status,
    .co_truncate = cor_co_truncate,
};
