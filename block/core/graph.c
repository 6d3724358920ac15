/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes of users: adding, deleting, moving to another iothread, resizing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/graph.h"
#include "util/log.h"

/* ---- users of a node ---- */

typedef enum GraphUser { GRAPH_USER_BACKEND, GRAPH_USER_NODE, GRAPH_USER_JOB } GraphUser;

static GraphUser graph_kind(const BlockEdge *e)
{
    return e->blk != NULL ? GRAPH_USER_BACKEND
                          : (e->parent != NULL ? GRAPH_USER_NODE : GRAPH_USER_JOB);
}

/* See block_name_co_new(). */
static bool graph_is_name(const BlockEdge *e)
{
    return e->parent == NULL && e->uses == 0;
}

static RUNS_IN_MAIN const BlockEdge *graph_find_user(const BlockNode *n, GraphUser kind)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (graph_kind(e) == kind && !graph_is_name(e)) {
            return e;
        }
    }
    return NULL;
}

/* Describes the user of @n, also a node that is being opened, or returns NULL if there is none. To be
 * freed. */
static RUNS_IN_MAIN char *graph_describe_user(const BlockNode *n)
{
    const BlockEdge *job = graph_find_user(n, GRAPH_USER_JOB);
    const BlockEdge *backend = graph_find_user(n, GRAPH_USER_BACKEND);
    const BlockEdge *parent = graph_find_user(n, GRAPH_USER_NODE);
    if (job != NULL) {
        return g_strdup_printf("%s uses it", job->user);
    }
    if (backend != NULL && !blk_is_drive(backend->blk)) {
        return g_strdup_printf("%s uses it", blk_name(backend->blk));
    }
    if (backend != NULL) {
        return g_strdup_printf("device '%s' uses it", blk_name(backend->blk));
    }
    if (parent != NULL) {
        return g_strdup_printf("it is part of node '%s'", parent->parent->name);
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
    if (n != NULL && n->changing != NULL) {
        block_node_co_pass_gate(n);
        n = block_node_find(node_name);
    }
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

/* Whether all users of @n are nodes of @tree. Its root has @held references that are no use. */
static RUNS_IN_MAIN bool graph_is_private(const BlockNode *n, GPtrArray *tree, unsigned held)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        bool outside = e->parent == NULL || !g_ptr_array_find(tree, e->parent, NULL);
        if (outside && !graph_is_name(e)) {
            return false;
        }
    }
    bool root = n == tree->pdata[tree->len - 1];
    unsigned own = (n->owned || (root && held == 0) ? 1u : 0) + (root ? held : 0);
    return n->refs <= n->parents->len + own;
}

/* Checks that the nodes of @tree have no user outside it. */
static RUNS_IN_MAIN bool graph_check_idle(GPtrArray *tree, AioContext *home, unsigned held,
                                          GError **error)
{
    for (unsigned i = tree->len; i-- > 0;) {
        const BlockNode *n = tree->pdata[i];
        if (!graph_is_private(n, tree, held)) {
            g_autofree char *user = graph_describe_user(n);
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' lives in '%s' and cannot move to '%s': %s", n->name,
                        aio_context_name(n->home), aio_context_name(home),
                        user != NULL ? user : "it is in use");
            return false;
        }
    }
    return true;
}

/* Finishes the first @count nodes, parents first. */
static coroutine_fn RUNS_IN_MAIN void graph_co_finish_move(GPtrArray *tree, unsigned count,
                                                           bool committed)
{
    while (count-- > 0) {
        BlockNode *n = tree->pdata[count];
        if (n->drv->co_move_finish != NULL) {
            n->drv->co_move_finish(n, n->move_state, committed);
        }
    }
}

/* Prepares children before their parents. On failure nothing is prepared. */
static coroutine_fn RUNS_IN_MAIN bool graph_co_prepare_move(GPtrArray *tree, AioContext *home,
                                                            GError **error)
{
    for (unsigned i = 0; i < tree->len; i++) {
        BlockNode *n = tree->pdata[i];
        n->move_state = NULL;
        if (n->drv->co_move_prepare != NULL &&
            !n->drv->co_move_prepare(n, home, &n->move_state, error)) {
            graph_co_finish_move(tree, i, false);
            return false;
        }
    }
    return true;
}

/* Moves all nodes of @tree, or none. */
static coroutine_fn RUNS_IN_MAIN bool graph_co_move(GPtrArray *tree, AioContext *home,
                                                    GError **error)
{
    if (!graph_co_prepare_move(tree, home, error)) {
        return false;
    }
    block_nodes_co_quiesce(tree);
    for (unsigned i = 0; i < tree->len; i++) {
        BlockNode *at = tree->pdata[i];
        at->home = home;
    }
    graph_co_finish_move(tree, tree->len, true);
    block_nodes_co_release(tree);
    return true;
}

static void graph_set_moving(GPtrArray *tree, bool moving)
{
    for (unsigned i = 0; i < tree->len; i++) {
        BlockNode *n = tree->pdata[i];
        n->moving = moving;
    }
}

/* Adding and deleting nodes takes no operation lock; they see the nodes marked as moving. */
bool block_co_move(BlockNode *n, AioContext *home, GError **error)
{
    return block_co_move_held(n, home, 0, error);
}

