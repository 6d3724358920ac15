/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img snapshot: the internal snapshots of an image. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include "block/img/img.h"

static void snapshot_print(const BlockSnapshotInfo *s)
{
    time_t date = (time_t)s->date_s;
    uint64_t seconds = s->vm_clock_ns / 1000000000;
    struct tm tm = {0};
    char date_text[64] = "";
    localtime_r(&date, &tm);
    strftime(date_text, sizeof(date_text), "%Y-%m-%d %H:%M:%S", &tm);
    g_autofree char *clock_text = g_strdup_printf(
        "%02" PRIu64 ":%02u:%02u.%03u", seconds / 3600, (unsigned)(seconds / 60 % 60),
        (unsigned)(seconds % 60), (unsigned)(s->vm_clock_ns / 1000000 % 1000));
    g_autofree char *icount =
        s->icount != UINT64_MAX ? g_strdup_printf("%" PRIu64, s->icount) : g_strdup("");
    g_autofree char *id = opt_printable(s->id), *name = opt_printable(s->name);
    g_autofree char *size = img_size_text(s->vm_state_size);
    printf("%-9s %-16s %8s%20s%13s%11s\n", id, name, size, date_text, clock_text, icount);
}

void img_print_snapshots(const BlockImageInfo *info)
{
    if (info->snapshot_count == 0) {
        return;
    }
    printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
           "VM CLOCK", "ICOUNT");
    for (unsigned i = 0; i < info->snapshot_count; i++) {
        snapshot_print(&info->snapshots[i]);
    }
}

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

static coroutine_fn RUNS_IN_MAIN int snapshot_co_list(Img *img, const ImgOpen *open)
{
    SnapshotList l = {.blk = img_co_open(img, "image", open)};
    if (l.blk == NULL) {
        return 1;
    }
    co_call_in(img->home, snapshot_list_at_home, &l);
    blk_co_free(l.blk);
    if (l.error != NULL) {
        img_error("%s", l.error->message);
        g_error_free(l.error);
        return 1;
    }
    img_print_snapshots(&l.info);
    block_image_info_clear(&l.info);
    return 0;
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
    if (create != NULL || apply != NULL || delete != NULL) {
        img_error("skiff-img does not create, apply or delete snapshots; it lists them");
        return 1;
    }
    return snapshot_co_list(img, &o);
}
