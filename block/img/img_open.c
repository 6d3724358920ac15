/* SPDX-License-Identifier: Apache-2.0 */
/* Opening images: from a file name, from "json:{...}", or from options. */
#include <stdio.h>
#include <string.h>
#include "block/img/img.h"
#include "block/nbd/nbd_client_name.h"
#include "block/node.h"
#include "block/qcow2/qcow2.h"

/* ---- cache modes ---- */

bool img_parse_cache(const char *text, ImgCache *cache)
{
    static const struct {
        const char *name;
        ImgCache cache;
    } modes[] = {
        {"none", {.direct = true}},   {"off", {.direct = true}},
        {"writeback", {0}},           {"writethrough", {.through = true}},
        {"unsafe", {.unsafe = true}}, {"directsync", {.direct = true, .through = true}},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(modes); i++) {
        if (strcmp(text, modes[i].name) == 0) {
            *cache = modes[i].cache;
            return true;
        }
    }
    return false;
}

static void open_set_flag(OptDict *d, const char *key, bool on)
{
    if (on) {
        opt_dict_set_default(d, key, "on");
    }
}

/* ---- descriptions ---- */

static OptDict *open_parse(const ImgOpen *open, GError **error)
{
    const char *name = open->filename;
    if (open->image_opts) {
        return opt_dict_parse(name, "driver", error);
    }
    if (g_str_has_prefix(name, "json:")) {
        return opt_dict_parse(name + strlen("json:"), NULL, error);
    }
    OptDict *d = opt_dict_new();
    if (nbd_client_is_name(name)) {
        OptDict *file = nbd_client_describe_name(name, error);
        if (file == NULL) {
            g_clear_pointer(&d, opt_dict_free);
        } else {
            opt_dict_set_dict(d, "file", file);
        }
        return d;
    }
    opt_dict_set(d, "file.filename",
                 g_str_has_prefix(name, "file:") ? name + strlen("file:") : name);
    return d;
}

/* Describes the node, perhaps without its driver. */
static OptDict *open_describe(const ImgOpen *open, GError **error)
{
    OptDict *d = open_parse(open, error);
    if (d == NULL) {
        return NULL;
    }
    if (opt_dict_has(d, "file.filename")) {
        opt_dict_set_default(d, "file.driver", "file");
    }
    if (open->format != NULL) {
        opt_dict_set_default(d, "driver", open->format);
    }
    const char *protocol = opt_dict_get(d, "file.driver");
    if (open->aio != NULL && protocol != NULL && strcmp(protocol, "nbd") != 0) {
        opt_dict_set_default(d, "file.aio", open->aio);
    }
    opt_dict_set_default(d, "read-only", open->writable ? "off" : "on");
    open_set_flag(d, "force-share", open->force_share);
    open_set_flag(d, "cache.direct", open->cache.direct);
    open_set_flag(d, "cache.no-flush", open->cache.unsafe);
    open_set_flag(d, "discard", open->unmap);
    return d;
}

/* Leaves out the backing file, if the driver has such a child and no option describes it. */
static void open_leave_backing(OptDict *d)
{
    const BlockDriver *drv = block_driver_find(opt_dict_get(d, "driver"));
    if (drv != NULL && drv->children != NULL && g_strv_contains(drv->children, "backing")) {
        opt_dict_set_default(d, "backing", "");
    }
}

/* ---- nodes and backends ---- */

static void open_fail(const ImgOpen *open, const GError *error)
{
    img_error("Could not open '%s': %s", open->filename, error->message);
}

BlockBackend *img_co_attach(BlockNode *node, const char *name, const ImgOpen *open)
{
    g_autoptr(GError) error = NULL;
    BlockBackend *blk = blk_co_new(name, node, open->writable, &error);
    block_co_unref(node);
    if (blk == NULL) {
        open_fail(open, error);
    } else if (open->cache.through) {
        blk_set_write_cache(blk, false);
    }
    return blk;
}

bool img_co_complete(BlockBackend *blk)
{
    int ret = block_node_co_complete(blk_root(blk));
    if (ret < 0) {
        BlockNodeInfo info;
        block_node_info(blk_root(blk), &info);
        img_error("Could not complete '%s': %s", info.filename != NULL ? info.filename : "image",
                  g_strerror(-ret));
    }
    return ret == 0;
}

