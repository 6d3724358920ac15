/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a conversion writes to.
 *
 *   a new or existing file   a temporary file "NAME.skiff-PID" beside it, which gets the name when
 *                            it is complete, and is removed after a failure or a signal
 *   with -n                  an existing image, in place
 *   a device                 in place
 *   a pipe                   in order, from the first byte to the last
 *
 * A file that a process uses is refused, also if it would only lose its name.
 */
#ifndef SKIFF_BLOCK_IMG_IMG_TARGET_H
#define SKIFF_BLOCK_IMG_IMG_TARGET_H

#include "block/img/img.h"

/* How a target is made or found. */
typedef struct ImgTargetOptions {
    ImgOpen open;       /* filename, format, cache, image_opts */
    GPtrArray *options; /* of -o: texts; NULL: none */
    const char *backing, *backing_format;
    bool existing; /* -n */
    uint64_t size; /* of the content */
} ImgTargetOptions;

typedef struct ImgTarget {
    BlockBackend *blk; /* NULL: a stream */
    int stream;        /* descriptor; -1: none */
    bool is_new;       /* what was not written reads as zeroes */
    /* private */
    BlockBackend *old; /* keeps others out of the file that will be replaced; NULL: none */
    char *path;        /* the name that the temporary file gets; NULL: none */
    char *temporary;
} ImgTarget;

/* False: reported. Else ended by img_target_co_close(). */
bool img_target_co_open(Img *img, ImgTarget *t, const ImgTargetOptions *o)
    coroutine_fn RUNS_IN_MAIN;
/* Closes the target. If @complete, the file gets its name: false + report if that fails. Otherwise
 * a new file is removed. */
bool img_target_co_close(ImgTarget *t, bool complete) coroutine_fn RUNS_IN_MAIN;

/* Writes to the stream. 0 or -errno. */
int img_target_co_stream(ImgTarget *t, const void *data, size_t size) coroutine_fn RUNS_IN_IOTHREAD;

#endif
