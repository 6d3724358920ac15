/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes: opening from options, names, references. */
#include <stdlib.h>
#include <string.h>
#include "block/core/dirty_bitmap.h"
#include "block/core/node_int.h"
#include "block/core/node_io.h"
#include "block/graph.h"
#include "block/trace_events.h"

/* Main only. A name is in the table from before the node opens until after it is closed. */
static GHashTable *node_table;
static unsigned node_serial, node_anonymous;

GQuark block_error_quark(void)
{
    return g_quark_from_static_string("skiff-block");
}

/* Takes the given name, or generates one that no user can choose. */
static char *node_claim_name(const char *wanted, GError **error)
{
    if (wanted == NULL) {
        return g_strdup_printf("#block%03u", node_anonymous++);
    }
    g_autofree char *excerpt = opt_excerpt(wanted);
    if (!opt_id_valid(wanted)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Invalid node-name: '%s'; it must begin with a letter and contain only "
                    "letters, digits, '-', '.' and '_'",
                    excerpt);
        return NULL;
    }
    if (strlen(wanted) > BLOCK_NODE_NAME_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Node name too long: '%s' has %zu characters, at most %d are allowed", excerpt,
                    strlen(wanted), BLOCK_NODE_NAME_MAX);
        return NULL;
    }
    if (node_table != NULL && g_hash_table_contains(node_table, wanted)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Duplicate nodes with node-name='%s'; choose another", wanted);
        return NULL;
    }
    return g_strdup(wanted);
}

static const BlockDriver *node_find_driver(const char *name, GError **error)
{
    const char *const *names = block_driver_names();
    g_autofree char *all = g_strjoinv(", ", (char **)(uintptr_t)names);
    if (name == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "'driver' is missing; skiff has the drivers %s", all);
        return NULL;
    }
    const BlockDriver *drv = block_driver_find(name);
    if (drv == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "skiff has no driver '%s'; it has: %s",
                    name, all);
    }
    return drv;
}

const BlockLimits node_no_limits = {
    .request_alignment = 1,
    .memory_alignment = 1,
    .zero_alignment = 1,
    .max_transfer = (uint64_t)1 << 30,
    .max_iov = 1024,
    .max_discard = (uint64_t)1 << 40,
    .max_write_zeroes = (uint64_t)1 << 40,
};

/* Creates a node that is not open. Takes @name. */
static BlockNode *node_alloc(const BlockDriver *drv, char *name, AioContext *home)
{
    BlockNode *n = g_new0(BlockNode, 1);
    n->drv = drv;
    n->home = home;
    n->name = name;
    n->refs = 1;
    n->height = 1;
    n->children = g_ptr_array_new();
    n->parents = g_ptr_array_new();
    n->bitmap_names = g_ptr_array_new();
    n->serial = node_serial++;
    block_node_drain_init(n);
    co_queue_init(&n->bounce_waiters);
    if (node_table == NULL) {
        node_table = g_hash_table_new(g_str_hash, g_str_equal);
    }
    g_hash_table_insert(node_table, n->name, n);
    return n;
}

/* Creates a node that is named and configured but not open. Takes the common options from @d. */
static BlockNode *node_new(OptDict *d, AioContext *home, GError **error)
{
    NodeOptions o;
    if (!node_options_take(d, &o, error)) {
        return NULL;
    }
    BlockNode *n = NULL;
    const BlockDriver *drv = node_find_driver(o.driver, error);
    char *name = drv != NULL ? node_claim_name(o.node_name, error) : NULL;
    if (name != NULL) {
        n = node_alloc(drv, name, home);
        n->state = g_malloc0(drv->state_size);
        n->flags = node_options_flags(&o);
    }
    node_options_clear(&o);
    return n;
}

