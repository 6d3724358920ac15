/* SPDX-License-Identifier: Apache-2.0 */
/* The file of an image without the image's driver, for subcommands that work on the metadata. */
#include <string.h>
#include "block/img/img.h"
#include "block/nbd/nbd_client_name.h"
#include "block/node.h"
#include "block/qcow2/qcow2.h"

/* Splits the options of --image-opts into the format and the description of the file. */
static OptDict *file_from_options(const ImgOpen *open, char **format, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(open->filename, "driver", error);
    if (d == NULL) {
        return NULL;
    }
    if (opt_dict_has(d, "file.filename")) {
        opt_dict_set_default(d, "file.driver", "file");
    }
    OptDict *file = opt_dict_take_dict(d, "file");
    *format = opt_dict_take(d, "driver");
    if (file == NULL || *format == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "the options need driver=FORMAT and file.filename=NAME");
        g_clear_pointer(&file, opt_dict_free);
    }
    return file;
}

static OptDict *file_describe(const ImgOpen *open, char **format, GError **error)
{
    OptDict *d;
    if (open->image_opts) {
        d = file_from_options(open, format, error);
    } else if (nbd_client_is_name(open->filename)) {
        d = nbd_client_describe_name(open->filename, error);
        *format = g_strdup(open->format);
    } else {
        d = opt_dict_new();
        opt_dict_set(d, "driver", "file");
        opt_dict_set(d, "filename", open->filename);
        *format = g_strdup(open->format);
    }
    if (d != NULL) {
        opt_dict_set_default(d, "read-only", open->writable ? "off" : "on");
        opt_dict_set_default(d, "force-share", open->force_share ? "on" : "off");
        opt_dict_set_default(d, "cache.direct", open->cache.direct ? "on" : "off");
        opt_dict_set_default(d, "cache.no-flush", open->cache.unsafe ? "on" : "off");
    }
    return d;
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *
file_co_open(Img *img, const char *name, const ImgOpen *open, const OptDict *d, GError **error)
{
    BlockNode *node = block_co_open(d, img->home, error);
    BlockBackend *blk = node != NULL ? blk_co_new(name, node, open->writable, error) : NULL;
    if (node != NULL) {
        block_co_unref(node);
    }
    return blk;
}

bool img_co_open_file(Img *img, const char *name, const ImgOpen *open, ImgFile *f)
{
    g_autoptr(GError) error = NULL;
    *f = (ImgFile){.filename = open->filename};
    g_autoptr(OptDict) d = file_describe(open, &f->format, &error);
    f->blk = d != NULL ? file_co_open(img, name, open, d, &error) : NULL;
    if (f->blk == NULL) {
        img_error("Could not open '%s': %s", open->filename, error->message);
        g_free(f->format);
        return false;
    }
    if (f->format == NULL) {
        f->format = g_strdup(img_co_probe(f->blk, open->filename));
    } else if (block_driver_find(f->format) == NULL && !qcow2_probe_supported(f->format)) {
        img_error("Could not open '%s': Unknown driver '%s'", open->filename, f->format);
        g_clear_pointer(&f->format, g_free);
    }
    if (f->format == NULL) {
        blk_co_free(f->blk);
    }
    return f->format != NULL;
}

void img_co_close_file(ImgFile *f)
{
    blk_co_free(f->blk);
    g_free(f->format);
}
