/* SPDX-License-Identifier: Apache-2.0 */
/* Creation of images: its options, and the files that it makes. */
#ifndef SKIFF_BLOCK_IMG_IMG_CREATE_H
#define SKIFF_BLOCK_IMG_IMG_CREATE_H

#include "block/img/img.h"
#include "block/qcow2/qcow2_create.h"

/* ---- img_create_options.c ---- */
/* Options of -o, in the order in which those of qcow2 are printed. */
typedef enum CreateOption {
    CREATE_CLUSTER_SIZE,
    CREATE_EXTENDED_L2,
    CREATE_PREALLOCATION,
    CREATE_COMPRESSION_TYPE,
    CREATE_SIZE,
    CREATE_COMPAT,
    CREATE_BACKING_FILE,
    CREATE_BACKING_FMT,
    CREATE_DATA_FILE,
    CREATE_DATA_FILE_RAW,
    CREATE_LAZY_REFCOUNTS,
    CREATE_REFCOUNT_BITS,
    CREATE_OPTIONS,
} CreateOption;

/* The values, as text; NULL: not given. */
typedef struct CreateValues {
    char *texts[CREATE_OPTIONS];
} CreateValues;

bool create_format_has(const char *format, CreateOption option) ANY_THREAD;
void create_print_options(const char *format) ANY_THREAD;
/* Takes one -o. False + @error. */
bool create_parse(CreateValues *v, const char *format, const char *text, GError **error) ANY_THREAD;
void create_set(CreateValues *v, CreateOption option, const char *value) ANY_THREAD;
void create_set_defaults(CreateValues *v, const char *format) ANY_THREAD;
/* Prints " name=value" for each, in qemu-img's order. */
void create_print(const CreateValues *v, const char *format) ANY_THREAD;
/* Converts to the options of an image. Texts in @o are borrowed from @v. False + @error. */
bool create_convert(const CreateValues *v, const char *format, Qcow2CreateOptions *o,
                    GError **error) ANY_THREAD;
void create_clear(CreateValues *v) ANY_THREAD;

/* ---- img_create_file.c ---- */
/* A file that is open for writing, and has been made if it did not exist. */
typedef struct CreateFile {
    char *path; /* owned */
    BlockBackend *blk;
    bool is_new;
    bool is_device;
} CreateFile;
/* Opens @path for writing. Its contents are unchanged. False + @error. */
bool create_co_open_file(Img *img, const char *name, const char *path, CreateFile *f,
                         GError **error) coroutine_fn RUNS_IN_MAIN;
/* Closes the file. If the creation failed, a new file is removed. */
void create_co_close_file(CreateFile *f, bool ok) coroutine_fn RUNS_IN_MAIN;
/* The path that @name in the header of image @filename means; owned by the caller. */
char *create_resolve(const char *filename, const char *name) ANY_THREAD;

#endif
