/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of skiff-img io: reads and writes of patterns, with the words of qemu-io. */
#ifndef SKIFF_BLOCK_IMG_IMG_IO_H
#define SKIFF_BLOCK_IMG_IMG_IO_H

#include "block/img/img.h"

typedef enum ImgIoOp {
    IMG_IO_READ,
    IMG_IO_WRITE,
    IMG_IO_WRITE_ZEROES,
    IMG_IO_DISCARD,
    IMG_IO_FLUSH
} ImgIoOp;

typedef struct ImgIo {
    Img *img;
    BlockBackend *blk;
    /* home */
    unsigned in_flight; /* requests that nobody waits for */
    CoQueue idle;
    bool failed; /* one of them */
} ImgIo;

#define IMG_IO_PIECES_MAX 32u

typedef struct ImgIoRequest {
    ImgIo *io;
    ImgIoOp op;
    const char *name; /* of the command */
    bool background;
    uint64_t offset;
    uint64_t lengths[IMG_IO_PIECES_MAX]; /* of the buffers, one after another */
    unsigned pieces;
    int pattern;          /* written or expected; -1: none */
    uint64_t check_skip;  /* bytes before the ones that are compared with the pattern */
    uint64_t check_bytes; /* 0: up to the end */
    unsigned flags;       /* BLOCK_REQ_* */
    bool quiet, terse, dump;
    int ret;
} ImgIoRequest;

/* Runs the request and prints what qemu-io prints. False: it failed, which has been printed. A
 * request in the background is copied; it returns true at once. */
bool img_io_co_run(const ImgIoRequest *r) coroutine_fn RUNS_IN_MAIN;
/* Waits for all requests in the background. False: one has failed since the last call. */
bool img_io_co_wait(ImgIo *io) coroutine_fn RUNS_IN_MAIN;
/* "64 KiB", "1.500 MiB". Owned by the caller. */
char *img_io_size_text(double size) ANY_THREAD;

#endif
