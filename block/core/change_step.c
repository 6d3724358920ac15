/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a graph change. A step changes edges at once and notes how to undo that. Whether the
 * uses are compatible is checked when all steps are done, since steps can conflict on the way.
 *
 * References: an edge that leaves a node leaves its reference in c->dropped, also when the change
 * is aborted; the edge takes another one then.
 */
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/change_int.h"
#include "block/core/node_int.h"

void change_begin_steps(BlockGraphChange *c)
{
    if (c->state > CHANGE_STEPPING || c->owner != co_self()) {
        bug_abort("a graph change has ended, or another coroutine began it");
    }
    if (c->state == CHANGE_DRAINED) {
        c->state = CHANGE_STEPPING;
        held_push(RANK_QUEUE, c, "steps of a graph change", false); /* a yield aborts */
    }
}

void change_end_steps(BlockGraphChange *c, ChangeState state)
{
    c->state = state;
    held_pop(RANK_QUEUE, c);
}

static ChangeStep *change_note(BlockGraphChange *c, ChangeKind kind, BlockEdge *e)
{
    ChangeStep *s = g_new0(ChangeStep, 1);
    s->kind = kind;
    s->edge = e;
    g_ptr_array_add(c->steps, s);
    return s;
}

void change_free_step(ChangeStep *s)
{
    if (s->kind == CHANGE_REMOVED) {
        block_edge_free(s->edge);
    }
    g_free(s);
}

static RUNS_IN_MAIN void change_drop(BlockGraphChange *c, BlockNode *n)
{
    g_ptr_array_add(c->dropped, n);
}

/* ---- edges ---- */

static RUNS_IN_MAIN void change_move_edge(BlockGraphChange *c, BlockEdge *e, BlockNode *to)
{
    ChangeStep *s = change_note(c, CHANGE_MOVED, e);
    s->old = e->node;
    block_node_ref(to);
    change_drop(c, e->node);
    block_edge_relink(e, to);
}

static RUNS_IN_MAIN void change_remove_edge(BlockGraphChange *c, BlockEdge *e)
{
    ChangeStep *s = change_note(c, CHANGE_REMOVED, e);
    change_drop(c, e->node);
    s->index = block_edge_unlink(e);
}

static RUNS_IN_MAIN void change_add_edge(BlockGraphChange *c, BlockNode *parent, const char *name,
                                         BlockChildRole role, BlockNode *child)
{
    g_autofree char *user = g_strdup_printf("node '%s'", parent->name);
    BlockEdge like = {.parent = parent,
                      .node = child,
                      .name = (char *)(uintptr_t)name,
                      .user = user,
                      .reads = "read-only=on",
                      .role = role};
    block_edge_set_uses(&like, !parent->flags.read_only);
    change_note(c, CHANGE_ADDED, block_edge_new_unchecked(&like));
}

void change_undo(BlockGraphChange *c, ChangeStep *s)
{
    BlockEdge *e = s->edge;
    switch (s->kind) {
    case CHANGE_MOVED:
        block_node_ref(s->old);
        change_drop(c, e->node);
        block_edge_relink(e, s->old);
        break;
    case CHANGE_ADDED:
        change_drop(c, e->node);
        block_edge_unlink(e);
        block_edge_free(e);
        break;
    case CHANGE_REMOVED:
        block_node_ref(e->node);
        block_edge_link(e, s->index);
        break;
    }
    g_free(s);
}

/* ---- checks that no later step can mend ---- */

static void change_assert_part(const BlockGraphChange *c, const BlockNode *n)
{
    if (n->changing != c) {
        bug_abort("node '%s' does not take part in the graph change", n->name);
    }
}

static RUNS_IN_MAIN bool change_check_home(const BlockNode *n, const BlockNode *other,
                                           GError **error)
{
    if (n->home == other->home) {
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                "node '%s' lives in iothread '%s', and node '%s' in '%s'", n->name,
                aio_context_name(n->home), other->name, aio_context_name(other->home));
    return false;
}

static bool change_check_loop(const BlockNode *parent, const BlockNode *child, GError **error)
{
    if (!block_node_reaches(child, parent)) {
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                "Making '%s' a child of '%s' would create a cycle", child->name, parent->name);
    return false;
}

/* ---- steps ---- */

static bool change_follows(const BlockEdge *e, const BlockNode *to)
{
    return !e->stays && (e->parent == NULL || !block_node_reaches(to, e->parent));
}