BlockNode *block_node_create(const BlockNodeCreate *how, GError **error)
{
    char *name = node_claim_name(how->name, error);
    if (name == NULL) {
        return NULL;
    }
    BlockNode *n = node_alloc(how->drv, name, how->home);
    n->state = how->state != NULL ? how->state : g_malloc0(how->drv->state_size);
    n->flags = how->flags;
    n->limits = node_no_limits;
    n->caps = how->drv->caps;
    n->open = n->created = n->detached = true;
    n->unnamed = how->name == NULL;
    return n;
}

static RUNS_IN_MAIN void node_free(BlockNode *n)
{
    g_hash_table_remove(node_table, n->name);
    if (g_hash_table_size(node_table) == 0) {
        g_hash_table_unref(node_table);
        node_table = NULL;
    }
    g_ptr_array_unref(n->children);
    g_ptr_array_unref(n->parents);
    node_bitmaps_free(n);
    block_node_free_image_info(n);
    g_clear_pointer(&n->child_options, opt_dict_free);
    g_free(n->state);
    g_free(n->name);
    g_free(n);
}

/* ---- opening and closing ---- */

static bool node_alignment_ok(uint64_t alignment, uint64_t max)
{
    return alignment >= 1 && alignment <= max && (alignment & (alignment - 1)) == 0;
}

