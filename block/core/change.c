/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graph changes: the drained section around them, commit and abort. The steps are in change_step.c.
 *
 * A change closes the gate of its nodes before it drains them: n->changing. The coroutines that
 * would give them a user wait at the gate. The nodes are a whole component of the graph: no new request
 * can come to them from elsewhere.
 *
 * The change waits only for what it needs. These are the given nodes, all nodes above them and the
 * backends there, whose edges it changes or whose limits follow; and the nodes below the given ones,
 * which can get other parents, but not those that a job writes to, and what is below them. The other
 * nodes and backends of the component begin nothing new, so that the shared nodes below become idle.
 * What is in flight in them can hang, as the requests to the target of a cancelled job do. Such a
 * request that goes on during the change can read what is shared.
 */
#include "block/core/backend_int.h"
#include "block/core/change_int.h"
#include "block/core/node_int.h"
#include "block/core/node_io.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

/* How long a change waits for the close of a node that it needs. */
#define CHANGE_CLOSING_NS INT64_C(1000000000)

/* ---- the gate, main only ---- */

static CoQueue gate_waiters;
static bool gate_ready;

static coroutine_fn RUNS_IN_MAIN void gate_co_wait(void)
{
    if (!gate_ready) {
        co_queue_init(&gate_waiters);
        gate_ready = true;
    }
    co_queue_wait(&gate_waiters, "the end of a graph change");
}

void block_graph_wake(void)
{
    if (gate_ready) {
        co_queue_wake_all(&gate_waiters);
    }
}

void block_node_co_pass_gate(const BlockNode *n)
{
    while (n->changing != NULL && n->changing->owner != co_self()) {
        gate_co_wait();
    }
}

/* ---- begin ---- */

static void change_add_connected(GPtrArray *list, BlockNode *n)
{
    if (!g_ptr_array_find(list, n, NULL)) {
        g_ptr_array_add(list, n);
    }
}

/* A node that is being opened or closed takes no part, if the change does not need it. It can go on
 * with its children as a request that the change does not wait for. */
static void change_add_parent(GPtrArray *list, const GPtrArray *above, BlockNode *n)
{
    if (n->open || g_ptr_array_find((GPtrArray *)(uintptr_t)above, n, NULL)) {
        change_add_connected(list, n);
    }
}

/* All nodes connected with @nodes. */
static RUNS_IN_MAIN GPtrArray *change_find_component(BlockNode *const *nodes, unsigned count)
{
    GPtrArray *list = g_ptr_array_new();
    g_autoptr(GPtrArray) above = block_nodes_above(nodes, count);
    for (unsigned i = 0; i < count; i++) {
        change_add_connected(list, nodes[i]);
    }
    for (unsigned i = 0; i < list->len; i++) {
        const BlockNode *n = list->pdata[i];
        for (unsigned j = 0; j < n->children->len; j++) {
            const BlockEdge *e = n->children->pdata[j];
            change_add_connected(list, e->node);
        }
        for (unsigned j = 0; j < n->parents->len; j++) {
            const BlockEdge *e = n->parents->pdata[j];
            if (e->parent != NULL) {
                change_add_parent(list, above, e->parent);
            }
        }
    }
    return list;
}

typedef enum ChangeReady {
    CHANGE_READY,
    CHANGE_WAIT,    /* for the end of another change */
    CHANGE_CLOSING, /* a node is being closed */
    CHANGE_REFUSED,
} ChangeReady;

/* A node that is being opened can send requests to its children; one that is being closed, too, but
 * its end is near, unless its storage hangs. */
static RUNS_IN_MAIN ChangeReady change_is_ready(const GPtrArray *nodes, GError **error)
{
    ChangeReady ready = CHANGE_READY;
    for (unsigned i = 0; i < nodes->len; i++) {
        const BlockNode *n = nodes->pdata[i];
        if (!n->open && n->refs > 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' is being opened; the nodes that it uses cannot change now",
                        n->name);
            return CHANGE_REFUSED;
        }
        if (n->changing != NULL && n->changing->owner == co_self()) {
            bug_abort("node '%s': a graph change begins within another one", n->name);
        }
        if (n->changing != NULL) {
            ready = CHANGE_WAIT;
        } else if (!n->open && ready == CHANGE_READY) {
            ready = CHANGE_CLOSING;
        }
    }
    return ready;
}

