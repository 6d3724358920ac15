/* SPDX-License-Identifier: Apache-2.0 */
/* Reopening: how each node will be, from the options of a user or from what it is now. */
#include <string.h>
#include "block/core/node_int.h"
#include "block/core/reopen_int.h"

BlockReopen *reopen_find(const Reopen *reopen, const BlockNode *n)
{
    for (unsigned i = 0; i < reopen->nodes->len; i++) {
        BlockReopen *r = reopen->nodes->pdata[i];
        if (r->node == n) {
            return r;
        }
    }
    return NULL;
}

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

bool reopen_describe_root(Reopen *reopen, const OptDict *opts, GError **error)
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

/* ---- another access, all else the same ---- */

/* Whether the node has a writer other than @parent. */
static RUNS_IN_MAIN bool reopen_has_other_writer(const BlockNode *n, const BlockNode *parent)
{
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != parent && (e->uses & BLOCK_USE_WRITE) != 0) {
            return true;
        }
    }
    return false;
}

void reopen_describe_read_only(Reopen *reopen, BlockNode *n, bool read_only)
{
    for (unsigned i = 0; i < n->children->len; i++) {
        const BlockEdge *e = n->children->pdata[i];
        bool follows = e->role != BLOCK_ROLE_BACKING && e->node->flags.read_only != read_only &&
                       reopen_find(reopen, e->node) == NULL &&
                       !(read_only && reopen_has_other_writer(e->node, n));
        if (follows) {
            reopen_describe_read_only(reopen, e->node, read_only);
        }
    }
    BlockReopen *r = g_new0(BlockReopen, 1);
    r->node = n;
    r->flags = n->flags;
    r->flags.read_only = read_only;
    r->state = g_malloc0(n->drv->state_size);
    opts_copy(n->drv->options, r->state, n->state);
    block_node_ref(n);
    g_ptr_array_add(reopen->nodes, r);
}
