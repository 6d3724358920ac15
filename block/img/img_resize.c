/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img resize: changes the size of an image. */
#include <stdio.h>
#include <string.h>
#include "block/core/preallocate.h"
#include "block/img/img.h"

typedef struct Resize {
    BlockBackend *blk;
    bool shrink, quiet;
    BlockPreallocation preallocation;
    char sign; /* of the size: '+', '-' or 0 */
    uint64_t size;
    /* while it is preallocated */
    uint64_t from, bytes;
    int ret;
} Resize;

static bool resize_parse_size(Resize *r, const char *text)
{
    r->sign = text[0] == '+' || text[0] == '-' ? text[0] : 0;
    if (opt_parse_size(text + (r->sign != 0), 1, &r->size, NULL)) {
        return true;
    }
    img_error("Parameter 'size' expects a non-negative number below 2^64");
    fputs("Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
          "and exabytes, respectively.\n",
          stderr);
    return false;
}

static bool resize_parse_preallocation(Resize *r, const char *text)
{
    for (unsigned i = 0; block_preallocation_names[i] != NULL; i++) {
        if (text == NULL || strcmp(text, block_preallocation_names[i]) == 0) {
            r->preallocation = (BlockPreallocation)i;
            return true;
        }
    }
    img_error("Invalid preallocation mode '%s'", text);
    return false;
}

/* The new size; 0: reported. */
static uint64_t resize_total(const Resize *r, uint64_t current)
{
    uint64_t total = r->size;
    if (r->sign == '+') {
        total = r->size <= BLOCK_SIZE_MAX ? current + r->size : UINT64_MAX;
    } else if (r->sign == '-') {
        total = r->size < current ? current - r->size : 0;
    }
    if (total == 0 || total > BLOCK_SIZE_MAX) {
        img_error(total == 0 ? "New image size must be positive" : "The new size is too large");
        return 0;
    }
    return total;
}

static RUNS_IN_MAIN bool resize_check(const Resize *r, uint64_t current, uint64_t total)
{
    BlockNodeInfo info;
    block_node_info(blk_root(r->blk), &info);
    bool raw = strcmp(info.driver, "raw") == 0 || strcmp(info.driver, "file") == 0;
    if (total <= current && r->preallocation != BLOCK_PREALLOCATION_OFF) {
        img_error("Preallocation can only be used for growing images");
        return false;
    }
    if (total < current && !r->shrink) {
        img_error("Use the --shrink option to perform a shrink operation.");
        img_error("warning: Shrinking an image will delete all data beyond the shrunken image's "
                  "end. Before performing such an operation, make sure there is no important data "
                  "there.");
        return false;
    }
    bool qcow2 = strcmp(info.driver, "qcow2") == 0;
    if ((r->preallocation == BLOCK_PREALLOCATION_METADATA && !qcow2) ||
        (r->preallocation != BLOCK_PREALLOCATION_OFF && !raw && !qcow2)) {
        img_error("Unsupported preallocation mode: %s",
                  block_preallocation_names[r->preallocation]);
        return false;
    }
    return true;
}

static void resize_preallocate_at_home(void *opaque)
{
    Resize *r = opaque;
    enter_coroutine();
    enter_iothread(blk_home(r->blk));
    r->ret = block_node_co_preallocate(blk_root(r->blk), r->from, r->bytes, r->preallocation);
    if (r->ret == 0) {
        r->ret = block_node_co_flush(blk_root(r->blk));
    }
}

static coroutine_fn RUNS_IN_MAIN bool resize_co_run(Resize *r)
{
    g_autoptr(GError) error = NULL;
    uint64_t current = blk_size(r->blk), total = resize_total(r, current);
    if (total == 0 || !resize_check(r, current, total)) {
        return false;
    }
    if (blk_co_truncate(r->blk, total, &error) < 0) {
        img_error("%s", error->message);
        return false;
    }
    r->from = current;
    r->bytes = total > current ? total - current : 0;
    if (r->preallocation != BLOCK_PREALLOCATION_OFF) {
        co_call_in(blk_home(r->blk), resize_preallocate_at_home, r);
    }
    if (r->ret < 0) {
        blk_co_truncate(r->blk, current, NULL); /* as it was */
        img_error("Could not preallocate the new part: %s", g_strerror(-r->ret));
        return false;
    }
    if (!r->quiet) {
        puts("Image resized.");
    }
    return true;
}

int img_co_resize(Img *img)
{
    ImgOpen o = {.writable = true};
    Resize r = {0};
    const char *preallocation = NULL;
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &o.format},           {NULL, 'q', IMG_FLAG, &r.quiet},
        {"image-opts", 0, IMG_FLAG, &o.image_opts}, {"preallocation", 0, IMG_TEXT, &preallocation},
        {"shrink", 0, IMG_FLAG, &r.shrink},         {0},
    };
    int status;
    if (img->argc < 3) {
        return img_usage_error("Not enough arguments");
    }
    const char *size = img->argv[--img->argc]; /* "-1M" would be an option */
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (img->file_count != 1) {
        return img_usage_error("Expecting image file name and size");
    }
    if (!resize_parse_preallocation(&r, preallocation) || !resize_parse_size(&r, size)) {
        return 1;
    }
    o.filename = img->files[0];
    r.blk = img_co_open(img, "image", &o);
    if (r.blk == NULL) {
        return 1;
    }
    status = resize_co_run(&r) ? 0 : 1;
    blk_co_free(r.blk);
    return status;
}
