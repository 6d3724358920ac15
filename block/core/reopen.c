/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reopening nodes with other options: all of them, or none.
 *
 *   described --[drained, flushed]--> prepared --> checked --> committed --> cleaned
 *                                        |            |
 *                                        +------------+--> refused ------> cleaned
 *
 * "Drained" covers the backends, and all nodes from the reopened ones up, which can have operations
 * of their own without a backend. The flush starts none. Nothing visible to requests and queries
 * changes before commit, which does not yield.
 */
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/lane.h"
#include "block/core/node_io.h"
#include "block/core/reopen_int.h"
#include "block/trace_events.h"

static coroutine_fn RUNS_IN_MAIN void reopen_co_free(Reopen *reopen)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        if (r->state != NULL) {
            opts_clear(r->node->drv->options, r->state);
        }
        g_free(r->state);
        block_co_unref(r->node);
        g_free(r);
    }
    g_ptr_array_unref(reopen->nodes);
    g_ptr_array_unref(reopen->backends);
}

/* ---- affected backends ---- */

static RUNS_IN_MAIN bool reopen_affects(const Reopen *reopen, const BlockBackend *blk)
{
    g_autoptr(GPtrArray) tree = block_node_tree(blk_root(blk));
    for (unsigned i = 0; i < tree->len; i++) {
        if (reopen_find(reopen, tree->pdata[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static RUNS_IN_MAIN void reopen_find_backends(Reopen *reopen)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (reopen_affects(reopen, list[i])) {
            g_ptr_array_add(reopen->backends, list[i]);
        }
    }
}

/* ---- the drained section ---- */

/* False: for @patience_ns nothing has ended, and something is in flight. reopen_co_resume() ends it all the
 * same. */
static coroutine_fn RUNS_IN_MAIN bool reopen_co_drain(Reopen *reopen, int64_t patience_ns)
{
    reopen_find_backends(reopen);
    bool ok = co_drained_try_begin((BlockBackend **)reopen->backends->pdata, reopen->backends->len,
                                   patience_ns);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        const BlockReopen *r = reopen->nodes->pdata[i];
        g_ptr_array_add(nodes, r->node);
    }
    reopen->quiesced = block_nodes_above((BlockNode **)nodes->pdata, nodes->len);
    if (ok) {
        return block_nodes_co_try_quiesce_each(reopen->quiesced, patience_ns);
    }
    block_nodes_hold(reopen->quiesced);
    return false;
}

static coroutine_fn RUNS_IN_MAIN void reopen_co_resume(Reopen *reopen)
{
    block_nodes_co_release_above(reopen->quiesced);
    co_drained_end((BlockBackend **)reopen->backends->pdata, reopen->backends->len);
}

/* ---- compatible uses also after the reopen ---- */

static bool reopen_will_be_read_only(const Reopen *reopen, const BlockNode *n)
{
    const BlockReopen *r = reopen_find(reopen, n);
    return r != NULL ? r->flags.read_only : n->flags.read_only;
}

static RUNS_IN_MAIN void reopen_set_uses(const BlockNode *n, bool writes)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        block_edge_set_uses(n->children->pdata[i], writes);
    }
}

/* Makes the edges of a node write that becomes writable. */
static RUNS_IN_MAIN bool reopen_take_writes(const Reopen *reopen, const BlockNode *n,
                                            GError **error)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        BlockEdge *e = n->children->pdata[i];
        if (e->role == BLOCK_ROLE_BACKING || (e->uses & BLOCK_USE_WRITE) != 0) {
            continue;
        }
        if (reopen_will_be_read_only(reopen, e->node)) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "Block node is read-only: '%s', but '%s' would write to it", e->node->name,
                        n->name);
            return false;
        }
        block_edge_set_uses(e, true);
        if (!block_edge_check(e, error)) {
            return false;
        }
    }
    return true;
}

static RUNS_IN_MAIN bool reopen_check_writer(const Reopen *reopen, const BlockReopen *r,
                                             GError **error)
{
    const char *writer = block_node_writer(r->node);
    if (r->flags.read_only && writer != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Cannot make block node read-only: '%s' is written to by %s", r->node->name,
                    writer);
        return false;
    }
    if (r->flags.read_only && r->node->track.users > 0) { /* its home waits: it is drained */
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't set node '%s' to r/o with copy-on-read enabled", r->node->name);
        return false;
    }
    return r->flags.read_only || reopen_take_writes(reopen, r->node, error);
}

/* Gives the edges their new uses: first those that stop writing, then the new writers in the order
 * of the list. On failure all edges have their old uses. No yield may follow until commit. */
static RUNS_IN_MAIN bool reopen_change_uses(const Reopen *reopen, GError **error)
{
    BlockReopen **list = (BlockReopen **)reopen->nodes->pdata;
    bool ok = true;
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        if (list[i]->flags.read_only) {
            reopen_set_uses(list[i]->node, false);
        }
    }
    for (unsigned i = 0; ok && i < reopen->nodes->len; i++) {
        ok = reopen_check_writer(reopen, list[i], error);
    }
    for (unsigned i = 0; !ok && i < reopen->nodes->len; i++) {
        reopen_set_uses(list[i]->node, !list[i]->node->flags.read_only);
    }
    return ok;
}

/* ---- the steps ---- */

static void reopen_flush_at_home(void *opaque)
{
    BlockReopen *r = opaque;
    enter_coroutine();
    enter_iothread(r->node->home);
    r->flush_ret = block_node_co_flush(r->node);
}

/* The close of a descriptor loses errors that the kernel has not reported through it yet. */
static coroutine_fn RUNS_IN_MAIN bool reopen_co_flush(Reopen *reopen, GError **error)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        co_call_in(r->node->home, reopen_flush_at_home, r);
        if (r->flush_ret < 0) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Error flushing drive: %s",
                        g_strerror(-r->flush_ret));
            return false;
        }
    }
    return true;
}

