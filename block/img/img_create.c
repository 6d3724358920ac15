/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img create: a new image. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "block/img/img_create.h"

/* ---- the backing file ---- */

/* Opens the backing file, which then cannot be overwritten. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool
create_co_open_backing(Img *img, const ImgCreate *c, const CreateValues *v, BlockBackend **backing)
{
    BlockNodeInfo info;
    const char *format = v->texts[CREATE_BACKING_FMT];
    g_autofree char *path = create_resolve(c->filename, v->texts[CREATE_BACKING_FILE]);
    const ImgOpen o = {.filename = path, .format = format};
    *backing = img_co_open(img, "backing", &o);
    if (*backing == NULL) {
        fputs("Could not open backing image.\n", stderr);
        return false;
    }
    if (format == NULL) {
        block_node_info(blk_root(*backing), &info);
        img_error("%s: Backing file specified without backing format", c->filename);
        fprintf(stderr, "Detected format of %s.\n", info.driver);
        blk_co_free(*backing);
        *backing = NULL;
        return false;
    }
    return true;
}

/* The size of the disk: as given, or the backing file's. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool create_co_find_size(Img *img, const ImgCreate *c,
                                                          CreateValues *v, BlockBackend **backing)
{
    if (v->texts[CREATE_BACKING_FILE] != NULL && !c->no_open) {
        if (!create_co_open_backing(img, c, v, backing)) {
            return false;
        }
        if (v->texts[CREATE_SIZE] == NULL) {
            g_autofree char *size =
                g_strdup_printf("%" G_GUINT64_FORMAT, block_node_size(blk_root(*backing)));
            create_set(v, CREATE_SIZE, size);
        }
    } else if (v->texts[CREATE_BACKING_FILE] != NULL && v->texts[CREATE_BACKING_FMT] == NULL) {
        img_error("%s: Backing file specified without backing format", c->filename);
        return false;
    }
    if (v->texts[CREATE_SIZE] == NULL) {
        img_error("%s: Image creation needs a size parameter", c->filename);
        return false;
    }
    return true;
}

/* ---- options ---- */

static bool create_set_backing(const ImgCreate *c, CreateValues *v)
{
    if (c->backing != NULL) {
        if (!create_format_has(c->format, CREATE_BACKING_FILE)) {
            img_error("%s: Backing file not supported for file format '%s'", c->filename,
                      c->format);
            return false;
        }
        create_set(v, CREATE_BACKING_FILE, c->backing);
    }
    if (c->backing_format != NULL) {
        if (!create_format_has(c->format, CREATE_BACKING_FMT)) {
            img_error("%s: Backing file format not supported for file format '%s'", c->filename,
                      c->format);
            return false;
        }
        create_set(v, CREATE_BACKING_FMT, c->backing_format);
    }
    if (g_strcmp0(v->texts[CREATE_BACKING_FILE], c->filename) == 0) {
        img_error("%s: Error: Trying to create an image with the same filename as the backing file",
                  c->filename);
        return false;
    }
    return true;
}

static bool create_take_options(const ImgCreate *c, CreateValues *v)
{
    g_autoptr(GError) error = NULL;
    if (strcmp(c->format, "raw") != 0 && strcmp(c->format, "qcow2") != 0) {
        if (block_driver_find(c->format) != NULL) {
            img_error("%s: Format driver '%s' does not support image creation", c->filename,
                      c->format);
        } else {
            img_error("%s: Unknown file format '%s'", c->filename, c->format);
        }
        return false;
    }
    for (unsigned i = 0; c->options != NULL && i < c->options->len; i++) {
        if (!create_parse(v, c->format, c->options->pdata[i], &error)) {
            img_error("%s: %s", c->filename, error->message);
            return false;
        }
    }
    if (c->size != NULL) {
        if (v->texts[CREATE_SIZE] != NULL) {
            img_error("%s: The image size must be specified only once", c->filename);
            return false;
        }
        create_set(v, CREATE_SIZE, c->size);
    }
    return create_set_backing(c, v);
}

/* ---- making it ---- */

typedef struct CreateRun {
    bool raw;
    const Qcow2CreateOptions *options;
    CreateFile file, data;
    GError *error;
    bool ok;
} CreateRun;

static coroutine_fn RUNS_IN_IOTHREAD int create_co_raw(BlockNode *n, const Qcow2CreateOptions *o,
                                                       bool is_device)
{
    if (is_device) { /* it keeps its size and content */
        return block_node_size(n) < o->size ? -ENOSPC : 0;
    }
    int ret = block_node_co_truncate(n, 0);
    if (ret == 0) {
        ret = block_node_co_truncate(n, o->size);
    }
    if (ret == 0) {
        ret = block_node_co_preallocate(n, 0, o->size, o->preallocation);
    }
    return ret == 0 ? block_node_co_flush(n) : ret;
}