/* The limits that a driver found on the host may exceed those that skiff supports. */
static bool node_check_limits(const BlockNode *n, GError **error)
{
    const BlockLimits *l = &n->limits;
    if (!node_alignment_ok(l->request_alignment, BLOCK_ALIGNMENT_MAX) ||
        !node_alignment_ok(l->zero_alignment, UINT32_MAX / 2 + 1) ||
        !node_alignment_ok(l->memory_alignment, BLOCK_MEMORY_ALIGNMENT_MAX)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s' requires alignment of requests to %u and of memory to %u bytes, "
                    "which is too large",
                    n->name, l->request_alignment, l->memory_alignment);
        return false;
    }
    if (block_node_size(n) > BLOCK_SIZE_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "node '%s' is too large", n->name);
        return false;
    }
    uint64_t coarsest = MAX(l->request_alignment, l->zero_alignment);
    if (l->max_transfer < l->request_alignment ||
        !block_is_aligned(l->max_transfer, l->request_alignment) || l->max_iov == 0 ||
        !block_is_aligned(l->max_discard, coarsest) ||
        !block_is_aligned(l->max_write_zeroes, coarsest)) {
        bug_abort("driver '%s' of node '%s' has limits that do not fit its alignment", n->drv->name,
                  n->name);
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool node_open_driver(BlockNode *n, OptDict *d, GError **error)
{
    g_autofree char *what = g_strdup_printf("blockdev driver=%s", n->drv->name);
    node_take_child_options(n, d);
    opts_init(n->drv->options, n->state);
    if (!opts_bind(n->drv->options, n->state, d, what, error)) {
        return false;
    }
    n->limits = node_no_limits;
    n->caps = n->drv->caps;
    if (!n->drv->co_open(n, error)) {
        opts_clear(n->drv->options, n->state);
        return false;
    }
    n->open = true;
    bool ok = node_check_child_options(n, error) && node_check_limits(n, error);
    g_clear_pointer(&n->child_options, opt_dict_free);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN void node_co_close(BlockNode *n)
{
    trace_block_node_close(n->name);
    bool was_open = n->open;
    n->open = false;
    if (was_open) {
        block_node_co_quiesce(n); /* it has no user; its own operations end */
    }
    if (n->track.root != NULL || n->parents->len > 0) {
        bug_abort("node '%s' is closed while %s", n->name,
                  n->track.root != NULL ? "requests are in flight" : "it has a user");
    }
    if (was_open) {
        if (n->drv->co_close != NULL) {
            n->drv->co_close(n);
        }
        opts_clear(n->drv->options, n->state);
    }
    node_co_close_children(n);
    node_free(n);
    block_graph_wake();
}

BlockNode *block_co_open(const OptDict *opts, AioContext *home, GError **error)
{
    if (home == aio_context_current()) {
        bug_abort("a block node is opened in '%s', the context of main", aio_context_name(home));
    }
    g_autoptr(OptDict) d = opt_dict_copy(opts);
    BlockNode *n = node_new(d, home, error);
    if (n == NULL) {
        return NULL;
    }
    if ((n->drv->has_file && !node_co_open_file(n, d, error)) || !node_open_driver(n, d, error)) {
        node_co_close(n);
        return NULL;
    }
    trace_block_node_open(n->name, n->drv->name, block_node_size(n));
    return n;
}

static int node_compare_serials(const void *a, const void *b)
{
    const BlockNode *first = *(BlockNode *const *)a, *second = *(BlockNode *const *)b;
    return first->serial < second->serial ? -1 : 1;
}

BlockNode **block_node_list(unsigned *count)
{
    GHashTableIter iter;
    gpointer node;
    *count = 0;
    BlockNode **list = g_new0(BlockNode *, node_table != NULL ? g_hash_table_size(node_table) : 1);
    if (node_table != NULL) {
        g_hash_table_iter_init(&iter, node_table);
        while (g_hash_table_iter_next(&iter, NULL, &node)) {
            BlockNode *n = node;
            if (n->open && !n->detached) {
                list[(*count)++] = n;
            }
        }
    }
    qsort(list, *count, sizeof(list[0]), node_compare_serials);
    return list;
}

bool block_home_in_use(const AioContext *home)
{
    GHashTableIter iter;
    gpointer node;
    bool used = false;
    if (node_table != NULL) {
        g_hash_table_iter_init(&iter, node_table);
        while (g_hash_table_iter_next(&iter, NULL, &node)) {
            used = used || ((BlockNode *)node)->home == home;
        }
    }
    return used;
}

/* The bottom of the chain of files. */
static const BlockNode *node_bottom(const BlockNode *n)
{
    while (n->file != NULL) {
        n = n->file;
    }
    return n;
}

const char *block_node_filename(const BlockNode *n)
{
    n = node_bottom(n);
    return n->drv->filename != NULL ? n->drv->filename(n) : NULL;
}

bool block_node_is_remote(const BlockNode *n)
{
    return node_bottom(n)->drv->is_remote;
}

const char *block_node_aio(const BlockNode *n)
{
    n = node_bottom(n);
    return n->drv->aio != NULL ? n->drv->aio(n) : NULL;
}

bool block_node_file_direct(const BlockNode *n)
{
    return node_bottom(n)->flags.cache_direct;
}

void block_node_info(const BlockNode *n, BlockNodeInfo *info)
{
    *info = (BlockNodeInfo){
        .driver = n->drv->name,
        .child = n->file,
        .backing = block_node_child(n, "backing"),
        .filtered = n->drv->is_filter ? n->file : NULL,
        .read_only = n->flags.read_only,
        .cache_direct = n->flags.cache_direct,
        .cache_no_flush = n->flags.cache_no_flush,
        .size = block_node_size(n),
    };
    info->filename = block_node_filename(n);
}

BlockNode *block_node_find(const char *node_name)
{
    BlockNode *n = node_table != NULL ? g_hash_table_lookup(node_table, node_name) : NULL;
    return n != NULL && n->open && !n->detached ? n : NULL;
}

void block_node_ref(BlockNode *n)
{
    n->refs++;
}

void block_co_unref(BlockNode *n)
{
    if (--n->refs == 0) {
        node_co_close(n);
    }
}

void block_node_follow_size(BlockNode *n, uint64_t size)
{
    if (size != block_node_size(n)) {
        node_set_size(n, size);
    }
}

const char *block_node_name(const BlockNode *n)
{
    return n->name;
}

AioContext *block_node_home(const BlockNode *n)
{
    return n->home;
}

bool block_node_read_only(const BlockNode *n)
{
    return n->flags.read_only;
}
