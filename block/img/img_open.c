/* SPDX-License-Identifier: Apache-2.0 */
/* Opening images: from a file name, from "json:{...}", or from options. */
#include <string.h>
#include "block/img/img.h"
#include "block/node.h"
#include "block/qcow2/qcow2.h"

/* ---- cache modes ---- */

static const struct {
    const char *name;
    bool direct, no_flush, writethrough;
} open_caches[] = {
    {.name = "writeback"},
    {.name = "none", .direct = true},
    {.name = "off", .direct = true},
    {.name = "writethrough", .writethrough = true},
    {.name = "directsync", .direct = true, .writethrough = true},
    {.name = "unsafe", .no_flush = true},
};

/* The row of open_caches; the default for NULL. -1: unknown. */
static int open_find_cache(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(open_caches); i++) {
        if (name == NULL || strcmp(name, open_caches[i].name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool img_check_cache(const char *name, const char *what)
{
    if (open_find_cache(name) >= 0) {
        return true;
    }
    img_error("Invalid %scache option: %s", what, name);
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
    int cache = open_find_cache(open->cache);
    opt_dict_set_default(d, "read-only", open->writable ? "off" : "on");
    open_set_flag(d, "force-share", open->force_share);
    open_set_flag(d, "cache.direct", open_caches[cache].direct);
    open_set_flag(d, "cache.no-flush", open_caches[cache].no_flush);
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
    } else if (open_caches[open_find_cache(open->cache)].writethrough) {
        blk_set_write_cache(blk, false);
    }
    return blk;
}

/* ---- the format ---- */

typedef struct OpenProbe {
    BlockNode *node;
    uint8_t head[QCOW2_PROBE_LENGTH];
    int ret;
} OpenProbe;

static void open_probe_at_home(void *opaque)
{
    OpenProbe *p = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(p->node));
    uint64_t bytes = MIN(sizeof(p->head), block_node_size(p->node));
    struct iovec iov = {p->head, bytes};
    p->ret = block_node_co_preadv(p->node, 0, bytes, &iov, 1);
}

/* Sets the driver that the first bytes of the file show. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool open_co_probe(Img *img, const ImgOpen *open, OptDict *d)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) raw = opt_dict_copy(d);
    opt_dict_set(raw, "driver", "raw");
    opt_dict_set(raw, "read-only", "on");
    OpenProbe p = {.node = block_co_open(raw, img->home, &error)};
    if (p.node == NULL) {
        open_fail(open, error);
        return false;
    }
    co_call_in(img->home, open_probe_at_home, &p);
    block_co_unref(p.node);
    if (p.ret < 0) {
        img_error("Could not open '%s': Could not read image for determining its format: %s",
                  open->filename, g_strerror(-p.ret));
        return false;
    }
    opt_dict_set(d, "driver", qcow2_probe(p.head, sizeof(p.head)));
    return true;
}

/* Describes an image, its driver included. NULL: reported. */
static coroutine_fn RUNS_IN_MAIN OptDict *open_co_describe(Img *img, const ImgOpen *open)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = open_describe(open, &error);
    if (d == NULL) {
        open_fail(open, error);
        return NULL;
    }
    if (!opt_dict_has(d, "driver") && !open_co_probe(img, open, d)) {
        return NULL;
    }
    const char *driver = opt_dict_get(d, "driver");
    if (driver == NULL || block_driver_find(driver) == NULL) {
        img_error("Could not open '%s': Unknown driver '%s'", open->filename,
                  driver != NULL ? driver : "");
        return NULL;
    }
    return g_steal_pointer(&d);
}

BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = open_co_describe(img, open);
    if (d == NULL) {
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

BlockBackend *img_co_open_file(Img *img, const char *name, const ImgOpen *open, char **format)
{
    static const char *const inherited[] = {"read-only", "force-share", "cache.direct",
                                            "cache.no-flush"};
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = open_co_describe(img, open);
    if (d == NULL) {
        return NULL;
    }
    g_autoptr(OptDict) file = opt_dict_take_dict(d, "file");
    if (file == NULL) {
        img_error("Could not open '%s': the file is not described", open->filename);
        return NULL;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(inherited); i++) {
        if (opt_dict_has(d, inherited[i])) {
            opt_dict_set_default(file, inherited[i], opt_dict_get(d, inherited[i]));
        }
    }
    BlockNode *node = block_co_open(file, img->home, &error);
    if (node == NULL) {
        open_fail(open, error);
        return NULL;
    }
    BlockBackend *blk = img_co_attach(node, name, open);
    *format = blk != NULL ? opt_dict_take(d, "driver") : NULL;
    return blk;
}