static void change_claim_late(void *opaque)
{
    enter_main();
    block_graph_wake();
}

/* Returns a component in which nothing that the change needs is opened or closed. NULL + @error. */
static coroutine_fn RUNS_IN_MAIN GPtrArray *change_co_claim(BlockNode *const *nodes, unsigned count,
                                                            int64_t patience_ns, GError **error)
{
    AioTimer timer;
    AioContext *ctx = aio_context_current();
    int64_t deadline_ns = aio_now_ns(ctx) + MIN(patience_ns, CHANGE_CLOSING_NS);
    GPtrArray *list = change_find_component(nodes, count);
    ChangeReady ready;
    aio_timer_init(&timer, ctx, change_claim_late, NULL);
    while ((ready = change_is_ready(list, error)) != CHANGE_READY) {
        g_ptr_array_unref(list);
        list = NULL;
        if (ready == CHANGE_CLOSING && aio_now_ns(ctx) >= deadline_ns) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "a node that uses '%s' is being closed, which takes long", nodes[0]->name);
            ready = CHANGE_REFUSED;
        }
        if (ready == CHANGE_REFUSED) {
            break;
        }
        if (ready == CHANGE_CLOSING) {
            aio_timer_arm(&timer, deadline_ns);
        }
        gate_co_wait();
        list = change_find_component(nodes, count);
    }
    aio_timer_disarm(&timer);
    return list;
}

static RUNS_IN_MAIN void change_find_backends(BlockGraphChange *c)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (list[i]->root->changing != c) {
            continue;
        }
        if (list[i]->retiring) {
            bug_abort("backend '%s' is freed while its graph changes", list[i]->name);
        }
        if (!g_ptr_array_find(c->above, list[i]->root, NULL)) {
            g_ptr_array_add(c->held_blks, list[i]);
            continue;
        }
        ChangeBackend *b = g_new0(ChangeBackend, 1);
        b->blk = list[i];
        b->size = blk_size(list[i]);
        b->before = block_node_tree(list[i]->root);
        g_ptr_array_add(c->blks, list[i]);
        g_ptr_array_add(c->backends, b);
    }
}

/* Finds what the change waits for, and what it only holds. */
static RUNS_IN_MAIN void change_find_needed(BlockGraphChange *c, BlockNode *const *nodes,
                                            unsigned count)
{
    c->above = block_nodes_above(nodes, count);
    c->quiesced = g_ptr_array_copy(c->above, NULL, NULL);
    c->held = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        g_autoptr(GPtrArray) below = block_node_tree_unwritten(nodes[i]);
        for (unsigned j = 0; j < below->len; j++) {
            change_add_connected(c->quiesced, below->pdata[j]);
        }
    }
    for (unsigned i = 0; i < c->nodes->len; i++) {
        if (!g_ptr_array_find(c->quiesced, c->nodes->pdata[i], NULL)) {
            g_ptr_array_add(c->held, c->nodes->pdata[i]);
        }
    }
    change_find_backends(c);
}

/* False: the patience has ended; block_graph_co_end() ends all the same. */
static coroutine_fn RUNS_IN_MAIN bool change_co_drain(BlockGraphChange *c, int64_t patience_ns)
{
    SP("block.change_drain", c);
    blk_hold((BlockBackend **)c->held_blks->pdata, c->held_blks->len);
    block_nodes_hold(c->held);
    if (!co_drained_try_begin((BlockBackend **)c->blks->pdata, c->blks->len, patience_ns)) {
        block_nodes_hold(c->quiesced);
        return false;
    }
    if (!block_nodes_co_try_quiesce_each(c->quiesced, patience_ns)) {
        return false;
    }
    trace_block_graph_begin(c->nodes->len, c->blks->len);
    return true;
}

/* Closes the gate of all nodes of @list, which it takes. */
static RUNS_IN_MAIN BlockGraphChange *change_new(GPtrArray *list)
{
    BlockGraphChange *c = g_new0(BlockGraphChange, 1);
    c->owner = co_self();
    c->nodes = list;
    c->blks = g_ptr_array_new();
    c->backends = g_ptr_array_new();
    c->held_blks = g_ptr_array_new();
    c->steps = g_ptr_array_new();
    c->dropped = g_ptr_array_new();
    c->seen = g_new0(bool, list->len);
    c->hidden = g_new0(bool, list->len);
    for (unsigned i = 0; i < list->len; i++) {
        BlockNode *n = list->pdata[i];
        c->seen[i] = block_node_is_seen(n);
        n->changing = c;
        block_node_ref(n);
        g_ptr_array_add(c->dropped, n);
    }
    return c;
}

