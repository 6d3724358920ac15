/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Edges of the graph: who uses a node, and whether two uses are compatible.
 *
 * Each edge has what it does (uses) and what it lets other users of the node do (shares). Two edges
 * to one node are compatible if each shares what the other one uses. The need for unchanged data
 * also holds for all nodes below: a writer of a node below conflicts, unless the writer itself
 * belongs to the part of the graph that must not change.
 */
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"

/* ---- walking ---- */

static void edge_add_tree(GPtrArray *list, BlockNode *n)
{
    if (g_ptr_array_find(list, n, NULL)) {
        return;
    }
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        edge_add_tree(list, e->node);
    }
    g_ptr_array_add(list, n);
}

GPtrArray *block_node_tree(BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    edge_add_tree(list, n);
    return list;
}

static RUNS_IN_MAIN bool edge_is_job(const BlockEdge *e)
{
    return (e->uses & BLOCK_USE_GRAPH) != 0;
}

static RUNS_IN_MAIN bool edge_job_uses(const BlockNode *n, unsigned uses)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (edge_is_job(e) && !e->awaited && (e->uses & uses) != 0) {
            return true;
        }
    }
    return false;
}

static RUNS_IN_MAIN void edge_add_tree_without(GPtrArray *list, BlockNode *n, unsigned uses)
{
    if (g_ptr_array_find(list, n, NULL) || edge_job_uses(n, uses)) {
        return;
    }
    g_ptr_array_add(list, n);
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        edge_add_tree_without(list, e->node, uses);
    }
}

GPtrArray *block_node_tree_without_jobs(BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    edge_add_tree_without(list, n, BLOCK_USE_ALL);
    return list;
}

GPtrArray *block_node_tree_unwritten(BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    edge_add_tree_without(list, n, BLOCK_USE_WRITE);
    return list;
}

bool block_node_reaches(const BlockNode *n, const BlockNode *below)
{
    g_autoptr(GPtrArray) list = block_node_tree((BlockNode *)(uintptr_t)n);
    return g_ptr_array_find(list, below, NULL);
}

static void edge_add_ancestors(GPtrArray *list, const BlockNode *n, bool aside)
{
    if (g_ptr_array_find(list, n, NULL)) {
        return;
    }
    g_ptr_array_add(list, (BlockNode *)(uintptr_t)n);
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL && (aside || !e->aside)) {
            edge_add_ancestors(list, e->parent, aside);
        }
    }
}

GPtrArray *block_node_ancestors(const BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    edge_add_ancestors(list, n, true);
    return list;
}

GPtrArray *block_node_viewers(const BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    edge_add_ancestors(list, n, false);
    return list;
}

int block_node_compare_heights(const void *a, const void *b)
{
    const BlockNode *first = *(BlockNode *const *)a, *second = *(BlockNode *const *)b;
    return first->height > second->height ? -1 : first->height < second->height;
}

BlockEdge *block_edge_find(const BlockNode *parent, const char *name)
{
    for (unsigned i = 0; i < parent->children->len; i++) {
        BlockEdge *e = parent->children->pdata[i];
        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

BlockNode *block_node_child(const BlockNode *n, const char *name)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (strcmp(e->name, name) == 0) {
            return e->node;
        }
    }
    return NULL;
}

const char *block_node_writer(const BlockNode *n)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if ((e->uses & BLOCK_USE_WRITE) != 0) {
            return e->user;
        }
    }
    return NULL;
}

/* ---- compatibility ---- */

void block_edge_set_uses(BlockEdge *e, bool writes)
{
    e->uses = BLOCK_USE_READ;
    e->shares = BLOCK_USE_ALL;
    if (e->role == BLOCK_ROLE_BACKING) {
        e->uses |= BLOCK_USE_UNCHANGED;
        e->shares = BLOCK_USE_READ | BLOCK_USE_UNCHANGED | BLOCK_USE_GRAPH;
    } else if (writes) {
        e->uses |= BLOCK_USE_WRITE | BLOCK_USE_RESIZE;
        e->shares = BLOCK_USE_READ | BLOCK_USE_GRAPH;
    }
}

