/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img: the image tool. Each subcommand is a coroutine in main; the images live in one
 * iothread. Spellings, output and exit statuses are those of qemu-img.
 */
#ifndef SKIFF_BLOCK_IMG_IMG_H
#define SKIFF_BLOCK_IMG_IMG_H

#include <getopt.h>
#include "block/block.h"

/* Options without a short form. */
enum {
    IMG_OPTION_OUTPUT = 256,
    IMG_OPTION_CHAIN,
    IMG_OPTION_IMAGE_OPTS,
};

typedef struct Img {
    AioContext *home; /* of the images */
    int argc;
    char **argv; /* argv[0] is the subcommand */
} Img;

/* A subcommand returns the exit status of the process. */
int img_co_info(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_map(Img *img) coroutine_fn RUNS_IN_MAIN;

/* ---- img.c ---- */
/* Prints "skiff-img: ..." to standard error. */
void img_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* The same for wrong arguments, with a hint at --help. Returns 1, the exit status. */
int img_usage_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* getopt_long() for the subcommand. -1: no option is left; '?': wrong usage, reported. @shorts
 * begins with ':'. */
int img_getopt(const Img *img, const char *shorts, const struct option *longs) RUNS_IN_MAIN;
/* Parses --output. False: reported. */
bool img_parse_output(const char *text, bool *json) ANY_THREAD;
/* Parses a size with a suffix. False: reported. */
bool img_parse_size(const char *text, uint64_t *size) ANY_THREAD;
/* "1.5 GiB". Owned by the caller. */
char *img_size_text(uint64_t size) ANY_THREAD;

/* How an image is opened. */
typedef struct ImgOpen {
    const char *filename; /* or options, with image_opts */
    const char *format;   /* NULL: found by its first bytes */
    bool image_opts, force_share;
} ImgOpen;
/* Opens an image and puts a backend @name on it. NULL: reported. Freed with blk_co_free(). */
BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
    coroutine_fn RUNS_IN_MAIN;

#endif
