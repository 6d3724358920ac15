/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img commit: writes what an image holds into its backing file, or into the one that -b names.
 * Then the image is empty, unless -b or -d is given.
 *
 * The images above the base are opened without it; so a range that none of them holds is known by
 * its depth. The image is emptied after everything is on stable storage in the base.
 */
#include <stdio.h>
#include <string.h>
#include "block/img/img_copy.h"
#include "block/nbd/nbd_client_name.h"
#include "block/node.h"

#define COMMIT_CHAIN_MAX 64u
#define COMMIT_CREW 8u

/* An image of the chain. */
typedef struct CommitImage {
    char *path;         /* owned */
    char *format;       /* owned; NULL: to be found */
    char *backing_name; /* owned, as in the header */
} CommitImage;

typedef struct Commit {
    ImgOpen open; /* of the image */
    const char *base, *rate;
    bool drop, progress_line, quiet;
    GPtrArray *chain; /* CommitImage: the image first, the base last */
    ImgCopySource source;
    ImgTarget target;
    ImgCopy copy;
    ImgProgress progress;
} Commit;

static void commit_image_free(void *image)
{
    CommitImage *i = image;
    g_free(i->path);
    g_free(i->format);
    g_free(i->backing_name);
    g_free(i);
}

/* ---- the chain ---- */

typedef struct CommitLook {
    BlockBackend *blk;
    BlockImageInfo info;
    GError *error;
} CommitLook;

static void commit_look_at_home(void *opaque)
{
    CommitLook *l = opaque;
    enter_coroutine();
    enter_iothread(blk_home(l->blk));
    block_node_co_image_info(blk_root(l->blk), &l->info, &l->error);
}

static void commit_report_end(const Commit *c)
{
    if (c->base != NULL) {
        img_error("Did not find '%s' in the backing chain of '%s'", c->base, c->open.filename);
    } else {
        img_error("Image does not have a backing file");
    }
}

/* Finds the backing file of the chain's last image and adds it. False: reported. */
static coroutine_fn RUNS_IN_MAIN bool commit_co_next(Img *img, Commit *c)
{
    CommitImage *last = c->chain->pdata[c->chain->len - 1];
    const ImgOpen o = {.filename = last->path, .format = last->format, .no_backing = true};
    CommitLook l = {.blk = img_co_open(img, "look", &o)};
    if (l.blk == NULL) {
        return false;
    }
    BlockNodeInfo node;
    block_node_info(blk_root(l.blk), &node);
    co_call_in(img->home, commit_look_at_home, &l);
    if (last->format == NULL) {
        last->format = g_strdup(node.driver);
    }
    blk_co_free(l.blk);
    bool found = l.error == NULL && l.info.backing_path != NULL;
    if (found) {
        CommitImage *next = g_new0(CommitImage, 1);
        next->path = g_steal_pointer(&l.info.backing_path);
        next->format = g_steal_pointer(&l.info.backing_format);
        next->backing_name = g_steal_pointer(&l.info.backing_name);
        g_ptr_array_add(c->chain, next);
    } else if (l.error != NULL) {
        img_error("%s", l.error->message);
        g_clear_error(&l.error);
    } else {
        commit_report_end(c);
    }
    block_image_info_clear(&l.info);
    return found;
}