BlockGraphChange *block_graph_co_try_begin(BlockNode *const *nodes, unsigned count,
                                           int64_t patience_ns, GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        block_node_ref(nodes[i]);
    }
    GPtrArray *list = change_co_claim(nodes, count, patience_ns, error);
    BlockGraphChange *c = NULL;
    if (list != NULL) {
        c = change_new(list);
        change_find_needed(c, nodes, count);
        if (!change_co_drain(c, patience_ns)) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s': requests that are in flight do not end", nodes[0]->name);
            block_graph_co_end(c);
            c = NULL;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        block_co_unref(nodes[i]);
    }
    return c;
}

BlockGraphChange *block_graph_co_begin(BlockNode *const *nodes, unsigned count, GError **error)
{
    return block_graph_co_try_begin(nodes, count, INT64_MAX, error);
}

/* ---- commit ---- */

/* Children before their parents; false if a path is too long. */
static RUNS_IN_MAIN bool change_set_heights(const BlockGraphChange *c)
{
    for (unsigned i = 0; i < c->nodes->len; i++) {
        BlockNode *n = c->nodes->pdata[i];
        n->height = 1;
    }
    for (unsigned pass = 0, changed = 1; changed != 0; pass++) {
        changed = 0;
        for (unsigned i = 0; i < c->nodes->len; i++) {
            BlockNode *n = c->nodes->pdata[i];
            for (unsigned j = 0; j < n->children->len; j++) {
                const BlockEdge *e = n->children->pdata[j];
                changed += n->height < e->node->height + 1;
                n->height = MAX(n->height, e->node->height + 1);
            }
        }
        if (changed != 0 && pass > BLOCK_DEPTH_MAX + 1) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_MAIN bool change_check_edge(const BlockEdge *e, GError **error)
{
    if (e->parent != NULL && e->parent->drv->check_child != NULL &&
        !e->parent->drv->check_child(e->parent, e->name, e->node, error)) {
        return false;
    }
    return block_edge_check_writable(e, error) && block_edge_check_present(e, error);
}

/* Checks all edges, since a step can put a writer below users that it does not touch. */
static RUNS_IN_MAIN bool change_check(const BlockGraphChange *c, GError **error)
{
    bool ok = change_set_heights(c);
    for (unsigned i = 0; ok && i < c->nodes->len; i++) {
        const BlockNode *n = c->nodes->pdata[i];
        ok = n->height <= BLOCK_DEPTH_MAX + 1;
    }
    if (!ok) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_DEPTH,
                    "a node would have more than %u nodes below it", BLOCK_DEPTH_MAX);
    }
    for (unsigned i = 0; ok && i < c->nodes->len; i++) {
        const BlockNode *n = c->nodes->pdata[i];
        for (unsigned j = 0; ok && j < n->parents->len; j++) {
            ok = change_check_edge(n->parents->pdata[j], error);
        }
    }
    return ok;
}

/* Calls child_changed for the parents of changed edges and all nodes above, children first. */
static RUNS_IN_MAIN void change_follow_children(const BlockGraphChange *c)
{
    g_autoptr(GPtrArray) parents = g_ptr_array_new();
    for (unsigned i = 0; i < c->steps->len; i++) {
        const ChangeStep *s = c->steps->pdata[i];
        if (s->edge->parent != NULL) {
            g_autoptr(GPtrArray) above = block_node_ancestors(s->edge->parent);
            for (unsigned j = 0; j < above->len; j++) {
                change_add_connected(parents, above->pdata[j]);
            }
        }
    }
    g_ptr_array_sort(parents, block_node_compare_heights);
    for (unsigned i = parents->len; i-- > 0;) {
        BlockNode *n = parents->pdata[i];
        n->detached = n->created && n->file == NULL;
        if (n->drv->child_changed != NULL && n->file != NULL) {
            n->drv->child_changed(n);
        }
    }
}

