/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/new_image.h"
#include <errno.h>
#include <string.h>
#include "block/file/file_new.h"
#include "block/nbd/nbd_client_name.h"
#include "block/qcow2/qcow2_create.h"
#include "util/loop/sched_point.h"

#define NEW_IMAGE_CLUSTER 65536u

/* ---- the file ---- */

/* The path that @filename means. NULL + @error. */
static const char *image_path(const char *filename, GError **error)
{
    if (g_str_has_prefix(filename, "file:")) {
        return filename + strlen("file:");
    }
    if (nbd_client_is_name(filename)) {
        return filename;
    }
    size_t length = strcspn(filename, ":/");
    if (filename[length] == ':' || filename[0] == '\0') {
        g_autofree char *excerpt = opt_excerpt(filename);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "'%s': not the name of a file; open other images with blockdev-add", excerpt);
        return NULL;
    }
    return filename;
}

/* Makes an empty file, unless there is one. An export of an NBD server is there or not. */
static coroutine_fn RUNS_IN_MAIN bool image_co_make(NewImage *image, const char *path,
                                                    GError **error)
{
    if (nbd_client_is_name(path)) {
        return true;
    }
    int ret = file_co_make(path, FILE_NEW_IMAGE_MODE);
    if (ret == 0) {
        image->made = g_strdup(path);
    }
    if (ret < 0 && ret != -EEXIST) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Could not create '%s': %s", path,
                    g_strerror(-ret));
        return false;
    }
    return true;
}

static void image_set_flag(OptDict *d, const char *name, bool on)
{
    opt_dict_set(d, name, on ? "on" : "off");
}

static bool image_will_be_read_only(const NewImageConfig *config)
{
    return config->like->flags.read_only && !config->writable;
}

/* @read_only: a new image is written to even if it will be used for reading. */
static void image_inherit(OptDict *d, const BlockNode *like, bool read_only)
{
    image_set_flag(d, "read-only", read_only);
    image_set_flag(d, "cache.direct", like->flags.cache_direct);
    image_set_flag(d, "cache.no-flush", like->flags.cache_no_flush);
    opt_dict_set(d, "discard", like->flags.discard_unmap ? "unmap" : "ignore");
}

static coroutine_fn RUNS_IN_MAIN BlockNode *
image_co_open_file(const NewImageConfig *config, const char *path, bool read_only, GError **error)
{
    bool nbd = nbd_client_is_name(path);
    g_autoptr(OptDict) d = nbd ? nbd_client_describe_name(path, error) : opt_dict_new();
    if (d == NULL) {
        return NULL;
    }
    const char *aio = nbd ? NULL : block_node_aio(config->like);
    if (!nbd) {
        bool device = file_co_is_device(path);
        opt_dict_set(d, "driver", device ? "host_device" : "file");
        opt_dict_set(d, "filename", path);
    }
    image_inherit(d, config->like, read_only);
    if (aio != NULL) { /* with the cache of the same file, which can be required */
        opt_dict_set(d, "aio", aio);
        image_set_flag(d, "cache.direct", block_node_file_direct(config->like));
    }
    return block_co_open(d, config->home, error);
}

/* ---- the format ---- */

typedef struct ImageFormat {
    const NewImageConfig *config;
    BlockNode *file;
    Qcow2CreateRequest request;
    bool qcow2;
    int ret;
} ImageFormat;

static void image_format_at_home(void *opaque)
{
    ImageFormat *f = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(f->file));
    if (f->qcow2) {
        qcow2_co_create(&f->request);
        return;
    }
    f->ret = f->request.dirty_file ? 0 : block_node_co_truncate(f->file, 0);
    if (f->ret == 0 && !f->request.dirty_file) {
        f->ret = block_node_co_truncate(f->file, f->config->size);
    }
    if (f->ret == 0 && block_node_size(f->file) < f->config->size) {
        f->ret = -ENOSPC; /* a device */
    }
}