/* Reads again the size and limits that requests in flight may have changed. */
static RUNS_IN_MAIN void reopen_read_present(Reopen *reopen)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        if (block_node_in_flight(r->node) != 0) {
            bug_abort("node '%s' is reopened with operations in flight", r->node->name);
        }
        r->limits = r->node->limits;
        r->size = block_node_size(r->node);
    }
}

static bool reopen_has_read_only_child(const Reopen *reopen, const BlockNode *n)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (e->role != BLOCK_ROLE_BACKING && reopen_will_be_read_only(reopen, e->node)) {
            return true;
        }
    }
    return false;
}

/* Makes nodes above a read-only node read-only too if their auto-read-only allows it, as at the
 * first opening. */
static void reopen_follow_children(Reopen *reopen)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (unsigned i = 0; i < reopen->nodes->len; i++) {
            BlockReopen *r = reopen->nodes->pdata[i];
            if (!r->flags.read_only && r->flags.auto_read_only &&
                reopen_has_read_only_child(reopen, r->node)) {
                r->flags.read_only = changed = true;
            }
        }
    }
}

static coroutine_fn RUNS_IN_MAIN bool reopen_co_prepare(Reopen *reopen, GError **error)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        const BlockDriver *drv = r->node->drv;
        if (drv->co_reopen_prepare != NULL && !drv->co_reopen_prepare(r->node, r, error)) {
            return false;
        }
        r->prepared = true;
    }
    reopen_follow_children(reopen);
    return true;
}

/* Whether a node below @n is reopened. */
static bool reopen_is_above(const Reopen *reopen, const BlockNode *n)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        const BlockReopen *r = reopen->nodes->pdata[i];
        if (r->node != n && block_node_reaches(n, r->node)) {
            return true;
        }
    }
    return false;
}

/* Calls child_changed once for each node above the reopened ones, children before their parents,
 * since they have read the limits of their children. */
static RUNS_IN_MAIN void reopen_notify_parents(const Reopen *reopen)
{
    for (unsigned i = reopen->quiesced->len; i-- > 0;) {
        BlockNode *n = reopen->quiesced->pdata[i];
        if (n->open && n->drv->child_changed != NULL && reopen_is_above(reopen, n)) {
            n->drv->child_changed(n);
        }
    }
}

/* Runs without a yield. */
static RUNS_IN_MAIN void reopen_commit(Reopen *reopen)
{
    BlockReopen **list = (BlockReopen **)reopen->nodes->pdata;
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockNode *n = list[i]->node;
        block_node_assert_no_lanes(n, "it is reopened");
        n->flags = list[i]->flags;
        if (n->drv->reopen_commit != NULL) {
            n->limits = list[i]->limits;
            node_set_size(n, list[i]->size);
            n->drv->reopen_commit(n, list[i]);
        }
        trace_block_node_reopen(n->name, n->flags.read_only, n->flags.cache_direct);
    }
    reopen_notify_parents(reopen);
}

static coroutine_fn RUNS_IN_MAIN void reopen_co_clean(Reopen *reopen, bool committed)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        if (r->prepared && r->node->drv->co_reopen_clean != NULL) {
            r->node->drv->co_reopen_clean(r->node, r, committed);
        }
    }
}

/* Drained. */
static coroutine_fn RUNS_IN_MAIN bool reopen_co_change(Reopen *reopen, GError **error)
{
    bool ok = reopen_co_flush(reopen, error);
    reopen_read_present(reopen);
    ok = ok && reopen_co_prepare(reopen, error) && reopen_change_uses(reopen, error);
    if (ok) {
        reopen_commit(reopen);
    }
    reopen_co_clean(reopen, ok);
    return ok;
}

/* False: it is not drained. Otherwise *@ok is the result. */
static coroutine_fn RUNS_IN_MAIN bool reopen_co_try_run(Reopen *reopen, int64_t patience_ns,
                                                        bool *ok, GError **error)
{
    bool drained = reopen_co_drain(reopen, patience_ns);
    *ok = drained && reopen_co_change(reopen, error);
    reopen_co_resume(reopen);
    return drained;
}

static coroutine_fn RUNS_IN_MAIN bool reopen_co_run(Reopen *reopen, GError **error)
{
    bool ok;
    reopen_co_try_run(reopen, INT64_MAX, &ok, error);
    return ok;
}

static Reopen reopen_new(void)
{
    return (Reopen){.nodes = g_ptr_array_new(), .backends = g_ptr_array_new()};
}

bool block_co_reopen(OptDict *const *opts, unsigned count, GError **error)
{
    Reopen reopen = reopen_new();
    bool ok = true;
    for (unsigned i = 0; ok && i < count; i++) {
        ok = reopen_describe_root(&reopen, opts[i], error);
    }
    ok = ok && reopen_co_run(&reopen, error);
    reopen_co_free(&reopen);
    return ok;
}

bool block_node_co_set_read_only(BlockNode *n, bool read_only, GError **error)
{
    Reopen reopen = reopen_new();
    bool ok = n->flags.read_only == read_only;
    if (!ok) {
        reopen_describe_read_only(&reopen, n, read_only);
        ok = reopen_co_run(&reopen, error);
    }
    reopen_co_free(&reopen);
    return ok;
}

bool block_node_co_try_make_read_only(BlockNode *n, int64_t patience_ns)
{
    bool ok, drained = true;
    if (!n->flags.read_only) {
        Reopen reopen = reopen_new();
        reopen_describe_read_only(&reopen, n, true);
        drained = reopen_co_try_run(&reopen, patience_ns, &ok, NULL);
        reopen_co_free(&reopen);
    }
    return drained;
}
