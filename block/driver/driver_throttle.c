/* SPDX-License-Identifier: Apache-2.0 */
/*
 * throttle: a filter whose requests wait for the limits of a throttle group.
 *
 * Its requests are in flight while they wait, because they have passed the border. So the waits end
 * when a drained section begins, or a device above stops: the requests start, are charged, and those
 * that follow pay for them.
 */
#include "block/drivers.h"
#include "block/throttle.h"

typedef struct ThrottleOptions {
    char *group;
} ThrottleOptions;

typedef struct ThrottleNode {
    ThrottleOptions options;
    ThrottleGroup *group; /* owned reference */
    ThrottleMember member;
} ThrottleNode;

static const OptSpec throttle_options[] = {
    OPT_SPEC(ThrottleNode, "throttle-group", OPT_STRING, options.group,
             .help = "name of the group: an -object throttle-group"),
    {0},
};

/* Borrowed. */
static RUNS_IN_MAIN ThrottleGroup *throttle_find_group(const char *name, GError **error)
{
    if (name == NULL) {
        g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                            "Parameter 'throttle-group' is missing");
        return NULL;
    }
    ThrottleGroup *g = throttle_group_find(name);
    if (g == NULL) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Throttle group '%s' does not exist",
                    excerpt);
    }
    return g;
}

static coroutine_fn RUNS_IN_MAIN bool throttle_co_open(BlockNode *n, GError **error)
{
    ThrottleNode *t = n->state;
    t->group = throttle_find_group(t->options.group, error);
    if (t->group == NULL) {
        return false;
    }
    throttle_group_ref(t->group);
    block_filter_child_changed(n);
    throttle_member_init(&t->member, n->home);
    throttle_member_join(&t->member, t->group);
    return true;
}

static coroutine_fn RUNS_IN_MAIN void throttle_co_close(BlockNode *n)
{
    ThrottleNode *t = n->state;
    throttle_member_leave(&t->member);
    throttle_group_unref(t->group);
}

static void throttle_lift(BlockNode *n, bool on)
{
    enter_iothread(n->home);
    ThrottleNode *t = n->state;
    throttle_member_lift(&t->member, on);
}

/* ---- requests ---- */

static coroutine_fn RUNS_IN_IOTHREAD void throttle_co_wait(BlockNode *n, bool is_write,
                                                           uint64_t bytes)
{
    ThrottleNode *t = n->state;
    throttle_member_co_wait(&t->member, is_write, bytes); /* nothing returns its requests */
}

static coroutine_fn RUNS_IN_IOTHREAD int throttle_co_preadv(BlockNode *n, uint64_t offset,
                                                            uint64_t bytes, const struct iovec *iov,
                                                            unsigned niov)
{
    throttle_co_wait(n, false, bytes);
    return block_node_co_preadv(n->file, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int throttle_co_pwritev(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes,
                                                             const struct iovec *iov, unsigned niov,
                                                             unsigned flags)
{
    throttle_co_wait(n, true, bytes);
    return block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int throttle_co_discard(BlockNode *n, uint64_t offset,
                                                             uint64_t bytes)
{
    throttle_co_wait(n, true, bytes);
    return block_node_co_discard(n->file, offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int throttle_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                                  uint64_t bytes, unsigned flags)
{
    throttle_co_wait(n, true, bytes);
    return block_node_co_write_zeroes(n->file, offset, bytes, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int throttle_co_truncate(BlockNode *n, uint64_t size)
{
    return block_node_co_truncate(n->file, size);
}

/* ---- reopening and moving: the node is drained, so the member is lifted ---- */

static coroutine_fn RUNS_IN_MAIN bool throttle_co_reopen_prepare(BlockNode *n, BlockReopen *r,
                                                                 GError **error)
{
    ThrottleNode *asked = r->state;
    asked->group = throttle_find_group(asked->options.group, error);
    if (asked->group == NULL) {
        return false;
    }
    throttle_group_ref(asked->group);
    return true;
}

static RUNS_IN_MAIN void throttle_reopen_commit(BlockNode *n, BlockReopen *r)
{
    ThrottleNode *t = n->state, *asked = r->state;
    ThrottleGroup *old = t->group;
    g_autofree char *old_name = g_steal_pointer(&t->options.group);
    throttle_member_leave(&t->member);
    throttle_member_join(&t->member, asked->group);
    t->group = asked->group;
    t->options.group = g_steal_pointer(&asked->options.group);
    asked->group = old;
    asked->options.group = g_steal_pointer(&old_name);
}

static coroutine_fn RUNS_IN_MAIN void throttle_co_reopen_clean(BlockNode *n, BlockReopen *r,
                                                               bool committed)
{
    ThrottleNode *unused = r->state;
    throttle_group_unref(unused->group);
}

static coroutine_fn RUNS_IN_MAIN bool throttle_co_move_prepare(BlockNode *n, AioContext *home,
                                                               void **state, GError **error)
{
    return true;
}

static coroutine_fn RUNS_IN_MAIN void throttle_co_move_finish(BlockNode *n, void *state,
                                                              bool committed)
{
    ThrottleNode *t = n->state;
    if (committed) {
        throttle_member_move(&t->member, n->home);
    }
}

const BlockDriver block_driver_throttle = {
    .name = "throttle",
    .help = "filter whose requests wait for the limits of a throttle group",
    .state_size = sizeof(ThrottleNode),
    .options = throttle_options,
    .has_file = true,
    .is_filter = true,
    .shows_file = true,
    .co_open = throttle_co_open,
    .co_close = throttle_co_close,
    .lift = throttle_lift,
    .co_reopen_prepare = throttle_co_reopen_prepare,
    .reopen_commit = throttle_reopen_commit,
    .co_reopen_clean = throttle_co_reopen_clean,
    .child_changed = block_filter_child_changed,
    .co_move_prepare = throttle_co_move_prepare,
    .co_move_finish = throttle_co_move_finish,
    .co_preadv = throttle_co_preadv,
    .co_pwritev = throttle_co_pwritev,
    .co_discard = throttle_co_discard,
    .co_write_zeroes = throttle_co_write_zeroes,
    .co_block_status = block_filter_co_block_status,
    .co_truncate = throttle_co_truncate,
};