static RUNS_IN_MAIN bool edge_has_viewer(const BlockNode *n)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent == NULL && e->uses != 0 && !edge_is_job(e)) {
            return true;
        }
    }
    return false;
}

/* Visits each node above once: a graph can have very many paths. */
bool block_node_is_seen(const BlockNode *n)
{
    g_autoptr(GPtrArray) above = block_node_viewers(n);
    bool seen = false;
    for (unsigned i = 0; i < above->len && !seen; i++) {
        seen = edge_has_viewer(above->pdata[i]);
    }
    return seen;
}

/* Whether @n is below a filter that hides changes. */
static RUNS_IN_MAIN bool edge_is_covered(const BlockNode *n)
{
    g_autoptr(GPtrArray) above = block_node_ancestors(n);
    bool covered = false;
    for (unsigned i = 0; i < above->len && !covered; i++) {
        const BlockNode *parent = above->pdata[i];
        covered = parent != n && parent->drv->hides_changes;
    }
    return covered;
}

/* What @e uses and @other must share. Below a filter that hides changes the job knows itself what it
 * may change, so that only writes are uses with regard to it. The backing edge of a hidden node, as an
 * overlay that a job has taken out of a chain, is no use, nor is one whose data a backup keeps. */
static RUNS_IN_MAIN unsigned edge_uses(const BlockEdge *e, const BlockEdge *other)
{
    const BlockNode *parent = e->parent;
    if (parent != NULL && parent->drv->hides_changes && edge_is_job(other)) {
        return e->uses & (BLOCK_USE_WRITE | BLOCK_USE_RESIZE);
    }
    bool none = parent != NULL && e->role == BLOCK_ROLE_BACKING &&
                (parent->hidden || e->kept || (edge_is_job(other) && edge_is_covered(parent)));
    return none ? 0 : e->uses;
}

static RUNS_IN_MAIN unsigned edge_shares(const BlockEdge *e, const BlockEdge *other)
{
    return edge_uses(e, other) == 0 ? BLOCK_USE_ALL : e->shares;
}

/* Two edges; @present: @e exists and counts as far as @other lets it. */
typedef struct EdgePair {
    const BlockEdge *e, *other;
    bool present;
} EdgePair;

static RUNS_IN_MAIN unsigned edge_pair_uses(const EdgePair *p)
{
    return p->present ? edge_uses(p->e, p->other) : p->e->uses;
}

/* What one side uses and the other does not share. */
static RUNS_IN_MAIN unsigned edge_conflict(const EdgePair *p)
{
    unsigned shares = p->present ? edge_shares(p->e, p->other) : p->e->shares;
    return (edge_pair_uses(p) & ~edge_shares(p->other, p->e)) |
           (edge_uses(p->other, p->e) & ~shares);
}

static RUNS_IN_MAIN bool edge_refuse(const EdgePair *p, GError **error)
{
    const BlockEdge *e = p->e, *other = p->other;
    const char *node = other->node->name;
    unsigned uses = edge_pair_uses(p), conflict = edge_conflict(p);
    if ((uses & other->uses & BLOCK_USE_WRITE) != 0) {
        g_autofree char *advice =
            e->reads != NULL ? g_strdup_printf(" (%s makes %s a reader)", e->reads, e->user) : NULL;
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' is written to by %s already; a node can have only one writer%s",
                    node, other->user, advice != NULL ? advice : "");
    } else if ((uses & other->uses & BLOCK_USE_GRAPH) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' is busy: %s uses it, and %s would too", node, other->user, e->user);
    } else if (e->node == other->node && conflict != 0 && (conflict & BLOCK_USE_WRITE) == 0) {
        bool job = edge_is_job(other);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' cannot be used by %s beside %s, which changes what it shows", node,
                    job ? e->user : other->user, job ? other->user : e->user);
    } else if ((uses & BLOCK_USE_UNCHANGED) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' is written to by %s, but %s needs the data of node '%s' unchanged",
                    node, other->user, e->user, e->node->name);
    } else {
        g_set_error(
            error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
            "node '%s' cannot be written to by %s: %s needs the data of node '%s' unchanged",
            e->node->name, e->user, other->user, node);
    }
    return false;
}

