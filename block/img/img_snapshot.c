/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img snapshot: lists, creates, applies and deletes internal snapshots of an image. */
#include <errno.h>
#include <stdio.h>
#include "block/image_text.h"
#include "block/img/img.h"

typedef struct SnapshotList {
    BlockBackend *blk;
    BlockImageInfo info;
    GError *error;
} SnapshotList;

static void snapshot_list_at_home(void *opaque)
{
    SnapshotList *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    block_node_co_image_info(blk_root(l->blk), &l->info, &l->error);
}

static coroutine_fn RUNS_IN_MAIN int snapshot_co_list(Img *img, BlockBackend *blk)
{
    SnapshotList l = {.blk = blk};
    co_call_in(img->home, snapshot_list_at_home, &l);
    if (l.error != NULL) {
        img_error("%s", l.error->message);
        g_error_free(l.error);
        return 1;
    }
    g_autoptr(GString) text = g_string_new(NULL);
    block_image_append_snapshots(text, &l.info);
    fputs(text->str, stdout);
    block_image_info_clear(&l.info);
    return 0;
}

/* ---- changes ---- */

#define SNAPSHOT_NAME_MAX 255 /* QEMU cuts longer names off */

static coroutine_fn RUNS_IN_MAIN int snapshot_co_create(BlockNode *n, const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *cut = g_strndup(name, SNAPSHOT_NAME_MAX);
    BlockSnapshotInfo info = block_snapshot_info_now(cut);
    info.icount = 0; /* as QEMU's */
    int ret = block_node_co_snapshot_create(n, &info, &error);
    if (ret < 0) {
        img_error("Could not create snapshot '%s': %d (%s)", name, ret, error->message);
    }
    return ret < 0 ? 1 : 0;
}

static coroutine_fn RUNS_IN_MAIN int snapshot_co_apply(BlockNode *n, const char *name)
{
    g_autoptr(GError) error = NULL;
    if (block_node_co_snapshot_apply(n, name, &error) < 0) {
        img_error("Could not apply snapshot '%s': %s", name, error->message);
        return 1;
    }
    return 0;
}

static coroutine_fn RUNS_IN_MAIN int snapshot_co_delete(BlockNode *n, const char *name)
{
    g_autoptr(GError) error = NULL;
    int ret =
        block_node_can_snapshot(n) ? block_node_co_snapshot_delete(n, NULL, name, &error) : -ENOENT;
    if (ret == -ENOENT) {
        img_error("Could not delete snapshot '%s': snapshot not found", name);
    } else if (ret < 0) {
        img_error("Could not delete snapshot '%s': %s", name, error->message);
    }
    return ret < 0 ? 1 : 0;
}

int img_co_snapshot(Img *img)
{
    ImgOpen o = {0};
    bool list = false, quiet = false;
    const char *create = NULL, *apply = NULL, *delete = NULL;
    const ImgOption options[] = {
        {"list", 'l', IMG_FLAG, &list},
        {"create", 'c', IMG_TEXT, &create},
        {"apply", 'a', IMG_TEXT, &apply},
        {"delete", 'd', IMG_TEXT, &delete},
        {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {"quiet", 'q', IMG_FLAG, &quiet},
        {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (list + (create != NULL) + (apply != NULL) + (delete != NULL) > 1) {
        return img_usage_error("Cannot mix '-l', '-a', '-c', '-d'");
    }
    if (img->file_count != 1) {
        return img_usage_error("Expecting one image file name");
    }
    o.filename = img->files[0];
    o.writable = o.unmap = !list;
    BlockBackend *blk = img_co_open(img, "image", &o);
    if (blk == NULL) {
        return 1;
    }
    status = 0;
    if (create != NULL) {
        status = snapshot_co_create(blk_root(blk), create);
    } else if (apply != NULL) {
        status = snapshot_co_apply(blk_root(blk), apply);
    } else if (delete != NULL) {
        status = snapshot_co_delete(blk_root(blk), delete);
    } else if (list) {
        status = snapshot_co_list(img, blk);
    }
    blk_co_free(blk);
    return status;
}
