/* SPDX-License-Identifier: Apache-2.0 */
/* What an image says about itself, its internal snapshots and its backing file. */
#include <errno.h>
#include <json-c/json.h>
#include "block/node.h"

void block_node_image_config(const BlockNode *n, BlockImageInfo *info)
{
    *info = (BlockImageInfo){0};
    if (n->drv->image_config != NULL) {
        n->drv->image_config(n, info);
    }
}

bool block_node_co_image_info(BlockNode *n, BlockImageInfo *info, GError **error)
{
    *info = (BlockImageInfo){0};
    block_node_begin(n);
    bool ok = n->drv->co_image_info == NULL || n->drv->co_image_info(n, info, error);
    block_node_end(n);
    if (!ok) {
        block_image_info_clear(info);
    }
    return ok;
}

void block_image_info_clear(BlockImageInfo *info)
{
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        g_free(info->snapshots[i].id);
        g_free(info->snapshots[i].name);
    }
    g_free(info->snapshots);
    g_free(info->backing_name);
    g_free(info->backing_path);
    g_free(info->backing_format);
    if (info->specific != NULL) {
        json_object_put(info->specific);
    }
    *info = (BlockImageInfo){0};
}

bool block_node_co_view_snapshot(BlockNode *n, const char *id, const char *name, GError **error)
{
    g_assert(n->flags.read_only);
    if (n->drv->co_view_snapshot == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Device '%s' does not support internal snapshots", n->drv->name);
        return false;
    }
    block_node_begin(n);
    bool ok = n->drv->co_view_snapshot(n, id, name, error);
    block_node_end(n);
    return ok;
}

int block_node_co_change_backing(BlockNode *n, const char *name, const char *format)
{
    g_assert(!n->flags.read_only);
    block_node_begin(n);
    int ret =
        n->drv->co_change_backing != NULL ? n->drv->co_change_backing(n, name, format) : -ENOTSUP;
    block_node_end(n);
    return ret;
}

int block_node_co_make_empty(BlockNode *n)
{
    g_assert(!n->flags.read_only);
    block_node_begin(n);
    int ret = n->drv->co_make_empty != NULL ? n->drv->co_make_empty(n) : -ENOTSUP;
    block_node_end(n);
    return ret;
}