/* ---- the format ---- */

const char *img_co_probe(BlockBackend *blk, const char *filename)
{
    const char *format;
    int ret = qcow2_co_probe_node(blk_root(blk), &format);
    if (ret < 0) {
        img_error("Could not open '%s': Could not read image for determining its format: %s",
                  filename, g_strerror(-ret));
        return NULL;
    }
    return format;
}

/* Whoever writes to a raw image can make it look like another format. */
static void open_warn_of_raw(const ImgOpen *open, const char *format)
{
    if (open->writable && strcmp(format, "raw") == 0) {
        fprintf(stderr,
                "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
                "         Automatically detecting the format is dangerous for raw images.\n"
                "         Specify the 'raw' format explicitly.\n",
                open->filename);
    }
}

/* Sets the driver that the first bytes of the file show. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool open_co_find_driver(Img *img, const ImgOpen *open, OptDict *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) raw = opt_dict_copy(d);
    ImgOpen reader = {.filename = open->filename};
    opt_dict_set(raw, "driver", "raw");
    opt_dict_set(raw, "read-only", "on");
    BlockNode *node = block_co_open(raw, img->home, &error);
    if (node == NULL) {
        open_fail(open, error);
        return false;
    }
    BlockBackend *blk = img_co_attach(node, "probe", &reader);
    const char *format = blk != NULL ? img_co_probe(blk, open->filename) : NULL;
    blk_co_free(blk);
    if (format != NULL) {
        opt_dict_set(d, "driver", format);
        open_warn_of_raw(open, format);
    }
    return format != NULL;
}

/* Opens an export of an NBD server once for the probe and the image, since a server may have one client
 * and end with it. @d refers to the node then, and the caller owns a reference. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool open_co_hold_export(Img *img, const ImgOpen *open, OptDict *d,
                                                          BlockNode **held)
{
    static const char *const inherited[] = {"read-only", "force-share", "cache.direct",
                                            "cache.no-flush"};
    g_autoptr(GError) error = NULL;
    if (g_strcmp0(opt_dict_get(d, "file.driver"), "nbd") != 0) {
        return true;
    }
    g_autoptr(OptDict) file = opt_dict_take_dict(d, "file");
    for (unsigned i = 0; i < G_N_ELEMENTS(inherited); i++) {
        const char *value = opt_dict_get(d, inherited[i]);
        if (value != NULL) {
            opt_dict_set_default(file, inherited[i], value);
        }
    }
    opt_dict_set_default(file, "discard", "unmap"); /* the image decides */
    *held = block_co_open(file, img->home, &error);
    if (*held == NULL) {
        open_fail(open, error);
        return false;
    }
    opt_dict_set(d, "file", block_node_name(*held));
    return true;
}

/* Opens the image that @d describes. NULL: reported. */
static coroutine_fn RUNS_IN_MAIN BlockBackend *open_co_image(Img *img, const char *name,
                                                             const ImgOpen *open, OptDict *d)
{
    g_autoptr(GError) error = NULL;
    const char *driver = opt_dict_get(d, "driver");
    if (driver == NULL || block_driver_find(driver) == NULL) {
        img_error("Could not open '%s': Unknown driver '%s'", open->filename,
                  driver != NULL ? driver : "");
        return NULL;
    }
    if (open->no_backing) {
        open_leave_backing(d);
    }
    BlockNode *node = block_co_open(d, img->home, &error);
    if (node == NULL) {
        open_fail(open, error);
        return NULL;
    }
    return img_co_attach(node, name, open);
}

BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
{
    g_autoptr(GError) error = NULL;
    if (!img_co_make_objects(img)) {
        return NULL;
    }
    g_autoptr(OptDict) d = open_describe(open, &error);
    if (d == NULL) {
        open_fail(open, error);
        return NULL;
    }
    BlockNode *held = NULL; /* until the image has its own reference */
    bool ok = opt_dict_has(d, "driver") ||
              (open_co_hold_export(img, open, d, &held) && open_co_find_driver(img, open, d));
    BlockBackend *blk = ok ? open_co_image(img, name, open, d) : NULL;
    if (held != NULL) {
        block_co_unref(held);
    }
    return blk;
}