static bool image_check_format(const NewImageConfig *config, GError **error)
{
    const char *format = config->format != NULL ? config->format : "qcow2";
    bool raw = strcmp(format, "raw") == 0;
    if (block_driver_find(format) == NULL || (!raw && strcmp(format, "qcow2") != 0)) {
        g_autofree char *excerpt = opt_excerpt(format);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Unknown file format '%s'; skiff makes and opens qcow2 and raw", excerpt);
        return false;
    }
    if (raw && config->backing_file != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Backing file not supported for file format 'raw'");
        return false;
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool image_co_format(const NewImageConfig *config, BlockNode *file,
                                                      GError **error)
{
    Qcow2CreateOptions o = {.size = config->size,
                            .version = 3,
                            .cluster_size = NEW_IMAGE_CLUSTER,
                            .refcount_bits = 16,
                            .backing_file = config->backing_file,
                            .backing_format = config->backing_format};
    ImageFormat f = {.config = config, .file = file, .request = {.options = &o, .file = file}};
    f.request.dirty_file = strcmp(file->drv->name, "file") != 0; /* it keeps its size and content */
    f.qcow2 = g_strcmp0(config->format, "raw") != 0;
    if (f.qcow2 && !qcow2_create_check(&o, error)) {
        return false;
    }
    co_call_in(block_node_home(file), image_format_at_home, &f);
    if (f.request.error != NULL) {
        g_propagate_prefixed_error(error, f.request.error, "%s: ", config->filename);
        return false;
    }
    if (f.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "Could not resize '%s': %s",
                    config->filename, g_strerror(-f.ret));
    }
    return f.ret == 0;
}

static coroutine_fn RUNS_IN_MAIN BlockNode *
image_co_open_format(const NewImageConfig *config, const BlockNode *file, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_new();
    const char *format = config->format != NULL ? config->format : "qcow2";
    opt_dict_set(d, "driver", format);
    opt_dict_set(d, "file", block_node_name(file));
    if (strcmp(format, "qcow2") == 0) {
        opt_dict_set(d, "backing", "");
    }
    if (config->node_name != NULL) {
        opt_dict_set(d, "node-name", config->node_name);
    }
    image_inherit(d, config->like, image_will_be_read_only(config));
    return block_co_open(d, config->home, error);
}

/* ---- both ---- */

static coroutine_fn RUNS_IN_MAIN bool image_co_open(const NewImageConfig *config, NewImage *image,
                                                    const char *path, GError **error)
{
    bool existing = config->mode == NEW_IMAGE_EXISTING;
    if (!existing && !image_co_make(image, path, error)) {
        return false;
    }
    SP("block.new_image_made", image);
    bool read_only = existing && image_will_be_read_only(config);
    BlockNode *file = image_co_open_file(config, path, read_only, error);
    if (file == NULL) {
        return false;
    }
    if (existing || image_co_format(config, file, error)) {
        image->node = image_co_open_format(config, file, error);
    }
    block_co_unref(file);
    return image->node != NULL;
}

bool new_image_co_open(const NewImageConfig *config, NewImage *image, GError **error)
{
    *image = (NewImage){0};
    const char *path = image_path(config->filename, error);
    if (path == NULL || !image_check_format(config, error)) {
        return false;
    }
    if (config->node_name != NULL && block_node_find(config->node_name) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Duplicate nodes with node-name='%s'; choose another", config->node_name);
        return false;
    }
    bool ok = image_co_open(config, image, path, error);
    if (!ok) {
        new_image_co_drop(image);
    }
    return ok;
}

void new_image_co_drop(NewImage *image)
{
    if (image->node != NULL) {
        block_co_unref(g_steal_pointer(&image->node));
    }
    if (image->made != NULL) {
        file_co_remove(image->made);
    }
    g_clear_pointer(&image->made, g_free);
}

BlockNode *new_image_take(NewImage *image)
{
    g_clear_pointer(&image->made, g_free);
    return g_steal_pointer(&image->node);
}

/* ---- names ---- */

/* The image that @n shows. */
static const BlockNode *image_below_filters(const BlockNode *n)
{
    while (n->drv->is_filter && n->file != NULL) {
        n = n->file;
    }
    return n;
}

char *new_image_backing_path(const BlockNode *n, const char **format, GError **error)
{
    const BlockNode *image = image_below_filters(n), *file = image->file;
    bool whole = file == NULL || block_node_size(image) == block_node_size(file) ||
                 strcmp(image->drv->name, "raw") != 0;
    while (file != NULL && file->drv->is_filter) {
        file = file->file;
    }
    file = file != NULL ? file : image;
    const char *name = file->drv->filename != NULL ? file->drv->filename(file) : NULL;
    if (name == NULL || !whole || file->file != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "node '%s' is not the whole of one file, so that no image can name it as its "
                    "backing file",
                    n->name);
        return NULL;
    }
    *format = image->drv->name;
    return nbd_client_is_name(name) ? g_strdup(name) : g_canonicalize_filename(name, NULL);
}
