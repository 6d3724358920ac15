/* SPDX-License-Identifier: Apache-2.0 */
/* skiff-img convert: copies one or more images into another one. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "block/img/img_bitmaps.h"
#include "block/img/img_copy.h"
#include "block/img/img_create.h"
#include "block/node.h"

#define CONVERT_CREW_MAX 16u
#define CONVERT_SPARSE_MAX ((uint64_t)16 << 20)

typedef struct Convert {
    /* options */
    ImgOpen source; /* of each source */
    ImgTargetOptions to;
    const char *sparse, *crew, *rate, *source_cache, *target_cache, *snapshot;
    bool out_of_order, offload, compress, target_is_zero, target_image_opts;
    bool progress_line, quiet;
    bool bitmaps, skip_broken;
    unsigned source_count;
    /* what is done */
    ImgCopy copy;
    ImgTarget target;
    ImgProgress progress;
} Convert;

/* ---- options ---- */

static bool convert_parse_sparse(Convert *c)
{
    uint64_t size;
    c->copy.min_sparse = 4096;
    if (c->sparse == NULL) {
        return true;
    }
    if (!img_parse_size("buffer size for sparse output", c->sparse, &size)) {
        return false;
    }
    if (size % BLOCK_SECTOR_SIZE != 0 || size > CONVERT_SPARSE_MAX) {
        img_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of "
                  "%u up to %u. Select 0 to disable sparse detection (fully allocates output).",
                  BLOCK_SECTOR_SIZE, (unsigned)CONVERT_SPARSE_MAX);
        return false;
    }
    c->copy.min_sparse = size;
    return true;
}

static bool convert_parse_crew(Convert *c)
{
    uint64_t crew = 8;
    if (c->crew != NULL && !opt_parse_u64(c->crew, 1, CONVERT_CREW_MAX, &crew, NULL)) {
        img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and %u",
                  CONVERT_CREW_MAX);
        return false;
    }
    c->copy.crew = (unsigned)crew;
    return true;
}

static bool convert_parse_caches(Convert *c)
{
    c->to.open.cache = (ImgCache){.unsafe = true};
    if (c->target_cache != NULL && !img_parse_cache(c->target_cache, &c->to.open.cache)) {
        img_error("Invalid cache option: %s", c->target_cache);
        return false;
    }
    if (c->source_cache != NULL && !img_parse_cache(c->source_cache, &c->source.cache)) {
        img_error("Invalid source cache option: %s", c->source_cache);
        return false;
    }
    return true;
}

