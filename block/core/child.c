/* SPDX-License-Identifier: Apache-2.0 */
/* Children of a node: opening from its description, closing. */
#include <string.h>
#include "block/core/node_int.h"

void node_child_inherit(OptDict *child, BlockChildRole role, const BlockNodeFlags *flags)
{
    BlockNodeFlags inherited = *flags;
    if (role == BLOCK_ROLE_BACKING) {
        inherited.read_only = true;
        inherited.auto_read_only = false;
    }
    node_options_inherit(child, &inherited);
}

/* The node of that name, when no graph change includes it. NULL: none. */
static coroutine_fn RUNS_IN_MAIN BlockNode *child_co_find(const char *name)
{
    BlockNode *child = block_node_find(name);
    while (child != NULL && child->changing != NULL) {
        block_node_co_pass_gate(child);
        child = block_node_find(name); /* it may have been deleted */
    }
    return child;
}

/* Returns a reference. */
static coroutine_fn RUNS_IN_MAIN BlockNode *child_co_refer_to(const char *option, const char *name,
                                                              GError **error)
{
    BlockNode *child = child_co_find(name);
    if (child == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s=%s: there is no node of that name; put its -blockdev first", option, name);
        return NULL;
    }
    if (child->moving) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "%s=%s: the node is moving to another iothread", option, name);
        return NULL;
    }
    block_node_ref(child);
    return child;
}

/* All children of a node live in one home. The first one decides; a later one must live there. */
static RUNS_IN_MAIN bool child_check_home(BlockNode *n, const char *option, const BlockNode *child,
                                          GError **error)
{
    if (n->children->len == 0) {
        n->home = child->home; /* it may be in use there; with a parent it cannot move */
        return true;
    }
    if (child->home == n->home) {
        return true;
    }
    const BlockEdge *first = n->children->pdata[0];
    g_set_error(
        error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
        "the children of node '%s' live in different iothreads: %s, node '%s', in '%s'; %s, "
        "node '%s', in '%s'",
        n->name, first->name, first->node->name, aio_context_name(n->home), option, child->name,
        aio_context_name(child->home));
    return false;
}

static RUNS_IN_MAIN bool child_attach(BlockNode *n, const char *name, BlockChildRole role,
                                      BlockNode *child, GError **error)
{
    if (child->height > BLOCK_DEPTH_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "node '%s' has more than %u nodes below it", n->name, BLOCK_DEPTH_MAX);
        return false;
    }
    if (!child_check_home(n, name, child, error)) {
        return false;
    }
    bool writes = role != BLOCK_ROLE_BACKING;
    if (writes && child->flags.read_only && n->flags.auto_read_only) {
        n->flags.read_only = true;
    }
    g_autofree char *user = g_strdup_printf("node '%s'", n->name);
    BlockEdge like = {.parent = n,
                      .node = child,
                      .name = (char *)(uintptr_t)name,
                      .user = user,
                      .reads = "read-only=on",
                      .role = role};
    block_edge_set_uses(&like, writes && !n->flags.read_only);
    g_autoptr(GError) refusal = NULL;
    if (block_edge_new(&like, &refusal) != NULL) {
        return true;
    }
    if (writes || block_node_writer(child) == NULL) {
        g_propagate_error(error, g_steal_pointer(&refusal));
        return false;
    }
    /* An overlay above a node in use: a backup can keep there what the node had. Until then it has no
     * user, and does not restrict the node. */
    n->hidden = true;
    block_edge_new_unchecked(&like);
    return true;
}

/* ---- nesting ---- */

/* The nodes that a coroutine is opening, each a child of the one before. */
typedef struct ChildOpening {
    const Coroutine *co;
    struct ChildOpening *outer;
} ChildOpening;
static ChildOpening *child_openings; /* main only; other coroutines' are in between */

static RUNS_IN_MAIN unsigned child_nesting(void)
{
    unsigned nesting = 0;
    for (const ChildOpening *o = child_openings; o != NULL; o = o->outer) {
        nesting += o->co == co_self();
    }
    return nesting;
}

static RUNS_IN_MAIN void child_end_opening(const ChildOpening *o)
{
    ChildOpening **link = &child_openings;
    while (*link != o) {
        link = &(*link)->outer;
    }
    *link = o->outer;
}