/* Whether @writer may write to its node, which is @unchanged's node or below it. */
static bool edge_leaves_unchanged(const BlockEdge *unchanged, const BlockEdge *writer,
                                  unsigned writes)
{
    return writer == unchanged || (writes & ~unchanged->shares) == 0 ||
           (writer->parent != NULL && block_node_reaches(unchanged->node, writer->parent));
}

/* The node and those below it whose changes a user of the node sees. */
static RUNS_IN_MAIN void edge_add_seen(GPtrArray *list, BlockNode *n)
{
    if (g_ptr_array_find(list, n, NULL)) {
        return;
    }
    g_ptr_array_add(list, n);
    for (unsigned i = 0; i < n->children->len && !n->drv->hides_changes; i++) {
        const BlockEdge *e = n->children->pdata[i];
        edge_add_seen(list, e->node);
    }
}

/* @p->e needs unchanged data: looks for writers of the nodes below. */
static RUNS_IN_MAIN bool edge_check_below(EdgePair *p, GError **error)
{
    g_autoptr(GPtrArray) tree = g_ptr_array_new();
    edge_add_seen(tree, p->e->node);
    for (unsigned i = 0; i < tree->len; i++) {
        const BlockNode *n = tree->pdata[i];
        for (unsigned j = 0; j < n->parents->len; j++) {
            p->other = n->parents->pdata[j];
            if ((edge_pair_uses(p) & BLOCK_USE_UNCHANGED) != 0 &&
                !edge_leaves_unchanged(p->e, p->other, edge_uses(p->other, p->e))) {
                return edge_refuse(p, error);
            }
        }
    }
    return true;
}

/* The node and those above it that show a change of it. */
static RUNS_IN_MAIN void edge_add_seeing(GPtrArray *list, BlockNode *n)
{
    if (g_ptr_array_find(list, n, NULL)) {
        return;
    }
    g_ptr_array_add(list, n);
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL && !e->parent->drv->hides_changes) {
            edge_add_seeing(list, e->parent);
        }
    }
}

/* @p->e writes: looks for users above that need unchanged data. */
static RUNS_IN_MAIN bool edge_check_above(EdgePair *p, GError **error)
{
    g_autoptr(GPtrArray) above = g_ptr_array_new();
    edge_add_seeing(above, p->e->node);
    for (unsigned i = 0; i < above->len; i++) {
        const BlockNode *n = above->pdata[i];
        for (unsigned j = 0; j < n->parents->len; j++) {
            p->other = n->parents->pdata[j];
            if ((edge_uses(p->other, p->e) & BLOCK_USE_UNCHANGED) != 0 &&
                !edge_leaves_unchanged(p->other, p->e, edge_pair_uses(p))) {
                return edge_refuse(p, error);
            }
        }
    }
    return true;
}

static RUNS_IN_MAIN bool edge_check(EdgePair *p, GError **error)
{
    const BlockNode *n = p->e->node;
    for (unsigned i = 0; i < n->parents->len; i++) {
        p->other = n->parents->pdata[i];
        if (p->other != p->e && edge_conflict(p) != 0) {
            return edge_refuse(p, error);
        }
    }
    return ((p->e->uses & BLOCK_USE_UNCHANGED) == 0 || edge_check_below(p, error)) &&
           ((p->e->uses & BLOCK_USE_WRITE) == 0 || edge_check_above(p, error));
}

bool block_edge_check(const BlockEdge *e, GError **error)
{
    EdgePair p = {.e = e};
    return edge_check(&p, error);
}

bool block_edge_check_present(const BlockEdge *e, GError **error)
{
    EdgePair p = {.e = e, .present = true};
    return edge_check(&p, error);
}

