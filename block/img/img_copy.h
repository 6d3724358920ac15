/* SPDX-License-Identifier: Apache-2.0 */
/* Copies the content of images, one after another, into a target. */
#ifndef SKIFF_BLOCK_IMG_IMG_COPY_H
#define SKIFF_BLOCK_IMG_IMG_COPY_H

#include "block/img/img_target.h"

typedef struct ImgCopySource {
    const char *filename;
    BlockBackend *blk;
    uint64_t size;
    int spooled; /* descriptor of the data of a pipe; -1: it is none */
} ImgCopySource;

typedef struct ImgCopy {
    /* what to do */
    ImgCopySource *sources;
    unsigned source_count;
    ImgTarget *target;
    uint64_t total;        /* the sources' sizes */
    uint64_t min_sparse;   /* that many zeroes are not written; 0: all are written */
    uint64_t rate;         /* bytes in a second; 0: no limit */
    unsigned crew;         /* coroutines */
    bool in_order;         /* pieces are written one after another */
    uint64_t unit;         /* whole units of so many bytes are compressed; 0: nothing is */
    bool zeroes;           /* what is not written reads as zeroes */
    bool backed;           /* what a source has from its backing file, the target has too */
    uint64_t backing_size; /* of the target: beyond it, what is not written reads as zeroes */
    bool held_only;        /* only what a source, or an image down to last_depth, holds */
    unsigned last_depth;   /* ranges beyond the end of an image above are zeroes */
    bool salvage;          /* what cannot be read becomes zeroes */
    ImgProgress *progress;
    /* private */
    ImgTurn turn;
    uint64_t next;   /* the first byte that no coroutine has taken */
    unsigned source; /* that has it */
    uint64_t source_start;
    BlockStatus status; /* of [status_start, status_start + bytes) */
    uint64_t status_start;
    uint64_t taken;   /* pieces */
    uint64_t written; /* pieces that ended, in order */
    CoQueue order;
    int64_t started_ns;
    bool failed;
} ImgCopy;

/* Copies everything. False: reported. */
bool img_copy_co_run(Img *img, ImgCopy *c) coroutine_fn RUNS_IN_MAIN;

#endif
