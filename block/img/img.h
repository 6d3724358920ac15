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
    GPtrArray *objects; /* arguments of --object, borrowed; NULL: none */
    bool objects_made;
} Img;

/* Makes the objects of --object, once. False: reported. Called before an image is opened. */
bool img_co_make_objects(Img *img) coroutine_fn RUNS_IN_MAIN;
/* At the end of the process. */
void img_free_objects(Img *img) ANY_THREAD;

/* A subcommand returns the exit status of the process. */
int img_co_check(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_amend(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_bench(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_bitmap(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_commit(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_compare(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_convert(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_create(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_info(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_io(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_map(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_measure(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_rebase(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_resize(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_serve(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_snapshot(Img *img) coroutine_fn RUNS_IN_MAIN;
int img_co_state(Img *img) coroutine_fn RUNS_IN_MAIN;

/* ---- img.c ---- */
/* Prints "skiff-img: ..." to standard error. */
void img_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* The same for wrong arguments, with a hint at --help. Returns 1, the exit status. */
int img_usage_error(const char *format, ...) ANY_THREAD __attribute__((format(printf, 1, 2)));
/* A buffer of any image's alignment, to be freed with free(). */
void *img_buffer_new(size_t size) ANY_THREAD;

/* ---- img_options.c ---- */
typedef enum ImgOptionKind {
    IMG_FLAG,       /* bool, without an argument */
    IMG_TEXT,       /* const char * */
    IMG_TEXTS,      /* GPtrArray of borrowed texts; the option can be repeated */
    IMG_SIZE,       /* uint64_t, with a suffix; a message calls it by the option's name */
    IMG_NUMBER,     /* uint64_t */
    IMG_OUTPUT,     /* bool: true for json, false for human */
    IMG_ORDER,      /* ImgOrder, without an argument */
    IMG_ORDER_TEXT, /* the same with an argument */
} ImgOptionKind;

/* Options whose order matters: each one appends its value to a list that they share. */
typedef struct ImgOrder {
    GArray *list; /* unsigned */
    unsigned value;
    GPtrArray *texts; /* IMG_ORDER_TEXT: gets the borrowed argument too */
} ImgOrder;

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
/* The same for a subcommand with one image: img->files has its name only. */
bool img_parse_for_image(Img *img, const ImgOption *table, int *status) RUNS_IN_MAIN;
/* Parses --output. False: reported. */
bool img_parse_output(const char *text, bool *json) ANY_THREAD;
/* Parses a size with a suffix; @what is its name in messages. False: reported. */
bool img_parse_size(const char *what, const char *text, uint64_t *size) ANY_THREAD;

/* ---- img_open.c ---- */
/* A cache mode, as of -t and -T. */
typedef struct ImgCache {
    bool direct;  /* bypass the page cache */
    bool through; /* each write reaches stable storage */
    bool unsafe;  /* flushes are ignored */
} ImgCache;
/* Parses a cache mode. False if there is none of that name. */
bool img_parse_cache(const char *text, ImgCache *cache) ANY_THREAD;

/* How an image is opened. */
typedef struct ImgOpen {
    const char *filename; /* or "json:{...}"; or options, with image_opts */
    const char *format;   /* NULL: found by its first bytes */
    bool image_opts, force_share;
    bool writable;
    bool no_backing; /* only the image itself is of interest */
    bool unmap;      /* discards reach the file */
    ImgCache cache;
    const char *aio; /* of the file; NULL: the default */
} ImgOpen;
/* Opens an image and puts a backend @name on it. NULL: reported. Freed with blk_co_free(). */
BlockBackend *img_co_open(Img *img, const char *name, const ImgOpen *open)
    coroutine_fn RUNS_IN_MAIN;
/* Completes the image on disk. False: reported. Without it, errors of the close are only logged. */
bool img_co_complete(BlockBackend *blk) coroutine_fn RUNS_IN_MAIN;
/* Puts a backend @name on @node, whose reference it takes. NULL: reported. */
BlockBackend *img_co_attach(BlockNode *node, const char *name, const ImgOpen *open)
    coroutine_fn RUNS_IN_MAIN;
/* The format that the first bytes of @blk show, a string constant. NULL: reported. */
const char *img_co_probe(BlockBackend *blk, const char *filename) coroutine_fn RUNS_IN_MAIN;

/* ---- img_file.c ---- */
/* The file of an image, opened without the image's driver. */
typedef struct ImgFile {
    BlockBackend *blk;
    const char *filename; /* borrowed */
    char *format;         /* of the image in the file */
} ImgFile;
/* Opens the file of an image, with a backend @name. False: reported. */
bool img_co_open_file(Img *img, const char *name, const ImgOpen *open, ImgFile *f)
    coroutine_fn RUNS_IN_MAIN;
void img_co_close_file(ImgFile *f) coroutine_fn RUNS_IN_MAIN;

/* ---- img_create.c ---- */
/* A new image. Texts are borrowed; NULL: not given. */
typedef struct ImgCreate {
    const char *filename;
    const char *format; /* "raw" or "qcow2"; others are refused */
    const char *size;   /* bytes; needed without a backing file */
    const char *backing, *backing_format;
    const GPtrArray *options; /* texts of -o */
    bool no_open;             /* the backing file is not opened */
    bool quiet;
} ImgCreate;
/* Creates the image in a new file, or overwrites the file that is there. False: reported; a file that
 * was there may have lost its contents, and is no image. */
bool img_co_create_image(Img *img, const ImgCreate *c) coroutine_fn RUNS_IN_MAIN;

/* ---- img_crew.c ---- */
/* Runs @count coroutines of @work(@opaque) in the images' home and returns when all have ended. */
void img_co_crew(Img *img, unsigned count, void (*work)(void *opaque), void *opaque)
    coroutine_fn RUNS_IN_MAIN;

/* One coroutine of the home at a time has its turn; the others wait in order. */
typedef struct ImgTurn {
    bool taken;
    CoQueue waiters;
} ImgTurn;
void img_turn_init(ImgTurn *t) ANY_THREAD;
void img_turn_co_take(ImgTurn *t) coroutine_fn RUNS_IN_IOTHREAD;
void img_turn_give(ImgTurn *t) RUNS_IN_IOTHREAD;

/* ---- img_progress.c ---- */
typedef struct ImgProgress {
    bool line;      /* -p */
    double step;    /* percent between two lines */
    double printed; /* percent */
} ImgProgress;
void img_progress_init(ImgProgress *p, bool line, double step) ANY_THREAD;
/* Called by one thread at a time. Also answers a SIGUSR1 that came since the last call. */
void img_progress_set(ImgProgress *p, uint64_t done, uint64_t total) ANY_THREAD;
/* Ends the line. */
void img_progress_end(const ImgProgress *p) ANY_THREAD;

/* ---- img_spool.c ---- */
/* If @filename is a pipe, copies all its data to a temporary file without a name and stores a
 * descriptor of it in *@fd; else -1. False: reported. */
bool img_co_spool(const char *filename, int *fd) coroutine_fn RUNS_IN_MAIN;

/* ---- img_view.c ---- */
/* Makes a read-only image show the snapshot that @snapshot names: an id or a name, or
 * "snapshot.id=ID,snapshot.name=NAME". False: reported. */
bool img_co_view(BlockBackend *blk, const char *snapshot) coroutine_fn RUNS_IN_MAIN;

#endif
