/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Graph changes: the drained section around them, commit and abort. The steps are in change_step.c.
 *
 * A change closes the gate of its nodes before it drains them: n->changing. The coroutines that
 * would give them a user wait at the gate. The nodes are a whole component of the graph: no request
 * can come to them from elsewhere, and a subtree that gets another parent is idle.
 */
#include "block/core/backend_int.h"
#include "block/core/change_int.h"
#include "block/core/node_int.h"
#include "block/core/node_io.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

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

/* All nodes connected with @nodes. */
static RUNS_IN_MAIN GPtrArray *change_find_component(BlockNode *const *nodes, unsigned count)
{
    GPtrArray *list = g_ptr_array_new();
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
                change_add_connected(list, e->parent);
            }
        }
    }
    return list;
}

typedef enum ChangeReady { CHANGE_READY, CHANGE_WAIT, CHANGE_REFUSED } ChangeReady;

/* A node that is being opened can send requests to its children; one that is being closed, too, but
 * its end is near. */
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
        if (!n->open || n->changing != NULL) {
            ready = CHANGE_WAIT;
        }
    }
    return ready;
}

/* Returns a component in which nothing is opened or closed. NULL + @error. */
static coroutine_fn RUNS_IN_MAIN GPtrArray *change_co_claim(BlockNode *const *nodes, unsigned count,
                                                            GError **error)
{
    for (;;) {
        GPtrArray *list = change_find_component(nodes, count);
        ChangeReady ready = change_is_ready(list, error);
        if (ready == CHANGE_READY) {
            return list;
        }
        g_ptr_array_unref(list);
        if (ready == CHANGE_REFUSED) {
            return NULL;
        }
        gate_co_wait();
    }
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
        ChangeBackend *b = g_new0(ChangeBackend, 1);
        b->blk = list[i];
        b->size = blk_size(list[i]);
        b->before = block_node_tree(list[i]->root);
        g_ptr_array_add(c->blks, list[i]);
        g_ptr_array_add(c->backends, b);
    }
}

BlockGraphChange *block_graph_co_begin(BlockNode *const *nodes, unsigned count, GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        block_node_ref(nodes[i]);
    }
    GPtrArray *list = change_co_claim(nodes, count, error);
    BlockGraphChange *c = NULL;
    if (list != NULL) {
        c = g_new0(BlockGraphChange, 1);
        c->owner = co_self();
        c->nodes = list;
        c->blks = g_ptr_array_new();
        c->backends = g_ptr_array_new();
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
        change_find_backends(c);
        SP("block.change_drain", c);
        co_drained_begin((BlockBackend **)c->blks->pdata, c->blks->len);
        c->quiesced = block_nodes_co_quiesce_above(list); /* with references */
        trace_block_graph_begin(list->len, c->blks->len);
    }
    for (unsigned i = 0; i < count; i++) {
        block_co_unref(nodes[i]);
    }
    return c;
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
    change_notify(c);
    SP("block.change_end", c);
    block_nodes_co_release_above(c->quiesced);
    for (unsigned i = 0; i < c->dropped->len; i++) {
        block_co_unref(c->dropped->pdata[i]);
    }
    change_free(c);
}