/* Moves the sections of a backend to the nodes that are below it now. */
static RUNS_IN_MAIN void change_move_sections(const ChangeBackend *b)
{
    g_autoptr(GPtrArray) after = block_node_tree(b->blk->root);
    for (unsigned i = 0; i < after->len; i++) {
        if (!g_ptr_array_find(b->before, after->pdata[i], NULL)) {
            block_node_move_sections(after->pdata[i], b->blk->sections, true);
        }
    }
    for (unsigned i = 0; i < b->before->len; i++) {
        if (!g_ptr_array_find(after, b->before->pdata[i], NULL)) {
            block_node_move_sections(b->before->pdata[i], b->blk->sections, false);
        }
    }
}

/* A node is hidden when its data was seen and is not any more, until it is seen again. */
static RUNS_IN_MAIN void change_hide(const BlockGraphChange *c)
{
    for (unsigned i = 0; i < c->nodes->len; i++) {
        BlockNode *n = c->nodes->pdata[i];
        bool seen = block_node_is_seen(n);
        c->hidden[i] = n->hidden;
        n->hidden = !seen && (n->hidden || c->seen[i]);
    }
}

bool block_graph_commit(BlockGraphChange *c, GError **error)
{
    change_begin_steps(c);
    change_hide(c);
    if (!change_check(c, error)) {
        for (unsigned i = 0; i < c->nodes->len; i++) {
            ((BlockNode *)c->nodes->pdata[i])->hidden = c->hidden[i];
        }
        block_graph_abort(c);
        return false;
    }
    change_follow_children(c);
    for (unsigned i = 0; i < c->backends->len; i++) {
        change_move_sections(c->backends->pdata[i]);
    }
    change_end_steps(c, CHANGE_COMMITTED);
    trace_block_graph_end(c->steps->len, true);
    return true;
}

void block_graph_abort(BlockGraphChange *c)
{
    if (c->state == CHANGE_ABORTED) {
        return; /* by the commit that was refused */
    }
    change_begin_steps(c);
    for (unsigned i = c->steps->len; i-- > 0;) {
        change_undo(c, c->steps->pdata[i]);
    }
    g_ptr_array_set_size(c->steps, 0);
    change_set_heights(c);
    change_end_steps(c, CHANGE_ABORTED);
    trace_block_graph_end(0, false);
}

/* ---- end ---- */

static RUNS_IN_MAIN void change_open_gate(const BlockGraphChange *c)
{
    for (unsigned i = 0; i < c->nodes->len; i++) {
        BlockNode *n = c->nodes->pdata[i];
        n->changing = NULL;
    }
    block_graph_wake();
}

/* The guest sees another size as after a resize. */
static RUNS_IN_MAIN void change_notify(const BlockGraphChange *c)
{
    for (unsigned i = 0; i < c->backends->len; i++) {
        const ChangeBackend *b = c->backends->pdata[i];
        if (blk_size(b->blk) != b->size && b->blk->notify.resized != NULL) {
            b->blk->notify.resized(b->blk->notify.opaque);
        }
    }
}

static RUNS_IN_MAIN void change_free(BlockGraphChange *c)
{
    for (unsigned i = 0; i < c->backends->len; i++) {
        ChangeBackend *b = c->backends->pdata[i];
        g_ptr_array_unref(b->before);
        g_free(b);
    }
    for (unsigned i = 0; i < c->steps->len; i++) {
        change_free_step(c->steps->pdata[i]);
    }
    g_ptr_array_unref(c->blks);
    g_ptr_array_unref(c->held_blks);
    g_ptr_array_unref(c->above);
    g_ptr_array_unref(c->backends);
    g_ptr_array_unref(c->steps);
    g_ptr_array_unref(c->nodes);
    g_ptr_array_unref(c->dropped);
    g_free(c->seen);
    g_free(c->hidden);
    g_free(c);
}

void block_graph_co_end(BlockGraphChange *c)
{
    if (c->owner != co_self()) {
        bug_abort("a graph change is ended by another coroutine than began it");
    }
    if (c->state <= CHANGE_STEPPING) {
        block_graph_abort(c);
    }
    change_open_gate(c);
    co_drained_end((BlockBackend **)c->blks->pdata, c->blks->len);
    co_drained_end((BlockBackend **)c->held_blks->pdata, c->held_blks->len);
    change_notify(c);
    SP("block.change_end", c);
    block_nodes_co_release_above(c->quiesced);
    block_nodes_co_release_above(c->held);
    for (unsigned i = 0; i < c->dropped->len; i++) {
        block_co_unref(c->dropped->pdata[i]);
    }
    change_free(c);
}
