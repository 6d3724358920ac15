/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the tests of graph changes: a filter that a test creates, and changes of one step. */
#ifndef SKIFF_TESTS_BLOCK_CORE_GRAPH_TEST_H
#define SKIFF_TESTS_BLOCK_CORE_GRAPH_TEST_H

#include "block/core/node_int.h"
#include "block/graph.h"
#include "tests/block/block_test.h"

/* ---- a filter of a job ---- */

typedef struct PassState {
    _Atomic unsigned requests;
} PassState;

static void pass_child_changed(BlockNode *n)
{
    n->limits = n->file->limits;
    n->caps = n->file->caps;
    block_node_follow_size(n, block_node_size(n->file));
}

static coroutine_fn RUNS_IN_IOTHREAD int pass_co_preadv(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov)
{
    atomic_fetch_add(&((PassState *)n->state)->requests, 1);
    return block_node_co_preadv(n->file, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int pass_co_pwritev(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    atomic_fetch_add(&((PassState *)n->state)->requests, 1);
    return block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static const BlockDriver pass_driver = {
    .name = "pass",
    .state_size = sizeof(PassState),
    .has_file = true,
    .is_filter = true,
    .shows_file = true,
    .child_changed = pass_child_changed,
    .co_preadv = pass_co_preadv,
    .co_pwritev = pass_co_pwritev,
};

static inline RUNS_IN_MAIN BlockNode *pass_new(const char *name)
{
    GError *error = NULL;
    BlockNodeCreate how = {.drv = &pass_driver, .name = name, .home = test_home};
    BlockNode *n = block_node_create(&how, &error);
    if (n == NULL) {
        fail_msg("%s", error->message);
    }
    return n;
}

static inline unsigned pass_requests(const BlockNode *n)
{
    return atomic_load(&((const PassState *)n->state)->requests);
}

/* ---- changes ---- */

static inline coroutine_fn RUNS_IN_MAIN BlockGraphChange *change_begin(BlockNode *a, BlockNode *b)
{
    GError *error = NULL;
    BlockNode *nodes[] = {a, b};
    BlockGraphChange *c = block_graph_co_begin(nodes, b != NULL ? 2 : 1, &error);
    if (c == NULL) {
        fail_msg("%s", error->message);
    }
    return c;
}

static inline coroutine_fn RUNS_IN_MAIN void change_end(BlockGraphChange *c)
{
    GError *error = NULL;
    if (!block_graph_commit(c, &error)) {
        fail_msg("%s", error->message);
    }
    block_graph_co_end(c);
}

/* The commit is refused with an error that has both texts. */
static inline coroutine_fn RUNS_IN_MAIN void change_refused(BlockGraphChange *c, const char *says,
                                                            const char *also)
{
    g_autoptr(GError) error = NULL;
    assert_false(block_graph_commit(c, &error));
    if (strstr(error->message, says) == NULL || strstr(error->message, also) == NULL) {
        fail_msg("the error '%s' does not say '%s' and '%s'", error->message, says, also);
    }
    block_graph_co_end(c);
}

/* Puts a new filter above @below. The graph has its only reference. */
static inline coroutine_fn RUNS_IN_MAIN BlockNode *filter_insert(const char *name, BlockNode *below)
{
    BlockNode *f = pass_new(name);
    BlockGraphChange *c = change_begin(f, below);
    assert_true(block_graph_insert_filter(c, f, below, NULL));
    change_end(c);
    return f;
}

/* The test's reference remains. */
static inline coroutine_fn RUNS_IN_MAIN void filter_remove(BlockNode *f)
{
    BlockGraphChange *c = change_begin(f, NULL);
    assert_true(block_graph_remove_filter(c, f, NULL));
    change_end(c);
}

static inline coroutine_fn RUNS_IN_MAIN void filter_delete(BlockNode *f)
{
    filter_remove(f);
    block_co_unref(f);
}

#endif
