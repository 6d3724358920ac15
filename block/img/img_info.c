/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img info: what an image says about itself, and the images below it. */
#include <stdio.h>
#include <string.h>
#include "block/image_text.h"
#include "block/img/img.h"
#include "util/opts/json.h"

/* An image of the chain. */
typedef struct InfoImage {
    BlockBackend *blk; /* while it is examined */
    char *filename;
    const char *format;
    uint64_t size;
    int64_t used; /* on the host; negative: unknown */
    BlockImageInfo image;
    GError *error;
} InfoImage;

static void info_image_free(void *image)
{
    InfoImage *i = image;
    g_free(i->filename);
    block_image_info_clear(&i->image);
    g_free(i);
}

static void info_at_home(void *opaque)
{
    InfoImage *i = opaque;
    enter_coroutine();
    enter_iothread(blk_home(i->blk));
    BlockNode *root = blk_root(i->blk);
    i->used = block_node_co_allocated_size(root);
    block_node_co_image_info(root, &i->image, &i->error);
}

/* ---- for people ---- */

static RUNS_IN_MAIN void info_print_human(const InfoImage *i)
{
    BlockImageText image = {i->filename, i->format, i->size, i->used, &i->image};
    g_autoptr(GString) text = g_string_new(NULL);
    block_image_append_text(text, &image);
    fputs(text->str, stdout);
}

/* ---- for programs: members in QEMU's order ---- */

static void info_add_text(struct json_object *o, const char *key, const char *text)
{
    if (text != NULL) {
        json_object_object_add(o, key, json_object_new_string(text));
    }
}

static void info_add_number(struct json_object *o, const char *key, uint64_t number)
{
    json_object_object_add(o, key, json_object_new_uint64(number));
}

static struct json_object *info_snapshot_object(const BlockSnapshotInfo *s)
{
    struct json_object *o = json_object_new_object();
    if (s->icount != UINT64_MAX) {
        info_add_number(o, "icount", s->icount);
    }
    info_add_number(o, "vm-clock-nsec", s->vm_clock_ns % 1000000000);
    info_add_text(o, "name", s->name);
    info_add_number(o, "date-sec", s->date_s);
    info_add_number(o, "date-nsec", s->date_ns);
    info_add_number(o, "vm-clock-sec", s->vm_clock_ns / 1000000000);
    info_add_text(o, "id", s->id);
    info_add_number(o, "vm-state-size", s->vm_state_size);
    return o;
}

static struct json_object *info_object(const InfoImage *i)
{
    const BlockImageInfo *info = &i->image;
    struct json_object *o = json_object_new_object();
    info_add_text(o, "backing-filename-format", info->backing_format);
    if (info->snapshot_count > 0) {
        struct json_object *list = json_object_new_array();
        for (unsigned k = 0; k < info->snapshot_count; k++) {
            json_object_array_add(list, info_snapshot_object(&info->snapshots[k]));
        }
        json_object_object_add(o, "snapshots", list);
    }
    info_add_number(o, "virtual-size", i->size);
    info_add_text(o, "filename", i->filename);
    if (info->cluster_size != 0) {
        info_add_number(o, "cluster-size", info->cluster_size);
    }
    info_add_text(o, "format", i->format);
    if (i->used >= 0) {
        info_add_number(o, "actual-size", (uint64_t)i->used);
    }
    if (info->specific != NULL) {
        json_object_object_add(o, "format-specific", json_object_get(info->specific));
    }
    info_add_text(o, "full-backing-filename", info->backing_path);
    info_add_text(o, "backing-filename", info->backing_name);
    json_object_object_add(o, "dirty-flag", json_object_new_boolean(info->dirty));
    return o;
}

static RUNS_IN_MAIN void info_print(const GPtrArray *images, bool json, bool chain)
{
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < images->len; i++) {
        if (json) {
            json_object_array_add(list, info_object(images->pdata[i]));
        } else {
            fputs(i > 0 ? "\n" : "", stdout);
            info_print_human(images->pdata[i]);
        }
    }
    if (json) {
        g_autoptr(GString) text = g_string_new(NULL);
        json_write_text(text, chain ? list : json_object_array_get_idx(list, 0), true);
        puts(text->str);
    }
    json_object_put(list);
}

/* ---- the images ---- */

/* NULL: reported. */
static coroutine_fn RUNS_IN_MAIN InfoImage *info_co_examine(Img *img, const ImgOpen *open)
{
    BlockBackend *blk = img_co_open(img, "image", open);
    if (blk == NULL) {
        return NULL;
    }
    InfoImage *i = g_new0(InfoImage, 1);
    BlockNodeInfo node;
    block_node_info(blk_root(blk), &node);
    i->blk = blk;
    i->filename = g_strdup(node.filename != NULL ? node.filename : open->filename);
    i->format = node.driver;
    i->size = node.size;
    co_call_in(img->home, info_at_home, i);
    blk_co_free(blk);
    i->blk = NULL;
    if (i->error != NULL) {
        img_error("%s", i->error->message);
        g_clear_error(&i->error);
        g_clear_pointer(&i, info_image_free);
    }
    return i;
}

/* Examines the image and, with @chain, those below it. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool info_co_collect(Img *img, ImgOpen open, bool chain,
                                                      GPtrArray *images)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    while (open.filename != NULL) {
        if (!g_hash_table_add(seen, (char *)(uintptr_t)open.filename)) {
            img_error("Backing file '%s' creates an infinite loop.", open.filename);
            return false;
        }
        InfoImage *i = info_co_examine(img, &open);
        if (i == NULL) {
            return false;
        }
        g_ptr_array_add(images, i);
        if (chain && i->image.backing_name != NULL && i->image.backing_path == NULL) {
            img_error("Could not determine the path of the backing file '%s' of '%s'",
                      i->image.backing_name, i->filename);
            return false;
        }
        open.filename = chain ? i->image.backing_path : NULL;
        open.format = i->image.backing_format;
        open.image_opts = false;
    }
    return true;
}

int img_co_info(Img *img)
{
    ImgOpen o = {.no_backing = true};
    bool json = false, chain = false;
    const ImgOption options[] = {
        {"format", 'f', IMG_TEXT, &o.format},       {"output", 0, IMG_OUTPUT, &json},
        {"backing-chain", 0, IMG_FLAG, &chain},     {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts}, {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    o.filename = img->files[0];
    g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(info_image_free);
    if (!info_co_collect(img, o, chain, images)) {
        return 1;
    }
    info_print(images, json, chain);
    return 0;
}