/* Options that do not go together, in the order in which qemu-img refuses them. */
static bool convert_check(const Convert *c)
{
    const struct {
        bool wrong;
        const char *message;
    } rules[] = {
        {c->skip_broken && !c->bitmaps, "Use of --skip-broken-bitmaps requires --bitmaps"},
        {c->offload && c->compress, "Cannot enable copy offloading when -c is used"},
        {c->offload && c->sparse != NULL, "Cannot enable copy offloading when -S is used"},
        {c->offload && c->copy.salvage, "Cannot use copy offloading in salvaging mode"},
        {c->target_image_opts && !c->to.existing, "--target-image-opts requires use of -n flag"},
        {c->target_is_zero && !c->to.existing, "--target-is-zero requires use of -n flag"},
        {c->to.existing && c->to.options->len > 0, "-o has no effect when skipping image creation"},
        {c->snapshot != NULL && c->source_count > 1,
         "No support for concatenating multiple snapshot"},
        {c->to.backing != NULL && c->source_count > 1,
         "Having a backing file for the target makes no sense when concatenating multiple input "
         "images"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (rules[i].wrong) {
            img_error("%s", rules[i].message);
            return false;
        }
    }
    return true;
}

static bool convert_check_format(const Convert *c)
{
    const char *format = c->to.open.format;
    if (c->to.existing && c->target_image_opts) {
        return true;
    }
    if (block_driver_find(format) == NULL) {
        img_error("Unknown file format '%s'", format);
        return false;
    }
    return true;
}

/* What a compressed image cannot have. */
static bool convert_check_compressed(const Convert *c)
{
    bool ok = true;
    CreateValues v = {0};
    if (c->to.open.format == NULL || !c->compress) {
        return true;
    }
    for (unsigned i = 0; ok && i < c->to.options->len; i++) {
        ok = create_parse(&v, c->to.open.format, c->to.options->pdata[i], NULL);
    }
    const char *preallocation = v.texts[CREATE_PREALLOCATION];
    const char *wrong = NULL;
    if (strcmp(c->to.open.format, "qcow2") != 0) {
        wrong = "Compression not supported for this file format";
    } else if (ok && preallocation != NULL && strcmp(preallocation, "off") != 0) {
        wrong = "Compression and preallocation not supported at the same time";
    } else if (ok && v.texts[CREATE_DATA_FILE] != NULL) {
        wrong = "Compression and data_file not supported at the same time";
    }
    if (wrong != NULL) {
        img_error("%s", wrong);
    }
    create_clear(&v);
    return wrong == NULL; /* other wrong options are reported when the image is created */
}

static RUNS_IN_MAIN bool convert_parse(Img *img, Convert *c, int *status)
{
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &c->source.format},
        {NULL, 'O', IMG_TEXT, &c->to.open.format},
        {NULL, 'o', IMG_TEXTS, c->to.options},
        {NULL, 'B', IMG_TEXT, &c->to.backing},
        {NULL, 'F', IMG_TEXT, &c->to.backing_format},
        {NULL, 'c', IMG_FLAG, &c->compress},
        {NULL, 'C', IMG_FLAG, &c->offload},
        {NULL, 'l', IMG_TEXT, &c->snapshot},
        {NULL, 'm', IMG_TEXT, &c->crew},
        {NULL, 'n', IMG_FLAG, &c->to.existing},
        {NULL, 'p', IMG_FLAG, &c->progress_line},
        {NULL, 'q', IMG_FLAG, &c->quiet},
        {NULL, 'r', IMG_TEXT, &c->rate},
        {NULL, 'S', IMG_TEXT, &c->sparse},
        {NULL, 't', IMG_TEXT, &c->target_cache},
        {NULL, 'T', IMG_TEXT, &c->source_cache},
        {NULL, 'W', IMG_FLAG, &c->out_of_order},
        {"force-share", 'U', IMG_FLAG, &c->source.force_share},
        {"image-opts", 0, IMG_FLAG, &c->source.image_opts},
        {"target-image-opts", 0, IMG_FLAG, &c->target_image_opts},
        {"target-is-zero", 0, IMG_FLAG, &c->target_is_zero},
        {"salvage", 0, IMG_FLAG, &c->copy.salvage},
        {"bitmaps", 0, IMG_FLAG, &c->bitmaps},
        {"skip-broken-bitmaps", 0, IMG_FLAG, &c->skip_broken},
        {0},
    };
    if (!img_parse_options(img, options, status)) {
        return false;
    }
    *status = 1;
    if (!convert_parse_sparse(c) || !convert_parse_crew(c) ||
        (c->rate != NULL && !img_parse_size("rate limit", c->rate, &c->copy.rate))) {
        return false;
    }
    if (img->file_count < 2) {
        img_error("Must specify image file name");
        return false;
    }
    c->source_count = img->file_count - 1;
    if (c->to.open.format == NULL && !c->target_image_opts) {
        c->to.open.format = "raw";
    }
    return convert_check(c) && convert_check_format(c) && convert_check_compressed(c) &&
           convert_parse_caches(c);
}

/* ---- the conversion ---- */

static coroutine_fn RUNS_IN_MAIN bool convert_co_open_source(Img *img, const Convert *c,
                                                             ImgCopySource *s, unsigned number)
{
    g_autofree char *name = g_strdup_printf("source%u", number), *path = NULL;
    ImgOpen open = c->source;
    open.filename = s->filename;
    if (!open.image_opts && !img_co_spool(s->filename, &s->spooled)) {
        return false;
    }
    if (s->spooled >= 0) {
        open.filename = path = g_strdup_printf("/proc/self/fd/%d", s->spooled);
    }
    s->blk = img_co_open(img, name, &open);
    return s->blk != NULL;
}

static coroutine_fn RUNS_IN_MAIN bool convert_co_open_sources(Img *img, Convert *c)
{
    ImgCopy *copy = &c->copy;
    copy->sources = g_new0(ImgCopySource, img->file_count - 1);
    for (unsigned i = 0; i < img->file_count - 1; i++) {
        ImgCopySource *s = &copy->sources[i];
        copy->source_count++;
        s->filename = img->files[i];
        s->spooled = -1;
        if (!convert_co_open_source(img, c, s, i)) {
            return false;
        }
        if (c->snapshot != NULL && !img_co_view(s->blk, c->snapshot)) {
            return false;
        }
        s->size = blk_size(s->blk);
        copy->total += s->size; /* a size is at most BLOCK_SIZE_MAX */
        if (copy->total > BLOCK_SIZE_MAX) {
            img_error("The images are too large");
            return false;
        }
    }
    if (c->bitmaps && copy->source_count > 1) {
        img_error("Copying bitmaps only possible with single source");
        return false;
    }
    return !c->bitmaps || img_bitmaps_check_source(copy->sources[0].blk, c->skip_broken);
}

