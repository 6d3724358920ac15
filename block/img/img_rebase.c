/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img rebase: gives an image another backing file. Its content stays the same: where the old
 * and the new backing file differ, the image gets the old one's data before its header changes. With
 * -u only the header changes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "block/img/img.h"
#include "block/node.h"

#define REBASE_PIECE ((uint64_t)512 << 10)
#define REBASE_SECTOR 512u

typedef struct Rebase {
    const char *filename;
    const char *base, *base_format; /* NULL or "": none */
    bool unsafe;
    BlockBackend *blk;      /* the image */
    BlockNode *old;         /* its backing node; NULL: none */
    BlockBackend *new_base; /* NULL: none, or -u */
    /* depth of the new backing file in the old chain: what comes from there stays; 0: it is not */
    unsigned depth;
    ImgProgress progress;
    int ret;
    const char *what; /* failed */
} Rebase;

/* ---- at home ---- */

static coroutine_fn RUNS_IN_IOTHREAD int rebase_co_read(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, uint8_t *buffer)
{
    uint64_t size = n != NULL ? block_node_size(n) : 0;
    uint64_t there = offset < size ? MIN(bytes, size - offset) : 0;
    struct iovec iov = {buffer, there};
    memset(buffer + there, 0, bytes - there);
    return there > 0 ? block_node_co_preadv(n, offset, there, &iov, 1) : 0;
}

/* The length of the run, from @buffer on, of sectors that are all the same or all different. */
static uint64_t rebase_run(const uint8_t *a, const uint8_t *b, uint64_t bytes, bool *differs)
{
    uint64_t run = 0;
    *differs = false;
    while (run < bytes) {
        uint64_t length = MIN(REBASE_SECTOR, bytes - run);
        bool here = memcmp(a + run, b + run, length) != 0;
        if (run > 0 && here != *differs) {
            break;
        }
        *differs = here;
        run += length;
    }
    return run;
}

