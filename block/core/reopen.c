/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reopening nodes with other options: all of them, or none.
 *
 *   described --[drained, flushed]--> prepared --> checked --> committed --> cleaned
 *                                        |            |
 *                                        +------------+--> refused ------> cleaned
 *
 * Nothing visible to requests and queries changes before commit, which does not yield.
 */
#include <string.h>
#include "block/core/node_int.h"
#include "block/trace_events.h"

typedef struct Reopen {
    GPtrArray *nodes; /* BlockReopen, children before their parents */
    GPtrArray *backends;
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

/* "file": the name of a node must be the child's; a description reopens the child too. */
static RUNS_IN_MAIN bool reopen_describe_child(Reopen *reopen, OptDict *d, BlockReopen *r,
                                               GError **error)
{
    BlockNode *n = r->node;
    g_autoptr(OptDict) nested = opt_dict_take_dict(d, "file");
    g_autofree char *name = nested == NULL ? opt_dict_take(d, "file") : NULL;
    if (nested != NULL) {
        node_options_inherit(nested, &r->flags);
        return reopen_describe(reopen, nested, n->file, error);
    }
    if (name == NULL || strcmp(name, n->file->name) != 0) {
        return reopen_cannot_change(n, "file", error);
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
    bool ok = reopen_take_common(d, r, error) &&
              (n->file == NULL || reopen_describe_child(reopen, d, r, error)) &&
              reopen_bind(r, d, error);
    g_ptr_array_add(reopen->nodes, r); /* after its child */
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
    for (const BlockNode *n = blk_root(blk); n != NULL; n = n->file) {
        if (reopen_find(reopen, n) != NULL) {
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

/* ---- one writer also after the reopen ---- */

static bool reopen_will_be_read_only(const Reopen *reopen, const BlockNode *n)
{
    const BlockReopen *r = reopen_find(reopen, n);
    return r != NULL ? r->flags.read_only : n->flags.read_only;
}

/* Whether the present writer of @n gives up its right in the same reopen. */
static bool reopen_writer_releases(const Reopen *reopen, const BlockNode *n)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        const BlockReopen *r = reopen->nodes->pdata[i];
        if (r->node->file == n && r->node->write_taken && r->flags.read_only) {
            return true;
        }
    }
    return false;
}

/* The node before @r in the list that becomes the writer of the same child, or NULL. */
static const BlockNode *reopen_earlier_writer(const Reopen *reopen, const BlockReopen *r)
{
    for (unsigned i = 0; reopen->nodes->pdata[i] != r; i++) {
        const BlockReopen *other = reopen->nodes->pdata[i];
        if (other->node->file == r->node->file && !other->node->write_taken &&
            !other->flags.read_only) {
            return other->node;
        }
    }
    return NULL;
}

static bool reopen_refuse_writer(const BlockNode *child, const char *writer, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                "node '%s' is written to by %s already; a node can have only one writer",
                child->name, writer);
    return false;
}

static bool reopen_check_writer(const Reopen *reopen, const BlockReopen *r, GError **error)
{
    const BlockNode *n = r->node, *child = n->file;
    if (r->flags.read_only && n->writer != NULL && !reopen_writer_releases(reopen, n)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Cannot make block node read-only: '%s' is written to by %s", n->name,
                    n->writer);
        return false;
    }
    if (r->flags.read_only || child == NULL || n->write_taken) {
        return true;
    }
    if (reopen_will_be_read_only(reopen, child)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Block node is read-only: '%s', but '%s' would write to it", child->name,
                    n->name);
        return false;
    }
    if (child->writer != NULL && !reopen_writer_releases(reopen, child)) {
        return reopen_refuse_writer(child, child->writer, error);
    }
    const BlockNode *earlier = reopen_earlier_writer(reopen, r);
    if (earlier != NULL) {
        g_autofree char *who = g_strdup_printf("node '%s'", earlier->name);
        return reopen_refuse_writer(child, who, error);
    }
    return true;
}

static bool reopen_check_writers(const Reopen *reopen, GError **error)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        if (!reopen_check_writer(reopen, reopen->nodes->pdata[i], error)) {
            return false;
        }
    }
    return true;
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
        r->limits = r->node->limits;
        r->size = block_node_size(r->node);
    }
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
            const BlockNode *child = r->node->file;
            if (child != NULL && !r->flags.read_only && r->flags.auto_read_only &&
                reopen_will_be_read_only(reopen, child)) {
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

/* Calls child_changed of the nodes above @child, upwards, since they have read its limits. */
static RUNS_IN_MAIN void reopen_notify_parents(const BlockNode *child)
{
    unsigned count;
    g_autofree BlockNode **list = block_node_list(&count);
    for (unsigned i = 0; i < count; i++) {
        if (list[i]->file == child) {
            if (list[i]->drv->child_changed != NULL) {
                list[i]->drv->child_changed(list[i]);
            }
            reopen_notify_parents(list[i]);
        }
    }
}

static RUNS_IN_MAIN void reopen_take_writes(BlockReopen *r)
{
    BlockNode *n = r->node;
    if (n->file != NULL && !n->flags.read_only && !n->write_taken) {
        g_autofree char *who = g_strdup_printf("node '%s'", n->name);
        n->write_taken = block_node_take_write(n->file, who, NULL);
        if (!n->write_taken) {
            bug_abort("node '%s' was checked and cannot write to its child", n->name);
        }
    }
}

static RUNS_IN_MAIN void reopen_drop_writes(BlockReopen *r)
{
    if (r->flags.read_only && r->node->write_taken) {
        block_node_drop_write(r->node->file);
        r->node->write_taken = false;
    }
}

/* Runs without a yield. */
static RUNS_IN_MAIN void reopen_commit(Reopen *reopen)
{
    BlockReopen **list = (BlockReopen **)reopen->nodes->pdata;
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockNode *n = list[i]->node;
        reopen_drop_writes(list[i]);
        n->flags = list[i]->flags;
        if (n->drv->reopen_commit != NULL) {
            n->limits = list[i]->limits;
            atomic_store_explicit(&n->size, list[i]->size, memory_order_relaxed);
            n->drv->reopen_commit(n, list[i]);
        }
        trace_block_node_reopen(n->name, n->flags.read_only, n->flags.cache_direct);
    }
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        reopen_take_writes(list[i]);
        reopen_notify_parents(list[i]->node);
    }
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
    reopen_find_backends(reopen);
    BlockBackend **blks = (BlockBackend **)reopen->backends->pdata;
    co_drained_begin(blks, reopen->backends->len);
    bool ok = reopen_co_flush(reopen, error);
    reopen_read_present(reopen);
    ok = ok && reopen_co_prepare(reopen, error) && reopen_check_writers(reopen, error);
    if (ok) {
        reopen_commit(reopen);
    }
    reopen_co_clean(reopen, ok);
    co_drained_end(blks, reopen->backends->len);
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