/* Whether the chain's last image is the one that -b names. */
static bool commit_is_base(const Commit *c)
{
    const CommitImage *last = c->chain->pdata[c->chain->len - 1];
    return c->chain->len > 1 && (c->base == NULL || strcmp(c->base, last->path) == 0 ||
                                 strcmp(c->base, last->backing_name) == 0);
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_find_chain(Img *img, Commit *c)
{
    CommitImage *top = g_new0(CommitImage, 1);
    top->path = g_strdup(c->open.filename);
    top->format = g_strdup(c->open.format);
    g_ptr_array_add(c->chain, top);
    while (!commit_is_base(c)) {
        if (c->chain->len > COMMIT_CHAIN_MAX) {
            commit_report_end(c); /* a loop */
            return false;
        }
        if (!commit_co_next(img, c)) {
            return false;
        }
    }
    return true;
}

/* ---- opening ---- */

/* Describes the images above the base, from @index on. */
static OptDict *commit_describe(const Commit *c, unsigned index)
{
    const CommitImage *i = c->chain->pdata[index];
    OptDict *d = g_str_has_prefix(i->path, "json:")
                     ? opt_dict_parse(i->path + strlen("json:"), NULL, NULL)
                     : opt_dict_new();
    OptDict *nbd = nbd_client_is_name(i->path) ? nbd_client_describe_name(i->path, NULL) : NULL;
    if (nbd != NULL) {
        opt_dict_set(d, "driver", i->format);
        opt_dict_set_dict(d, "file", nbd);
    } else if (opt_dict_count(d) == 0) {
        opt_dict_set(d, "driver", i->format);
        opt_dict_set(d, "file.driver", "file");
        opt_dict_set(d, "file.filename",
                     g_str_has_prefix(i->path, "file:") ? i->path + strlen("file:") : i->path);
    }
    if (index + 2 < c->chain->len) {
        opt_dict_set_dict(d, "backing", commit_describe(c, index + 1));
    } else {
        opt_dict_set(d, "backing", "");
    }
    return d;
}

static coroutine_fn RUNS_IN_MAIN BlockBackend *commit_co_open_source(Img *img, const Commit *c)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptDict) d = commit_describe(c, 0);
    opt_dict_set(d, "read-only", c->open.writable ? "off" : "on");
    opt_dict_set(d, "cache.direct", c->open.cache.direct ? "on" : "off");
    opt_dict_set(d, "cache.no-flush", c->open.cache.unsafe ? "on" : "off");
    BlockNode *node = block_co_open(d, img->home, &error);
    if (node == NULL) {
        img_error("Could not open '%s': %s", c->open.filename, error->message);
        return NULL;
    }
    return img_co_attach(node, "image", &c->open);
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_open(Img *img, Commit *c)
{
    g_autoptr(GError) error = NULL;
    const CommitImage *base = c->chain->pdata[c->chain->len - 1];
    const ImgOpen o = {.filename = base->path,
                       .format = base->format,
                       .cache = c->open.cache,
                       .writable = true,
                       .unmap = true};
    c->open.writable = !c->drop && c->base == NULL; /* to be emptied */
    c->source.filename = c->open.filename;
    c->source.blk = commit_co_open_source(img, c);
    c->target.stream = -1;
    c->target.blk = c->source.blk != NULL ? img_co_open(img, "base", &o) : NULL;
    if (c->target.blk == NULL) {
        return false;
    }
    c->source.size = blk_size(c->source.blk);
    if (blk_size(c->target.blk) < c->source.size &&
        blk_co_truncate(c->target.blk, c->source.size, &error) < 0) {
        img_error("%s", error->message);
        return false;
    }
    return true;
}

/* ---- the end ---- */

typedef struct CommitEnd {
    Commit *c;
    const char *what; /* failed */
    int ret;
} CommitEnd;

static void commit_end_at_home(void *opaque)
{
    CommitEnd *e = opaque;
    enter_coroutine();
    enter_iothread(blk_home(e->c->target.blk));
    e->what = "flushing the base";
    e->ret = blk_co_flush(e->c->target.blk);
    if (e->ret == 0 && e->c->open.writable) {
        e->what = "emptying the image";
        e->ret = block_node_co_make_empty(blk_root(e->c->source.blk));
    }
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_run(Img *img, Commit *c)
{
    CommitEnd e = {.c = c};
    if (!commit_co_find_chain(img, c) || !commit_co_open(img, c)) {
        return false;
    }
    c->copy.sources = &c->source;
    c->copy.source_count = 1;
    c->copy.target = &c->target;
    c->copy.total = c->source.size;
    c->copy.min_sparse = BLOCK_SECTOR_SIZE * 8;
    c->copy.crew = COMMIT_CREW;
    c->copy.held_only = true;
    c->copy.last_depth = c->chain->len - 2;
    c->copy.progress = &c->progress;
    if (!img_copy_co_run(img, &c->copy)) {
        return false;
    }
    co_call_in(img->home, commit_end_at_home, &e);
    if (e.ret < 0) {
        img_error("error while %s: %s", e.what, g_strerror(-e.ret));
        return false;
    }
    img_progress_set(&c->progress, 1, 1);
    img_progress_end(&c->progress);
    if (!c->quiet) {
        puts("Image committed.");
    }
    return true;
}

int img_co_commit(Img *img)
{
    Commit c = {0};
    const char *cache = NULL;
    const ImgOption options[] = {
        {NULL, 'f', IMG_TEXT, &c.open.format},   {NULL, 't', IMG_TEXT, &cache},
        {NULL, 'b', IMG_TEXT, &c.base},          {NULL, 'd', IMG_FLAG, &c.drop},
        {NULL, 'p', IMG_FLAG, &c.progress_line}, {NULL, 'q', IMG_FLAG, &c.quiet},
        {NULL, 'r', IMG_TEXT, &c.rate},          {0},
    };
    int status;
    if (!img_parse_options(img, options, &status)) {
        return status;
    }
    if (c.rate != NULL && !img_parse_size("rate limit", c.rate, &c.copy.rate)) {
        return 1;
    }
    if (img->file_count != 1) {
        return img_usage_error("Expecting one image file name");
    }
    if (cache != NULL && !img_parse_cache(cache, &c.open.cache)) {
        img_error("Invalid cache option: %s", cache);
        return 1;
    }
    c.open.filename = img->files[0];
    c.chain = g_ptr_array_new_with_free_func(commit_image_free);
    img_progress_init(&c.progress, c.progress_line && !c.quiet, 1.0);
    status = commit_co_run(img, &c) ? 0 : 1;
    blk_co_free(c.target.blk);
    blk_co_free(c.source.blk);
    g_ptr_array_unref(c.chain);
    return status;
}