typedef struct ConvertFlush {
    BlockBackend *blk;
    int ret;
} ConvertFlush;

static void convert_flush_at_home(void *opaque)
{
    ConvertFlush *f = opaque;
    enter_coroutine();
    enter_iothread(blk_home(f->blk));
    f->ret = blk_co_flush(f->blk);
}

static coroutine_fn RUNS_IN_MAIN bool convert_co_flush(Img *img, const ImgTarget *t)
{
    ConvertFlush f = {.blk = t->blk};
    if (t->blk != NULL) {
        co_call_in(img->home, convert_flush_at_home, &f);
    }
    if (f.ret < 0) {
        img_error("error while flushing the target: %s", g_strerror(-f.ret));
    }
    return f.ret == 0;
}

static RUNS_IN_MAIN bool convert_is_raw(const Convert *c)
{
    BlockNodeInfo info;
    block_node_info(blk_root(c->target.blk), &info);
    return strcmp(info.driver, "raw") == 0;
}

/* A target with a backing file gets only what the source has itself. */
static RUNS_IN_MAIN void convert_find_backing(Convert *c)
{
    BlockNodeInfo info;
    if (c->target.blk == NULL) {
        return;
    }
    block_node_info(blk_root(c->target.blk), &info);
    if (info.backing != NULL) {
        c->copy.backed = true;
        c->copy.zeroes = false;
        c->copy.backing_size = block_node_size(info.backing);
    }
}

/* Compresses whole clusters of the target. False: reported. */
static RUNS_IN_MAIN bool convert_find_unit(Convert *c)
{
    if (!c->compress) {
        return true;
    }
    if (!block_node_can_compress(blk_root(c->target.blk))) { /* -n */
        img_error("Compression not supported for this file format");
        return false;
    }
    c->copy.unit = block_node_image_info(blk_root(c->target.blk))->cluster_size;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool convert_co_run(Img *img, Convert *c)
{
    ImgCopy *copy = &c->copy;
    c->to.size = copy->total;
    c->to.open.filename = img->files[img->file_count - 1];
    c->to.open.image_opts = c->target_image_opts;
    c->to.open.writable = true;
    c->to.open.unmap = copy->min_sparse > 0;
    if (!img_target_co_open(img, &c->target, &c->to)) {
        return false;
    }
    bool stream = c->target.blk == NULL;
    img_progress_init(&c->progress, c->progress_line && !c->quiet && !stream, 1.0);
    copy->target = &c->target;
    copy->progress = &c->progress;
    copy->in_order = stream || !(c->out_of_order || convert_is_raw(c));
    copy->zeroes = copy->min_sparse > 0 && (c->target.is_new || c->target_is_zero);
    convert_find_backing(c);
    bool ok = !c->bitmaps || img_bitmaps_check_target(c->target.blk, c->to.open.format);
    ok = ok && convert_find_unit(c) && img_copy_co_run(img, copy) &&
         convert_co_flush(img, &c->target);
    if (ok && c->bitmaps) {
        ok = img_bitmaps_co_copy(copy->sources[0].blk, c->target.blk, c->skip_broken);
    }
    ok = img_target_co_close(&c->target, ok) && ok;
    if (ok) {
        img_progress_set(&c->progress, copy->total, copy->total);
    }
    img_progress_end(&c->progress);
    return ok;
}

int img_co_convert(Img *img)
{
    Convert c = {.to.options = g_ptr_array_new()};
    int status;
    if (convert_parse(img, &c, &status)) {
        bool ok = convert_co_open_sources(img, &c) && convert_co_run(img, &c);
        status = ok ? 0 : 1;
    }
    for (unsigned i = 0; i < c.copy.source_count; i++) {
        blk_co_free(c.copy.sources[i].blk);
        if (c.copy.sources[i].spooled >= 0) {
            close(c.copy.sources[i].spooled);
        }
    }
    g_free(c.copy.sources);
    g_ptr_array_unref(c.to.options);
    return status;
}
