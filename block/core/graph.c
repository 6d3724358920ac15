/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of users: adding, deleting, moving to another iothread, resizing. */
#include <errno.h>
#include <string.h>
#include "block/core/node_int.h"

/* ---- users of a node ---- */

static RUNS_IN_MAIN BlockBackend *graph_find_backend(const BlockNode *n)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (blk_root(list[i]) == n) {
            return list[i];
        }
    }
    return NULL;
}

/* Describes the user of @n, or returns NULL if there is none. To be freed. */
static RUNS_IN_MAIN char *graph_describe_user(const BlockNode *n)
{
    const BlockBackend *blk = graph_find_backend(n);
    const BlockNode *parent = node_find_parent(n);
    if (blk != NULL) {
        return g_strdup_printf("device '%s' uses it", blk_name(blk));
    }
    if (parent != NULL) {
        return g_strdup_printf("it is part of node '%s'", parent->name);
    }
    if (n->moving) {
        return g_strdup("it is moving to another iothread");
    }
    return n->refs > 1 ? g_strdup("an operation uses it") : NULL;
}

/* ---- users' nodes ---- */

BlockNode *block_co_add(const OptDict *opts, AioContext *home, GError **error)
{
    BlockNode *n = block_co_open(opts, home, error);
    if (n != NULL) {
        n->owned = true;
    }
    return n;
}

bool block_co_delete(const char *node_name, GError **error)
{
    BlockNode *n = block_node_find(node_name);
    if (n == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Failed to find node with node-name='%s'", node_name);
        return false;
    }
    g_autofree char *user = graph_describe_user(n);
    if (user != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "Node %s is in use: %s", node_name,
                    user);
        return false;
    }
    if (!n->owned) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Node %s is not owned by the monitor: it was created by -drive", node_name);
        return false;
    }
    n->owned = false;
    block_co_unref(n);
    return true;
}

/* ---- moving ---- */

/* Checks that @n has no user, and the nodes below it none outside the chain. */
static RUNS_IN_MAIN bool graph_check_idle(const BlockNode *n, AioContext *home, GError **error)
{
    for (const BlockNode *at = n; at != NULL; at = at->file) {
        bool shared = at == n ? at->refs > 1 || node_find_parent(at) != NULL
                              : at->refs > (at->owned ? 2u : 1u);
        if (shared || graph_find_backend(at) != NULL) {
            g_autofree char *user = graph_describe_user(at);
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' lives in '%s' and cannot move to '%s': %s", at->name,
                        aio_context_name(at->home), aio_context_name(home),
                        user != NULL ? user : "it is in use");
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN void graph_co_finish_move(BlockNode *n, bool committed)
{
    for (; n != NULL; n = n->file) {
        if (n->drv->co_move_finish != NULL) {
            n->drv->co_move_finish(n, n->move_state, committed);
        }
    }
}

/* Prepares the leaf first. On failure nothing is prepared. */
static coroutine_fn RUNS_IN_MAIN bool graph_co_prepare_move(BlockNode *n, AioContext *home,
                                                            GError **error)
{
    if (n->file != NULL && !graph_co_prepare_move(n->file, home, error)) {
        return false;
    }
    n->move_state = NULL;
    if (n->drv->co_move_prepare == NULL ||
        n->drv->co_move_prepare(n, home, &n->move_state, error)) {
        return true;
    }
    if (n->file != NULL) {
        graph_co_finish_move(n->file, false);
    }
    return false;
}

/* Moves all nodes of the chain or none. */
static coroutine_fn RUNS_IN_MAIN bool graph_co_move(BlockNode *n, AioContext *home, GError **error)
{
    if (!graph_co_prepare_move(n, home, error)) {
        return false;
    }
    block_nodes_co_quiesce(n, true);
    for (BlockNode *at = n; at != NULL; at = at->file) {
        at->home = home;
    }
    graph_co_finish_move(n, true);
    block_nodes_co_release(n);
    return true;
}

static void graph_set_moving(BlockNode *n, bool moving)
{
    for (; n != NULL; n = n->file) {
        n->moving = moving;
    }
}

/* Adding and deleting nodes takes no operation lock; they see the chain marked as moving. */
bool block_co_move(BlockNode *n, AioContext *home, GError **error)
{
    if (n->home == home) {
        return true;
    }
    if (!graph_check_idle(n, home, error)) {
        return false;
    }
    graph_set_moving(n, true);
    bool ok = graph_co_move(n, home, error);
    graph_set_moving(n, false);
    return ok;
}

/* ---- resizing ---- */

static RUNS_IN_MAIN BlockBackend *graph_find_writer(const BlockNode *n)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (blk_root(list[i]) == n && !blk_read_only(list[i])) {
            return list[i];
        }
    }
    return NULL;
}

int block_node_co_resize(BlockNode *n, uint64_t size, GError **error)
{
    BlockBackend *blk = graph_find_writer(n);
    if (blk != NULL) {
        return blk_co_truncate(blk, size, error);
    }
    if (block_node_read_only(n)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Block node is read-only");
        return -EACCES;
    }
    g_autofree char *name = g_strdup_printf("#resize of %s", n->name);
    blk = blk_co_new(name, n, true, error); /* refused if a node above writes to it */
    if (blk == NULL) {
        return -EBUSY;
    }
    int ret = blk_co_truncate(blk, size, error);
    blk_co_free(blk);
    return ret;
}
