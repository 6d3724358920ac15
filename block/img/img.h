/* SPDX-License-Identifier: Apache-2.0 */
/*
 * skiff-img: the image tool. Each subcommand is a coroutine in main; the images live in one
 * iothread. Spellings, output and exit statuses are those of qemu-img.
 */
#ifndef SKIFF_BLOCK_IMG_IMG_H
#define SKIFF_BLOCK_IMG_IMG_H

#include "block/block.h"

typedef struct Img {
    AioContext *home; /* of the images */
    int argc;
    char **argv;              /* argv[0] is the subcommand */
    void (*print_help)(void); /* all subcommands' */
    char **files;             /* set by img_parse_options(): what follows the options */
    unsigned file_count;
} Img;

/* A subcommand returns the exit status of the process. */
int img_co_check(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_info(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_map(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_snapshot(Img *img) coroutine_fn RUNS_IN_MAIN;

/* ---- img.c ---- */
/* Prints "skiff-img: ..." to standard error. */
void img_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* The same for wrong arguments, with a hint at --help. Returns 1, the exit status. */
int img_usage_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* "1.5 GiB". Owned by the caller. */
char *img_size_text(uint64_t size) ANY_THREAD;

/* ---- img_options.c ---- */
typedef enum ImgOptionKind {
    IMG_FLAG,   /* bool, without an argument */
    IMG_TEXT,   /* const char * */
    IMG_TEXTS,  /* GPtrArray of borrowed texts; the option can be repeated */
    IMG_SIZE,   /* uint64_t, with a suffix; a message calls it by the option's name */
    IMG_NUMBER, /* uint64_t */
    IMG_OUTPUT, /* bool: true for json, false for human */
} ImgOptionKind;

/* An option of a subcommand. A table ends with a row whose target is NULL. */
typedef struct ImgOption {
    const char *name; /* after "--"; NULL: none */
    char letter;      /* after "-"; 0: none */
    ImgOptionKind kind;
    void *target;
} ImgOption;

/* Stores the options of the command line in their targets, and the rest in img->files. False: the
 * subcommand ends with *@status; a wrong option has been reported, --help has been printed. */
bool img_parse_options(Img *img, const ImgOption *table, int *status) RUNS_IN_MAIN;
/* Parses --output. False: reported. */
bool img_parse_output(const char *text, bool *json) ANY_THREAD;
/* Parses a size with a suffix; @what is its name in messages. False: reported. */
bool img_parse_size(const char *what, const char *text, uint64_t *size) ANY_THREAD;

/* ---- img.c ---- */
/* ---- img_open.c ---- */
/* How an image is opened. */
typedef struct ImgOpen {
    const char *filename; /* or "json:{...}"; or options, with image_opts */
    const char *format;   /* NULL: found by its first bytes */
    const char *cache;    /* a cache mode that img_check_cache() accepts; NULL: writeback */
    bool image_opts, force_share;
    bool writable;
    bool no_backing; /* only the image itself is of interest */
    bool unmap;      /* discards reach the file */
} ImgOpen;
/* Opens an image and puts a backend @name on it. NULL: reported. Freed with blk_co_free(). */
BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
    coroutine_fn RUNS_IN_MAIN;
/* Opens only the file of an image, for subcommands that work on its metadata, and stores the image's
 * format in *@format, owned by the caller. NULL: reported. */
BlockBackend *img_co_open_file(Img *img, const char *name, const ImgOpen *open, char **format)
    coroutine_fn RUNS_IN_MAIN;
/* Puts a backend @name on @node, whose reference it takes. NULL: reported. */
BlockBackend *img_co_attach(BlockNode *node, const char *name, const ImgOpen *open)
    coroutine_fn RUNS_IN_MAIN;
/* Whether there is a cache mode @name; @what ("source ", "") is for the report. NULL is one. */
bool img_check_cache(const char *name, const char *what) ANY_THREAD;

/* ---- img_snapshot.c ---- */
/* Prints the table of snapshots, if there are any. */
void img_print_snapshots(const BlockImageInfo *info) RUNS_IN_MAIN;

#endif