static void create_at_home(void *opaque)
{
    CreateRun *r = opaque;
    enter_coroutine();
    enter_iothread(blk_home(r->file.blk));
    BlockNode *node = blk_root(r->file.blk);
    if (!r->raw) {
        Qcow2CreateRequest q = {.options = r->options,
                                .file = node,
                                .data = r->data.blk != NULL ? blk_root(r->data.blk) : NULL,
                                .dirty_file = r->file.is_device};
        r->ok = qcow2_co_create(&q);
        r->error = q.error;
        return;
    }
    int ret = create_co_raw(node, r->options, r->file.is_device);
    r->ok = ret == 0;
    if (ret < 0) {
        g_set_error(&r->error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s", g_strerror(-ret));
        if (!r->file.is_device) {
            block_node_co_truncate(node, 0);
        }
    }
}

static coroutine_fn RUNS_IN_MAIN bool create_co_make(Img *img, const ImgCreate *c,
                                                     const Qcow2CreateOptions *o, GError **error)
{
    CreateRun r = {.raw = strcmp(c->format, "raw") == 0, .options = o};
    if (!create_co_open_file(img, "image", c->filename, &r.file, error)) {
        return false;
    }
    bool ok = true;
    if (o->data_file != NULL) {
        g_autofree char *path = create_resolve(c->filename, o->data_file);
        ok = create_co_open_file(img, "data", path, &r.data, error);
    }
    if (ok) {
        co_call_in(img->home, create_at_home, &r);
        ok = r.ok;
        if (r.error != NULL) {
            g_propagate_error(error, r.error);
        }
    }
    create_co_close_file(&r.data, ok);
    create_co_close_file(&r.file, ok);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool create_co_with(Img *img, const ImgCreate *c, CreateValues *v,
                                                     BlockBackend **backing)
{
    g_autoptr(GError) error = NULL;
    Qcow2CreateOptions o;
    if (!create_take_options(c, v) || !create_co_find_size(img, c, v, backing)) {
        return false;
    }
    create_set_defaults(v, c->format);
    if (!c->quiet) {
        printf("Formatting '%s', fmt=%s", c->filename, c->format);
        create_print(v, c->format);
        putchar('\n');
        fflush(stdout); /* before an error */
    }
    if (!create_convert(v, c->format, &o, &error) || !create_co_make(img, c, &o, &error)) {
        img_error("%s: %s", c->filename, error->message);
        return false;
    }
    return true;
}

bool img_co_create_image(Img *img, const ImgCreate *c)
{
    CreateValues v = {0};
    BlockBackend *backing = NULL;
    bool ok = create_co_with(img, c, &v, &backing);
    blk_co_free(backing);
    create_clear(&v);
    return ok;
}

/* ---- the command ---- */

static coroutine_fn RUNS_IN_MAIN int create_co_run(Img *img, ImgCreate *c)
{
    uint64_t size;
    if (c->format == NULL) {
        c->format = "raw";
    }
    for (unsigned i = 0; i < c->options->len; i++) {
        const char *text = c->options->pdata[i];
        if (strcmp(text, "help") == 0 || strcmp(text, "?") == 0) {
            create_print_options(c->format);
            return 0;
        }
    }
    if (img->file_count == 0) {
        return img_usage_error("Expecting image file name");
    }
    if (img->file_count > 2) {
        return img_usage_error("Unexpected argument: %s", img->files[2]);
    }
    c->filename = img->files[0];
    g_autofree char *text = NULL;
    if (img->file_count == 2) {
        if (!img_parse_size("image size", img->files[1], &size)) {
            return 1;
        }
        c->size = text = g_strdup_printf("%" G_GUINT64_FORMAT, size);
    }
    return img_co_create_image(img, c) ? 0 : 1;
}

int img_co_create(Img *img)
{
    g_autoptr(GPtrArray) options = g_ptr_array_new();
    ImgCreate c = {.options = options};
    const ImgOption table[] = {
        {NULL, 'f', IMG_TEXT, &c.format},
        {NULL, 'F', IMG_TEXT, &c.backing_format},
        {NULL, 'b', IMG_TEXT, &c.backing},
        {NULL, 'u', IMG_FLAG, &c.no_open},
        {NULL, 'o', IMG_TEXTS, options},
        {NULL, 'q', IMG_FLAG, &c.quiet},
        {0},
    };
    int status;
    return img_parse_options(img, table, &status) ? create_co_run(img, &c) : status;
}
