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
#include "block/core/node_int.h"
#include "block/core/node_io.h"
#include "block/trace_events.h"

typedef struct Reopen {
    GPtrArray *nodes; /* BlockReopen, children before their parents */
    GPtrArray *backends;
    GPtrArray *quiesced; /* BlockNode, parents before their children */
} Reopen;

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

static BlockReopen *reopen_find(const Reopen *reopen, const BlockNode *n)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        if (r->node == n) {
            return r;
        }
    }
    return NULL;
}

/* ---- the request ---- */

static bool reopen_cannot_change(const BlockNode *n, const char *option, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                "Cannot change the option '%s' of node '%s'", option, n->name);
    return false;
}

static bool reopen_same_value(const OptSpec *spec, const void *a, const void *b)
{
    const char *at_a = (const char *)a + spec->offset, *at_b = (const char *)b + spec->offset;
    switch (spec->type) {
    case OPT_STRING:
        return g_strcmp0(*(char *const *)(const void *)at_a, *(char *const *)(const void *)at_b) ==
               0;
    case OPT_BOOL:
        return *(const bool *)(const void *)at_a == *(const bool *)(const void *)at_b;
    case OPT_U8:
        return *(const uint8_t *)at_a == *(const uint8_t *)at_b;
    case OPT_U16:
        return memcmp(at_a, at_b, sizeof(uint16_t)) == 0;
    case OPT_U32:
    case OPT_ENUM:
        return memcmp(at_a, at_b, sizeof(uint32_t)) == 0;
    case OPT_U64:
    case OPT_SIZE:
        return memcmp(at_a, at_b, sizeof(uint64_t)) == 0;
    default:
        return false;
    }
}

/* Checks the options of drivers that cannot change any of them. */
static bool reopen_check_same(const BlockReopen *r, GError **error)
{
    for (const OptSpec *spec = r->node->drv->options; spec != NULL && spec->name != NULL; spec++) {
        if (!reopen_same_value(spec, r->node->state, r->state)) {
            return reopen_cannot_change(r->node, spec->name, error);
        }
    }
    return true;
}

static RUNS_IN_MAIN bool reopen_describe(Reopen *reopen, OptDict *d, BlockNode *n, GError **error);

/* The name of a node must be the child's; a description reopens the child too. @edge is NULL if
 * there is no such child. */
static RUNS_IN_MAIN bool reopen_describe_child(Reopen *reopen, OptDict *d, BlockReopen *r,
                                               const char *option, const BlockEdge *edge,
                                               GError **error)
{
    bool null = opt_dict_is_null(d, option);
    g_autoptr(OptDict) nested = opt_dict_take_dict(d, option);
    g_autofree char *name = nested == NULL ? opt_dict_take(d, option) : NULL;
    if (null) {
        opt_dict_remove(d, option);
    }
    if (edge == NULL) {
        bool none = nested == NULL && (name == NULL || name[0] == '\0');
        return none || reopen_cannot_change(r->node, option, error);
    }
    if (nested != NULL) {
        node_child_inherit(nested, edge->role, &r->flags);
        return reopen_describe(reopen, nested, edge->node, error);
    }
    if (name == NULL && !null && strcmp(option, "file") != 0) {
        return true; /* an absent child stays as it is */
    }
    return (name != NULL && strcmp(name, edge->node->name) == 0) ||
           reopen_cannot_change(r->node, option, error);
}