bool block_co_move_held(BlockNode *n, AioContext *home, unsigned held, GError **error)
{
    if (n->home == home) {
        return true;
    }
    g_autoptr(GPtrArray) tree = block_node_tree(n);
    if (!graph_check_idle(tree, home, held, error)) {
        return false;
    }
    graph_set_moving(tree, true);
    bool ok = graph_co_move(tree, home, error);
    graph_set_moving(tree, false);
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
    if (!block_node_check_no_job(n, error)) {
        return -EBUSY;
    }
    if (blk != NULL) {
        return blk_co_truncate(blk, size, error);
    }
    if (block_node_read_only(n)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Block node is read-only");
        return -EACCES;
    }
    /* Refused if a node above writes to it. */
    blk = blk_co_new_for("a resize", NULL, n, true, error);
    if (blk == NULL) {
        return -EBUSY;
    }
    int ret = blk_co_truncate(blk, size, error);
    blk_co_free(blk);
    return ret;
}

/* ---- the end of the process ---- */

typedef struct GraphComplete {
    BlockNode *node;
    int ret;
} GraphComplete;

static void graph_complete_at_home(void *opaque)
{
    GraphComplete *c = opaque;
    enter_coroutine();
    enter_iothread(c->node->home);
    c->ret = c->node->drv->co_complete(c->node);
}

int block_node_co_complete(BlockNode *n)
{
    GraphComplete c = {.node = n};
    if (n->drv->co_complete == NULL || n->flags.read_only) {
        return 0;
    }
    block_node_co_quiesce(n);
    co_call_in(n->home, graph_complete_at_home, &c);
    block_node_co_release(n);
    return c.ret;
}

static void graph_flush_at_home(void *opaque)
{
    GraphComplete *c = opaque;
    enter_coroutine();
    enter_iothread(c->node->home);
    c->ret = block_node_co_flush(c->node);
}

/* After block_hold_all(): waits for the requests of backends that can reach @n. */
static coroutine_fn RUNS_IN_MAIN void graph_co_await_requests(BlockNode *n)
{
    unsigned count, above = 0;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        g_autoptr(GPtrArray) tree = block_node_tree(blk_root(list[i]));
        if (!list[i]->retiring && g_ptr_array_find(tree, n, NULL)) {
            list[above++] = list[i];
        }
    }
    blk_co_await_held(list, above);
}

/* As block_node_co_complete(), after block_hold_all(). */
static coroutine_fn RUNS_IN_MAIN int graph_co_complete_held(BlockNode *n)
{
    bool flush = n->drv->co_complete == NULL && graph_find_writer(n) != NULL;
    GraphComplete c = {.node = n};
    if (n->flags.read_only || (n->drv->co_complete == NULL && !flush)) {
        return 0;
    }
    graph_co_await_requests(n);
    if (flush) {
        co_call_in(n->home, graph_flush_at_home, &c);
        return c.ret;
    }
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    g_ptr_array_add(nodes, n);
    GPtrArray *above = block_nodes_co_quiesce_above(nodes);
    int ret = block_node_co_complete(n);
    block_nodes_co_release_above(above);
    return ret;
}

typedef struct GraphCompletion {
    BlockNode *node;
    const struct GraphCompletions *all;
    bool done;
} GraphCompletion;

/* One for each node. */
typedef struct GraphCompletions {
    GraphCompletion *list;
    unsigned count;
    bool held; /* block_hold_all() */
    CoQueue *progress;
} GraphCompletions;

static bool graph_is_parent(const BlockNode *parent, const BlockNode *n)
{
    bool found = false;
    for (unsigned i = 0; i < parent->children->len; i++) {
        const BlockEdge *e = parent->children->pdata[i];
        found = found || e->node == n;
    }
    return found;
}

/* Whether the nodes above it, which write to it, are complete. */
static RUNS_IN_MAIN bool graph_may_complete(const GraphCompletion *c)
{
    bool may = true;
    for (unsigned i = 0; i < c->all->count; i++) {
        const GraphCompletion *other = &c->all->list[i];
        may = may && (other->done || !graph_is_parent(other->node, c->node));
    }
    return may;
}

static void graph_complete_run(void *opaque)
{
    GraphCompletion *c = opaque;
    enter_main();
    enter_coroutine();
    while (!graph_may_complete(c)) {
        co_queue_wait(c->all->progress, "the completion of the image above");
    }
    int ret = c->all->held ? graph_co_complete_held(c->node) : block_node_co_complete(c->node);
    if (ret < 0) {
        log_warn("node '%s': its image cannot be completed: %s", c->node->name, g_strerror(-ret));
    }
    c->done = true;
    co_queue_wake_all(c->all->progress);
}

static bool graph_all_done(const GraphCompletions *all)
{
    bool done = true;
    for (unsigned i = 0; i < all->count; i++) {
        done = done && all->list[i].done;
    }
    return done;
}

static coroutine_fn RUNS_IN_MAIN void graph_co_complete_all(bool held)
{
    CoQueue progress;
    GraphCompletions all = {.held = held, .progress = &progress};
    g_autofree BlockNode **nodes = block_node_list(&all.count);
    g_autofree GraphCompletion *list = g_new0(GraphCompletion, all.count);
    co_queue_init(&progress);
    all.list = list;
    for (unsigned i = 0; i < all.count; i++) {
        block_node_ref(nodes[i]);
        list[i] = (GraphCompletion){.node = nodes[i], .all = &all};
        co_start(aio_context_current(), graph_complete_run, &list[i]);
    }
    while (!graph_all_done(&all)) {
        co_queue_wait(&progress, "the completion of images");
    }
    for (unsigned i = 0; i < all.count; i++) {
        block_co_unref(nodes[i]);
    }
}

void block_co_complete_all(void)
{
    graph_co_complete_all(false);
}

void block_co_complete_all_held(void)
{
    block_hold_all();
    graph_co_complete_all(true);
}
