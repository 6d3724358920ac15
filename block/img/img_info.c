/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img info: an image's format and sizes. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include "block/img/img.h"
#include "util/opts/json.h"

typedef struct InfoStat {
    const char *filename;
    int64_t bytes; /* used on the host; negative: unknown */
} InfoStat;

static int info_stat_work(void *opaque)
{
    InfoStat *s = opaque;
    struct stat st;
    enter_worker();
    s->bytes =
        s->filename != NULL && stat(s->filename, &st) == 0 ? (int64_t)st.st_blocks * 512 : -1;
    return 0;
}

static void info_print_human(const BlockNodeInfo *info, const char *filename, int64_t used)
{
    g_autofree char *size = img_size_text(info->size);
    g_autofree char *disk = used >= 0 ? img_size_text((uint64_t)used) : g_strdup("unavailable");
    printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\ndisk size: %s\n",
           filename, info->driver, size, info->size, disk);
}

static void info_print_json(const BlockNodeInfo *info, const char *filename, int64_t used,
                            bool chain)
{
    struct json_object *image = json_object_new_object();
    json_object_object_add(image, "virtual-size", json_object_new_uint64(info->size));
    json_object_object_add(image, "filename", json_object_new_string(filename));
    json_object_object_add(image, "format", json_object_new_string(info->driver));
    if (used >= 0) {
        json_object_object_add(image, "actual-size", json_object_new_int64(used));
    }
    json_object_object_add(image, "dirty-flag", json_object_new_boolean(false));
    struct json_object *top = image;
    if (chain) {
        top = json_object_new_array();
        json_object_array_add(top, image);
    }
    g_autoptr(GString) text = g_string_new(NULL);
    json_write_text(text, top, true);
    puts(text->str);
    json_object_put(top);
}

int img_co_info(Img *img)
{
    ImgOpen o = {0};
    bool json = false, chain = false;
    const ImgOption options[] = {
        {"format", 'f', IMG_TEXT, &o.format},       {"output", 0, IMG_OUTPUT, &json},
        {"backing-chain", 0, IMG_FLAG, &chain},     {"force-share", 'U', IMG_FLAG, &o.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts}, {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (img->file_count != 1) {
        return img_usage_error("Expecting one image file name");
    }
    o.filename = img->files[0];
    BlockBackend *blk = img_co_open(img, "image", &o);
    if (blk == NULL) {
        return 1;
    }
    BlockNodeInfo info;
    block_node_info(blk_root(blk), &info);
    InfoStat s = {.filename = info.filename};
    co_run_in_worker(info_stat_work, &s);
    const char *filename = info.filename != NULL ? info.filename : o.filename;
    if (json) {
        info_print_json(&info, filename, s.bytes, chain);
    } else {
        info_print_human(&info, filename, s.bytes);
    }
    blk_co_free(blk);
    return 0;
}
