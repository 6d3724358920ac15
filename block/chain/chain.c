/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/chain.h"
#include <string.h>
#include "block/chain/new_image.h"
#include "util/log.h"

/* ---- walking ---- */

BlockNode *chain_next(const BlockNode *n)
{
    return n->drv->is_filter ? n->file : n->backing;
}

BlockNode *chain_image(BlockNode *n)
{
    while (n->drv->is_filter && n->file != NULL) {
        n = n->file;
    }
    return n;
}

bool chain_contains(const BlockNode *root, const BlockNode *n)
{
    while (root != NULL && root != n) {
        root = chain_next(root);
    }
    return root != NULL;
}

static bool chain_same_path(const char *a, const char *b)
{
    if (a == NULL || b == NULL) {
        return false;
    }
    g_autofree char *path_a = g_canonicalize_filename(a, NULL);
    g_autofree char *path_b = g_canonicalize_filename(b, NULL);
    return strcmp(path_a, path_b) == 0;
}

BlockNode *chain_find_file(BlockNode *root, const char *name)
{
    for (BlockNode *n = root, *next; n != NULL; n = next) {
        next = chain_next(n);
        if (next == NULL || n->drv->is_filter) {
            continue;
        }
        BlockNode *below = chain_image(next);
        const BlockImageInfo *info = block_node_image_info(n);
        bool named = info != NULL && g_strcmp0(info->backing_name, name) == 0;
        if (named || chain_same_path(block_node_filename(below), name)) {
            return next;
        }
    }
    return NULL;
}

unsigned chain_depth(const BlockNode *top, const BlockNode *base)
{
    unsigned depth = 0;
    if (base == NULL) {
        return UINT_MAX;
    }
    for (; top != base; top = chain_next(top)) {
        depth += top->drv->is_filter ? 0 : 1;
    }
    return depth;
}

/* ---- names ---- */

bool chain_name_init(ChainName *c, BlockNode *n, const BlockNode *backing, const char *name,
                     GError **error)
{
    const BlockImageInfo *info = block_node_image_info(n);
    const char *format = NULL;
    *c = (ChainName){.node = n};
    if (backing != NULL && name == NULL) {
        c->name = new_image_backing_path(backing, &format, error);
        if (c->name == NULL) {
            g_prefix_error(error, "the new backing file needs a name (backing-file): ");
            return false;
        }
    } else if (backing != NULL) {
        const BlockNode *image = chain_image((BlockNode *)(uintptr_t)backing);
        c->name = g_strdup(name);
        format = image->drv->name;
    }
    c->format = g_strdup(format);
    if (info != NULL) {
        c->old_name = g_strdup(info->backing_name);
        c->old_format = g_strdup(info->backing_format);
    }
    return true;
}

static void chain_name_at_home(void *opaque)
{
    ChainName *c = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(c->node));
    c->ret = block_node_co_flush(c->node);
    if (c->ret == 0) {
        c->ret = block_node_co_change_backing(c->node, c->name, c->format);
    }
}

static void chain_name_undo_at_home(void *opaque)
{
    ChainName *c = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(c->node));
    c->ret = block_node_co_change_backing(c->node, c->old_name, c->old_format);
}

bool chain_name_co_write(ChainName *c, GError **error)
{
    co_call_in(block_node_home(c->node), chain_name_at_home, c);
    c->done = c->ret == 0;
    if (c->ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "Could not change the backing file of node '%s' to '%s': %s",
                    block_node_name(c->node), c->name != NULL ? c->name : "", g_strerror(-c->ret));
    }
    return c->done;
}

void chain_name_co_undo(ChainName *c)
{
    if (!c->done) {
        return;
    }
    co_call_in(block_node_home(c->node), chain_name_undo_at_home, c);
    if (c->ret < 0) {
        log_warn("node '%s': its image names the backing file '%s' although it is '%s': %s",
                 block_node_name(c->node), c->name != NULL ? c->name : "",
                 c->old_name != NULL ? c->old_name : "", g_strerror(-c->ret));
    }
    c->done = false;
}

void chain_name_clear(ChainName *c)
{
    g_free(c->name);
    g_free(c->format);
    g_free(c->old_name);
    g_free(c->old_format);
    *c = (ChainName){0};
}

/* ---- flush ---- */

typedef struct ChainFlush {
    BlockNode *node;
    int ret;
} ChainFlush;

static void chain_flush_at_home(void *opaque)
{
    ChainFlush *f = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(f->node));
    f->ret = block_node_co_flush(f->node);
}

int chain_co_flush(BlockNode *n)
{
    ChainFlush f = {.node = n};
    co_call_in(block_node_home(n), chain_flush_at_home, &f);
    return f.ret;
}