/* A user that sees the data makes the backing edges of hidden nodes count again. */
static RUNS_IN_MAIN bool edge_show(const BlockEdge *e, GError **error)
{
    g_autoptr(GPtrArray) tree = block_node_tree(e->node);
    g_autoptr(GPtrArray) shown = g_ptr_array_new();
    bool ok = true, sees = e->parent == NULL && e->uses != 0 && !edge_is_job(e);
    for (unsigned i = 0; sees && i < tree->len && ok; i++) {
        BlockNode *n = tree->pdata[i];
        if (!n->hidden) {
            continue;
        }
        n->hidden = false;
        g_ptr_array_add(shown, n);
        for (unsigned j = 0; j < n->children->len && ok; j++) {
            ok = block_edge_check_present(n->children->pdata[j], error);
        }
    }
    for (unsigned i = 0; i < shown->len && !ok; i++) {
        BlockNode *n = shown->pdata[i];
        n->hidden = true;
    }
    return ok;
}

/* ---- making and removing ---- */

static RUNS_IN_MAIN void edge_set_shortcut(const BlockEdge *e, BlockNode *n)
{
    if (e->parent != NULL) {
        block_node_assert_no_lanes(e->parent, "its children change");
    }
    if (e->blk != NULL) {
        e->blk->root = n;
    } else if (e->parent != NULL && strcmp(e->name, "file") == 0) {
        e->parent->file = n;
    } else if (e->parent != NULL && strcmp(e->name, "backing") == 0) {
        e->parent->backing = n;
    }
}

unsigned block_edge_unlink(BlockEdge *e)
{
    unsigned index = 0;
    g_ptr_array_remove(e->node->parents, e);
    if (e->parent != NULL) {
        g_ptr_array_find(e->parent->children, e, &index);
        g_ptr_array_remove_index(e->parent->children, index);
        edge_set_shortcut(e, NULL);
    }
    return index;
}

void block_edge_link(BlockEdge *e, unsigned index)
{
    g_ptr_array_add(e->node->parents, e);
    if (e->parent != NULL) {
        g_ptr_array_insert(e->parent->children, (int)index, e);
        e->parent->height = MAX(e->parent->height, e->node->height + 1);
        edge_set_shortcut(e, e->node);
    }
}

void block_edge_relink(BlockEdge *e, BlockNode *to)
{
    block_node_assert_no_lanes(e->node, "a user gets another node");
    g_ptr_array_remove(e->node->parents, e);
    e->node = to;
    g_ptr_array_add(to->parents, e);
    edge_set_shortcut(e, to);
}

void block_edge_free(BlockEdge *e)
{
    g_free(e->name);
    g_free(e->user);
    g_free(e);
}

bool block_edge_check_writable(const BlockEdge *e, GError **error)
{
    if ((e->uses & BLOCK_USE_WRITE) == 0 || !e->node->flags.read_only) {
        return true;
    }
    if (e->reads != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Block node is read-only: '%s'; give %s %s too, or the node read-only=off",
                    e->node->name, e->user, e->reads);
    } else {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Block node is read-only: '%s'; %s writes to it, so give it read-only=off",
                    e->node->name, e->user);
    }
    return false;
}

BlockEdge *block_edge_new_unchecked(const BlockEdge *like)
{
    BlockEdge *e = g_new0(BlockEdge, 1);
    *e = *like;
    e->name = g_strdup(like->name);
    e->user = g_strdup(like->user);
    block_edge_link(e, e->parent != NULL ? e->parent->children->len : 0);
    block_node_ref(e->node);
    return e;
}

BlockEdge *block_edge_new(const BlockEdge *like, GError **error)
{
    BlockEdge *e = block_edge_new_unchecked(like);
    if (block_edge_check_writable(e, error) && block_edge_check(e, error) && edge_show(e, error)) {
        return e;
    }
    e->node->refs--; /* the caller has another one */
    block_edge_unlink(e);
    block_edge_free(e);
    return NULL;
}

void block_edge_co_free(BlockEdge *e)
{
    BlockNode *n = e->node;
    block_edge_unlink(e);
    block_edge_free(e);
    block_co_unref(n);
}
