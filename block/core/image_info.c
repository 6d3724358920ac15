/* SPDX-License-Identifier: Apache-2.0 */
/* What an image says about itself, its internal snapshots and its backing file. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"

/* ---- for queries: the home publishes, main takes, and neither waits ---- */

static void image_info_free(BlockImageInfo *info)
{
    if (info != NULL) {
        block_image_info_clear(info);
        g_free(info);
    }
}

void block_node_publish_image_info(BlockNode *n, BlockImageInfo *info)
{
    image_info_free(atomic_exchange(&n->published_info, info));
}

static RUNS_IN_MAIN void image_info_take(BlockNode *n)
{
    BlockImageInfo *info = atomic_exchange(&n->published_info, NULL);
    if (info != NULL) {
        image_info_free(n->image_info);
        n->image_info = info;
    }
}

void block_node_free_image_info(BlockNode *n)
{
    image_info_take(n);
    image_info_free(n->image_info);
}

static void image_info_copy_snapshots(BlockImageInfo *to, const BlockImageInfo *from)
{
    to->snapshots = g_new0(BlockSnapshotInfo, from->snapshot_count);
    to->snapshot_count = from->snapshot_count;
    for (unsigned i = 0; i < from->snapshot_count; i++) {
        to->snapshots[i] = from->snapshots[i];
        to->snapshots[i].id = g_strdup(from->snapshots[i].id);
        to->snapshots[i].name = g_strdup(from->snapshots[i].name);
    }
}

/* As QEMU shows a raw node: with what is true for both nodes. */
static RUNS_IN_MAIN void image_info_take_of_file(BlockNode *n)
{
    const BlockImageInfo *file = block_node_image_info(n->file);
    image_info_free(g_steal_pointer(&n->image_info));
    if (file != NULL) {
        n->image_info = g_new0(BlockImageInfo, 1);
        n->image_info->cluster_size = file->cluster_size;
        n->image_info->dirty = file->dirty;
        image_info_copy_snapshots(n->image_info, file);
    }
}

const BlockImageInfo *block_node_image_info(BlockNode *n)
{
    if (n->drv->shows_file) {
        image_info_take_of_file(n);
    } else {
        image_info_take(n);
    }
    return n->image_info;
}

/* ---- requests to the image ---- */

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

const BlockSnapshotInfo *block_image_find_snapshot(const BlockImageInfo *info, const char *id,
                                                   const char *name)
{
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        const BlockSnapshotInfo *s = &info->snapshots[i];
        if ((id == NULL || strcmp(s->id, id) == 0) &&
            (name == NULL || strcmp(s->name, name) == 0)) {
            return s;
        }
    }
    return NULL;
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

typedef struct ImageView {
    BlockNode *node;
    const char *id, *name;
    GError **error;
    bool ok;
} ImageView;

static void image_view_at_home(void *opaque)
{
    ImageView *v = opaque;
    BlockNode *n = v->node;
    enter_coroutine();
    enter_iothread(n->home);
    block_node_begin(n);
    v->ok = n->drv->co_view_snapshot(n, v->id, v->name, v->error);
    block_node_end(n);
}

bool block_node_co_view_snapshot(BlockNode *n, const char *id, const char *name, GError **error)
{
    ImageView v = {.node = n, .id = id, .name = name, .error = error};
    g_assert(n->flags.read_only);
    if (n->drv->co_view_snapshot == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Device '%s' does not support internal snapshots", n->drv->name);
        return false;
    }
    co_call_in(n->home, image_view_at_home, &v);
    blk_note_sizes(n);
    return v.ok;
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