/* Copies what differs into the image. */
static coroutine_fn RUNS_IN_IOTHREAD int rebase_co_piece(Rebase *r, uint64_t offset, uint64_t bytes,
                                                         uint8_t *old, uint8_t *new)
{
    BlockNode *new_node = r->new_base != NULL ? blk_root(r->new_base) : NULL;
    r->what = "error while reading from old backing file";
    int ret = rebase_co_read(r->old, offset, bytes, old);
    if (ret == 0) {
        r->what = "error while reading from new backing file";
        ret = rebase_co_read(new_node, offset, bytes, new);
    }
    for (uint64_t done = 0; done < bytes && ret == 0;) {
        bool differs;
        uint64_t length = rebase_run(old + done, new + done, bytes - done, &differs);
        uint64_t at = offset + done, end = r->old != NULL ? block_node_size(r->old) : 0;
        struct iovec iov = {old + done, length};
        r->what = "Error while writing to COW image";
        if (differs) {
            ret = at >= end ? blk_co_write_zeroes(r->blk, at, length, 0)
                            : blk_co_pwritev(r->blk, at, length, &iov, 1, 0);
        }
        done += length;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int rebase_co_content(Rebase *r, uint8_t *old, uint8_t *new)
{
    uint64_t size = blk_size(r->blk);
    BlockStatus s;
    int ret = 0;
    for (uint64_t at = 0; at < size && ret == 0; at += s.bytes) {
        img_progress_set(&r->progress, at, size);
        r->what = "error while reading image metadata";
        ret = blk_co_block_status(r->blk, at, size - at, true, &s);
        bool own = s.depth == 0 && (s.flags & BLOCK_STATUS_ALLOCATED) != 0;
        bool below = r->depth > 0 && s.depth >= r->depth;
        if (ret == 0 && !own && !below) {
            s.bytes = MIN(s.bytes, REBASE_PIECE);
            ret = rebase_co_piece(r, at, s.bytes, old, new);
        }
    }
    return ret;
}

static void rebase_at_home(void *opaque)
{
    Rebase *r = opaque;
    enter_coroutine();
    enter_iothread(blk_home(r->blk));
    if (!r->unsafe) {
        uint8_t *buffers = img_buffer_new(2 * REBASE_PIECE);
        r->ret = rebase_co_content(r, buffers, buffers + REBASE_PIECE);
        free(buffers);
        if (r->ret == 0) {
            r->what = "Error while writing to COW image";
            r->ret = blk_co_flush(r->blk);
        }
    }
    if (r->ret == 0) {
        bool none = r->base == NULL || r->base[0] == '\0';
        r->what = NULL;
        r->ret = block_node_co_change_backing(blk_root(r->blk), none ? NULL : r->base,
                                              none ? NULL : r->base_format);
    }
}

/* ---- in main ---- */

/* The path that the image will find its new backing file at. Owned by the caller. */
static char *rebase_path(const Rebase *r)
{
    const char *slash = strrchr(r->filename, '/');
    size_t protocol = strcspn(r->base, ":/");
    if (r->base[0] == '/' || r->base[protocol] == ':' || slash == NULL) {
        return g_strdup(r->base);
    }
    return g_strdup_printf("%.*s%s", (int)(slash + 1 - r->filename), r->filename, r->base);
}

/* Looks for the file among the images below. Returns its depth; 0: it is not there. */
static RUNS_IN_MAIN unsigned rebase_find_depth(const Rebase *r, const char *path)
{
    BlockNodeInfo info, base;
    block_node_info(blk_root(r->new_base), &base);
    block_node_info(blk_root(r->blk), &info);
    for (unsigned depth = 1; info.backing != NULL; depth++) {
        block_node_info(info.backing, &info);
        if (g_strcmp0(info.filename, path) == 0 && g_strcmp0(info.driver, base.driver) == 0) {
            return depth;
        }
    }
    return 0;
}

/* Opens the new backing file. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool rebase_co_open_base(Img *img, Rebase *r, ImgOpen base)
{
    BlockNodeInfo info;
    block_node_info(blk_root(r->blk), &info);
    r->old = info.backing;
    if (r->unsafe || r->base[0] == '\0') {
        return true;
    }
    g_autofree char *path = rebase_path(r);
    base.filename = path;
    base.format = r->base_format;
    r->new_base = img_co_open(img, "base", &base);
    if (r->new_base == NULL) {
        return false;
    }
    r->depth = rebase_find_depth(r, path);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool rebase_co_run(Img *img, Rebase *r, const ImgOpen *base)
{
    if (!rebase_co_open_base(img, r, *base)) {
        return false;
    }
    co_call_in(img->home, rebase_at_home, r);
    const char *name = r->base != NULL ? r->base : "";
    if (r->ret == 0) {
        img_progress_set(&r->progress, 1, 1);
    } else if (r->what != NULL) {
        img_error("%s: %s", r->what, g_strerror(-r->ret));
    } else if (r->ret == -ENOSPC) {
        img_error("Could not change the backing file to '%s': No space left in the file header",
                  name);
    } else {
        img_error("Could not change the backing file to '%s': %s", name, g_strerror(-r->ret));
    }
    img_progress_end(&r->progress);
    return r->ret == 0;
}

static bool rebase_parse_caches(const char *cache, const char *base_cache, ImgOpen *o,
                                ImgOpen *base)
{
    if (cache != NULL && !img_parse_cache(cache, &o->cache)) {
        img_error("Invalid cache option: %s", cache);
        return false;
    }
    if (base_cache != NULL && !img_parse_cache(base_cache, &base->cache)) {
        img_error("Invalid source cache option: %s", base_cache);
        return false;
    }
    return true;
}

static bool rebase_check(const Rebase *r)
{
    if (r->base_format != NULL && block_driver_find(r->base_format) == NULL) {
        img_error("Invalid format name: '%s'", r->base_format);
        return false;
    }
    if (r->base != NULL && r->base[0] != '\0' && r->base_format == NULL) {
        img_error("Could not change the backing file to '%s': backing format must be specified",
                  r->base);
        return false;
    }
    return true;
}

int img_co_rebase(Img *img)
{
    ImgOpen o = {.writable = true}, base = {0};
    Rebase r = {0};
    bool progress = false, quiet = false;
    const char *cache = NULL, *base_cache = NULL;
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &o.format},
        {NULL, 'b', IMG_TEXT, &r.base},
        {NULL, 'F', IMG_TEXT, &r.base_format},
        {NULL, 't', IMG_TEXT, &cache},
        {NULL, 'T', IMG_TEXT, &base_cache},
        {NULL, 'p', IMG_FLAG, &progress},
        {NULL, 'q', IMG_FLAG, &quiet},
        {NULL, 'u', IMG_FLAG, &r.unsafe},
        {"force-share", 'U', IMG_FLAG, &base.force_share},
        {"image-opts", 0, IMG_FLAG, &o.image_opts},
        {0},
    };
    int status;
    if (!img_parse_for_image(img, options, &status)) {
        return status;
    }
    if (!r.unsafe && r.base == NULL) {
        return img_usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
    }
    if (!rebase_parse_caches(cache, base_cache, &o, &base) || !rebase_check(&r)) {
        return 1;
    }
    img_progress_init(&r.progress, progress && !quiet, 1.0);
    o.filename = r.filename = img->files[0];
    o.no_backing = r.unsafe;
    r.blk = img_co_open(img, "image", &o);
    if (r.blk == NULL) {
        return 1;
    }
    status = rebase_co_run(img, &r, &base) ? 0 : 1;
    blk_co_free(r.new_base);
    blk_co_free(r.blk);
    return status;
}