static const BlockEdge *reopen_find_edge(const BlockNode *n, const char *name)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        if (strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

static RUNS_IN_MAIN bool reopen_describe_children(Reopen *reopen, OptDict *d, BlockReopen *r,
                                                  GError **error)
{
    const BlockNode *n = r->node;
    if (n->drv->has_file &&
        !reopen_describe_child(reopen, d, r, "file", reopen_find_edge(n, "file"), error)) {
        return false;
    }
    for (const char *const *name = n->drv->children; name != NULL && *name != NULL; name++) {
        if (!reopen_describe_child(reopen, d, r, *name, reopen_find_edge(n, *name), error)) {
            return false;
        }
    }
    return true;
}

static bool reopen_bind(BlockReopen *r, OptDict *d, GError **error)
{
    BlockNode *n = r->node;
    g_autofree char *what = g_strdup_printf("node '%s'", n->name);
    r->state = g_malloc0(n->drv->state_size);
    opts_init(n->drv->options, r->state);
    if (!opts_bind(n->drv->options, r->state, d, what, error)) {
        g_clear_pointer(&r->state, g_free);
        return false;
    }
    return n->drv->co_reopen_prepare != NULL || reopen_check_same(r, error);
}

/* Takes the common options from @d, which describes @n. */
static bool reopen_take_common(OptDict *d, BlockReopen *r, GError **error)
{
    const BlockNode *n = r->node;
    NodeOptions o;
    if (!node_options_take(d, &o, error)) {
        return false;
    }
    r->flags = node_options_flags(&o);
    bool ok = true;
    if (g_strcmp0(o.driver, n->drv->name) != 0) {
        ok = reopen_cannot_change(n, "driver", error);
    } else if (o.node_name != NULL && strcmp(o.node_name, n->name) != 0) {
        ok = reopen_cannot_change(n, "node-name", error);
    }
    node_options_clear(&o);
    return ok;
}

static RUNS_IN_MAIN bool reopen_describe(Reopen *reopen, OptDict *d, BlockNode *n, GError **error)
{
    if (reopen_find(reopen, n) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "node '%s' is described twice",
                    n->name);
        return false;
    }
    BlockReopen *r = g_new0(BlockReopen, 1);
    r->node = n;
    block_node_ref(n); /* it may be deleted during a yield */
    bool ok = reopen_take_common(d, r, error) && reopen_describe_children(reopen, d, r, error) &&
              reopen_bind(r, d, error);
    g_ptr_array_add(reopen->nodes, r); /* after its children */
    return ok;
}

static RUNS_IN_MAIN bool reopen_describe_root(Reopen *reopen, const OptDict *opts, GError **error)
{
    const char *name = opt_dict_get(opts, "node-name");
    BlockNode *n = name != NULL ? block_node_find(name) : NULL;
    if (name == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "node-name not specified");
        return false;
    }
    if (n == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Failed to find node with "
                    "node-name='%s'",
                    name);
        return false;
    }
    g_autoptr(OptDict) d = opt_dict_copy(opts);
    return reopen_describe(reopen, d, n, error);
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

static coroutine_fn RUNS_IN_MAIN void reopen_co_drain(Reopen *reopen)
{
    reopen_find_backends(reopen);
    co_drained_begin((BlockBackend **)reopen->backends->pdata, reopen->backends->len);
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        const BlockReopen *r = reopen->nodes->pdata[i];
        g_ptr_array_add(nodes, r->node);
    }
    reopen->quiesced = block_nodes_co_quiesce_above(nodes);
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

static coroutine_fn RUNS_IN_MAIN bool reopen_co_run(Reopen *reopen, GError **error)
{
    reopen_co_drain(reopen);
    bool ok = reopen_co_flush(reopen, error);
    reopen_read_present(reopen);
    ok = ok && reopen_co_prepare(reopen, error) && reopen_change_uses(reopen, error);
    if (ok) {
        reopen_commit(reopen);
    }
    reopen_co_clean(reopen, ok);
    reopen_co_resume(reopen);
    return ok;
}

bool block_co_reopen(OptDict *const *opts, unsigned count, GError **error)
{
    Reopen reopen = {.nodes = g_ptr_array_new(), .backends = g_ptr_array_new()};
    bool ok = true;
    for (unsigned i = 0; ok && i < count; i++) {
        ok = reopen_describe_root(&reopen, opts[i], error);
    }
    ok = ok && reopen_co_run(&reopen, error);
    reopen_co_free(&reopen);
    return ok;
}
