/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img bitmap: changes the persistent dirty bitmaps of an image. */
#include <stdio.h>
#include <string.h>
#include "block/dirty_bitmap.h"
#include "block/img/img.h"

typedef enum BitmapAction {
    BITMAP_ADD,
    BITMAP_REMOVE,
    BITMAP_CLEAR,
    BITMAP_ENABLE,
    BITMAP_DISABLE,
    BITMAP_MERGE,
    BITMAP_ACTIONS,
} BitmapAction;

static const char *const bitmap_words[BITMAP_ACTIONS] = {"add",    "remove",  "clear",
                                                         "enable", "disable", "merge"};

typedef struct Bitmap {
    ImgOpen open, source;
    GArray *actions;  /* unsigned: BitmapAction, in the order of the command line */
    GPtrArray *merge; /* for each BITMAP_MERGE of them, the bitmap that is merged */
    const char *granularity_text;
    uint64_t granularity; /* 0: the default */
    const char *name;
    BlockBackend *blk, *source_blk; /* source_blk NULL: the image itself */
} Bitmap;

static bool bitmap_has(const Bitmap *b, BitmapAction action)
{
    for (unsigned i = 0; i < b->actions->len; i++) {
        if (g_array_index(b->actions, unsigned, i) == action) {
            return true;
        }
    }
    return false;
}

/* False: reported. */
static bool bitmap_check(const Img *img, Bitmap *b)
{
    const char *wrong = NULL;
    if (b->open.image_opts && b->open.format != NULL) {
        wrong = "--image-opts and --format are mutually exclusive";
    } else if (b->actions->len == 0) {
        wrong = "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
    } else if (b->granularity_text != NULL && !bitmap_has(b, BITMAP_ADD)) {
        wrong = "granularity only supported with --add";
    } else if (b->source.format != NULL && b->source.filename == NULL) {
        wrong = "-F only supported with -b";
    } else if (b->source.filename != NULL && !bitmap_has(b, BITMAP_MERGE)) {
        wrong = "Merge bitmap source file only supported with --merge";
    }
    if (img->file_count != 2) {
        wrong = "Expecting filename and bitmap name";
    }
    if (wrong != NULL) {
        img_error("%s", wrong);
    }
    return wrong == NULL;
}

static coroutine_fn RUNS_IN_MAIN bool bitmap_co_act(const Bitmap *b, BitmapAction action,
                                                    const char *merge, GError **error)
{
    BlockNode *n = blk_root(b->blk);
    BlockNode *from = b->source_blk != NULL ? blk_root(b->source_blk) : n;
    BlockDirtyBitmapRef target = {n, b->name}, source = {from, merge};
    /* what does not fit is no granularity */
    uint32_t granularity = b->granularity > UINT32_MAX ? 1 : (uint32_t)b->granularity;
    switch (action) {
    case BITMAP_ADD:
        return block_dirty_bitmap_co_add(n, b->name, granularity, BLOCK_BITMAP_PERSISTENT, error);
    case BITMAP_REMOVE:
        return block_dirty_bitmap_co_remove(n, b->name, error);
    case BITMAP_CLEAR:
        return block_dirty_bitmap_co_clear(n, b->name, error);
    case BITMAP_ENABLE:
    case BITMAP_DISABLE:
        return block_dirty_bitmap_co_set_enabled(n, b->name, action == BITMAP_ENABLE, error);
    case BITMAP_MERGE:
        return block_dirty_bitmap_co_merge(target, &source, 1, error);
    case BITMAP_ACTIONS:
        break;
    }
    return false;
}

static coroutine_fn RUNS_IN_MAIN bool bitmap_co_open(Img *img, Bitmap *b)
{
    b->open.filename = img->files[0];
    b->open.writable = b->open.no_backing = b->open.unmap = true;
    b->blk = img_co_open(img, "image", &b->open);
    if (b->blk == NULL || b->source.filename == NULL) {
        return b->blk != NULL;
    }
    b->source.no_backing = true;
    b->source_blk = img_co_open(img, "source", &b->source);
    return b->source_blk != NULL;
}

/* The actions before the first one that fails take effect. */
static coroutine_fn RUNS_IN_MAIN bool bitmap_co_run(Img *img, Bitmap *b)
{
    bool ok = bitmap_co_open(img, b);
    unsigned merges = 0;
    for (unsigned i = 0; ok && i < b->actions->len; i++) {
        g_autoptr(GError) error = NULL;
        BitmapAction action = g_array_index(b->actions, unsigned, i);
        const char *merge = action == BITMAP_MERGE ? b->merge->pdata[merges++] : NULL;
        ok = bitmap_co_act(b, action, merge, &error);
        if (!ok) {
            img_error("Operation %s on bitmap %s failed: %s", bitmap_words[action], b->name,
                      error->message);
        }
    }
    if (b->blk != NULL && !img_co_complete(b->blk)) {
        ok = false;
    }
    blk_co_free(b->source_blk);
    blk_co_free(b->blk);
    return ok;
}

int img_co_bitmap(Img *img)
{
    Bitmap b = {.actions = g_array_new(false, false, sizeof(unsigned)), .merge = g_ptr_array_new()};
    ImgOrder orders[BITMAP_ACTIONS];
    for (unsigned i = 0; i < BITMAP_ACTIONS; i++) {
        orders[i] = (ImgOrder){.list = b.actions, .value = i};
    }
    orders[BITMAP_MERGE].texts = b.merge;
    const ImgOption options[] = {
        {"add", 0, IMG_ORDER, &orders[BITMAP_ADD]},
        {"remove", 0, IMG_ORDER, &orders[BITMAP_REMOVE]},
        {"clear", 0, IMG_ORDER, &orders[BITMAP_CLEAR]},
        {"enable", 0, IMG_ORDER, &orders[BITMAP_ENABLE]},
        {"disable", 0, IMG_ORDER, &orders[BITMAP_DISABLE]},
        {"merge", 0, IMG_ORDER_TEXT, &orders[BITMAP_MERGE]},
        {"granularity", 'g', IMG_TEXT, &b.granularity_text},
        {"source-file", 'b', IMG_TEXT, &b.source.filename},
        {"source-format", 'F', IMG_TEXT, &b.source.format},
        {NULL, 'f', IMG_TEXT, &b.open.format},
        {"image-opts", 0, IMG_FLAG, &b.open.image_opts},
        {0},
    };
    int status = 1;
    if (img_parse_options(img, options, &status)) {
        status = 1;
        bool ok = b.granularity_text == NULL ||
                  img_parse_size("granularity", b.granularity_text, &b.granularity);
        if (ok && bitmap_check(img, &b)) {
            b.name = img->files[1];
            status = bitmap_co_run(img, &b) ? 0 : 1;
        }
    }
    g_array_unref(b.actions);
    g_ptr_array_unref(b.merge);
    return status;
}