bool block_graph_replace(BlockGraphChange *c, BlockNode *from, BlockNode *to, GError **error)
{
    change_begin_steps(c);
    change_assert_part(c, from);
    change_assert_part(c, to);
    if (!change_check_home(to, from, error)) {
        return false;
    }
    g_autoptr(GPtrArray) follow = g_ptr_array_new();
    for (unsigned i = 0; i < from->parents->len; i++) {
        if (change_follows(from->parents->pdata[i], to)) {
            g_ptr_array_add(follow, from->parents->pdata[i]);
        }
    }
    for (unsigned i = 0; i < follow->len; i++) {
        change_move_edge(c, follow->pdata[i], to);
    }
    return true;
}

bool block_graph_set_child(BlockGraphChange *c, BlockNode *parent, const char *name,
                           BlockChildRole role, BlockNode *child, GError **error)
{
    BlockEdge *e = block_edge_find(parent, name);
    change_begin_steps(c);
    change_assert_part(c, parent);
    if (child != NULL) {
        change_assert_part(c, child);
        if (!change_check_home(child, parent, error) || !change_check_loop(parent, child, error)) {
            return false;
        }
    }
    if (e != NULL) {
        change_remove_edge(c, e);
    }
    if (child != NULL) {
        change_add_edge(c, parent, name, role, child);
    }
    return true;
}

bool block_graph_insert_filter(BlockGraphChange *c, BlockNode *filter, BlockNode *below,
                               GError **error)
{
    return block_graph_replace(c, below, filter, error) &&
           block_graph_set_child(c, filter, "file", BLOCK_ROLE_FILE, below, error);
}

/* A user that stays at the filter would lose the data. */
static RUNS_IN_MAIN bool change_check_left(const BlockNode *filter, GError **error)
{
    for (unsigned i = 0; i < filter->parents->len; i++) {
        const BlockEdge *e = filter->parents->pdata[i];
        if (e->uses != 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "node '%s' is used by %s",
                        filter->name, e->user);
            return false;
        }
    }
    return true;
}

bool block_graph_remove_filter(BlockGraphChange *c, BlockNode *filter, GError **error)
{
    return block_graph_replace(c, filter, filter->file, error) &&
           change_check_left(filter, error) &&
           block_graph_set_child(c, filter, "file", BLOCK_ROLE_FILE, NULL, error);
}

/* ---- jobs as users ---- */

BlockEdge *block_user_co_new(BlockNode *n, const char *user, unsigned uses, unsigned shares,
                             GError **error)
{
    block_node_co_pass_gate(n);
    BlockEdge like = {
        .node = n, .user = (char *)(uintptr_t)user, .uses = uses, .shares = shares, .stays = true};
    return block_edge_new(&like, error);
}

BlockEdge *block_name_co_new(BlockNode *n, const char *user)
{
    block_node_co_pass_gate(n);
    BlockEdge like = {.node = n, .user = (char *)(uintptr_t)user, .shares = BLOCK_USE_ALL};
    return block_edge_new_unchecked(&like);
}

void block_user_co_free(BlockEdge *user)
{
    if (user != NULL) {
        block_edge_co_free(user);
    }
}

BlockNode *block_node_below_jobs(BlockNode *n)
{
    while (n->created && n->file != NULL) {
        n = n->file;
    }
    return n;
}

BlockNode *block_node_below_unnamed(BlockNode *n)
{
    while (n->unnamed && n->file != NULL) {
        n = n->file;
    }
    return n;
}

bool block_node_is_temporary(const BlockNode *n)
{
    bool temporary = n->temporary;
    for (unsigned i = 0; i < n->children->len && !temporary; i++) {
        const BlockEdge *edge = n->children->pdata[i];
        temporary = block_node_is_temporary(edge->node);
    }
    return temporary;
}

bool block_node_check_no_filter(const BlockNode *n, GError **error)
{
    if (n->created) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Node '%s' is the filter of a job: use the node below it", n->name);
    }
    return !n->created;
}

const char *block_node_job(const BlockNode *n)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if ((e->uses & BLOCK_USE_GRAPH) != 0) {
            return e->user;
        }
    }
    return NULL;
}

bool block_node_check_no_job(const BlockNode *n, GError **error)
{
    const char *job = block_node_job(n);
    if (job != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "Node '%s' is busy: %s uses it",
                    n->name, job);
    }
    return job == NULL;
}

void blk_set_stays(BlockBackend *blk)
{
    blk->edge->stays = true;
}