/* As block_co_open(), with a limit to the recursion: an image can name itself as backing file. */
static coroutine_fn RUNS_IN_MAIN BlockNode *child_co_open_nested(const BlockNode *n,
                                                                 const OptDict *d, GError **error)
{
    ChildOpening o = {.co = co_self(), .outer = child_openings};
    child_openings = &o;
    BlockNode *child = NULL;
    if (child_nesting() > BLOCK_DEPTH_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_DEPTH,
                    "the chain of images is a loop, or has more than %u nodes", BLOCK_DEPTH_MAX);
    } else {
        child = block_co_open(d, n->home, error);
    }
    child_end_opening(&o);
    return child;
}

/* Consumes @nested. */
static coroutine_fn RUNS_IN_MAIN bool child_co_open(BlockNode *n, const char *name,
                                                    BlockChildRole role, OptDict *nested,
                                                    const char *node_name, GError **error)
{
    BlockNode *child;
    if (nested != NULL) {
        node_child_inherit(nested, role, &n->flags);
        child = child_co_open_nested(n, nested, error);
        opt_dict_free(nested);
    } else {
        child = child_co_refer_to(name, node_name, error);
    }
    if (child == NULL) {
        return false;
    }
    bool ok = child_attach(n, name, role, child, error);
    block_co_unref(child); /* the edge has its own */
    return ok;
}

/* The home for a file that is opened for @n: that of a node that @d names as another child, which may be in
 * use there. */
static RUNS_IN_MAIN AioContext *child_home_of_file(const BlockNode *n, const OptDict *d)
{
    for (const char *const *name = n->drv->children; name != NULL && *name != NULL; name++) {
        const char *value = opt_dict_get(d, *name);
        const BlockNode *child = value != NULL ? block_node_find(value) : NULL;
        if (child != NULL) {
            return child->home;
        }
    }
    return n->home;
}

bool node_co_open_file(BlockNode *n, OptDict *d, GError **error)
{
    n->home = child_home_of_file(n, d);
    OptDict *nested = opt_dict_take_dict(d, "file");
    g_autofree char *name = nested == NULL ? opt_dict_take(d, "file") : NULL;
    if (nested == NULL && name == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "driver=%s needs file=NODE or file.driver=...,file.filename=...", n->drv->name);
        return false;
    }
    return child_co_open(n, "file", BLOCK_ROLE_FILE, nested, name, error);
}

bool block_node_co_open_child(BlockNode *n, const char *name, BlockChildRole role, OptDict *implied,
                              GError **error)
{
    g_autoptr(OptDict) unused = implied;
    if (opt_dict_is_null(n->child_options, name)) {
        opt_dict_remove(n->child_options, name);
        return true;
    }
    OptDict *nested = opt_dict_take_dict(n->child_options, name);
    g_autofree char *node_name = nested == NULL ? opt_dict_take(n->child_options, name) : NULL;
    if (node_name != NULL && node_name[0] == '\0') {
        return true;
    }
    if (nested == NULL && node_name == NULL) {
        nested = g_steal_pointer(&unused);
    }
    return (nested == NULL && node_name == NULL) ||
           child_co_open(n, name, role, nested, node_name, error);
}

void node_take_child_options(BlockNode *n, OptDict *d)
{
    n->child_options = opt_dict_new();
    for (const char *const *name = n->drv->children; name != NULL && *name != NULL; name++) {
        OptDict *nested = opt_dict_take_dict(d, *name);
        g_autofree char *value = nested == NULL ? opt_dict_take(d, *name) : NULL;
        if (nested != NULL) {
            opt_dict_set_dict(n->child_options, *name, nested);
        } else if (value != NULL) {
            opt_dict_set(n->child_options, *name, value);
        } else if (opt_dict_is_null(d, *name)) {
            opt_dict_remove(d, *name);
            opt_dict_set(n->child_options, *name, "");
        }
    }
}

bool node_check_child_options(BlockNode *n, GError **error)
{
    for (const char *const *name = n->drv->children; name != NULL && *name != NULL; name++) {
        const char *value = opt_dict_get(n->child_options, *name);
        if (opt_dict_has(n->child_options, *name) && (value == NULL || value[0] != '\0')) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "the image of node '%s' has no use for the option '%s'", n->name, *name);
            return false;
        }
    }
    return true;
}

void node_co_close_children(BlockNode *n)
{
    while (n->children->len > 0) {
        block_edge_co_free(n->children->pdata[n->children->len - 1]);
    }
}
