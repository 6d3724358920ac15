/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images for disks in use: the overlay of a snapshot, the target of a copy. The image is a file that
 * is made, or one that exists, and opens without its backing file; the caller puts it into a chain.
 */
#ifndef SKIFF_BLOCK_CHAIN_NEW_IMAGE_H
#define SKIFF_BLOCK_CHAIN_NEW_IMAGE_H

#include "block/node.h"

/* QEMU's NewImageMode. */
typedef enum NewImageMode { NEW_IMAGE_EXISTING, NEW_IMAGE_ABSOLUTE_PATHS } NewImageMode;

typedef struct NewImageConfig {
    NewImageMode mode;
    const char *filename;
    const char *format;                        /* NULL: "qcow2" */
    const char *node_name;                     /* NULL: generated */
    uint64_t size;                             /* of a new image */
    const char *backing_file, *backing_format; /* of a new image; NULL: none */
    /* Access (unless @writable), cache, discard and aio of this node are taken over. */
    const BlockNode *like;
    bool writable;
    AioContext *home;
} NewImageConfig;

typedef struct NewImage {
    BlockNode *node; /* without a backing child; the caller owns the reference */
    char *made;      /* the file that did not exist before; NULL: it existed */
} NewImage;

/* False + @error: nothing is left, except that a file that existed can have lost its contents. May wait
 * for storage: the caller holds no operation lock, unless it has to. */
bool new_image_co_open(const NewImageConfig *config, NewImage *image, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The image is not used: closes the node, and removes the file if it is new. */
void new_image_co_drop(NewImage *image) coroutine_fn RUNS_IN_MAIN;
/* The image is used: the node is the caller's. */
BlockNode *new_image_take(NewImage *image) RUNS_IN_MAIN;

/* The file name and format under which an image can name @n as its backing file. The path is absolute;
 * to be freed. NULL + @error: @n is not the whole of one file. */
char *new_image_backing_path(const BlockNode *n, const char **format, GError **error) RUNS_IN_MAIN;

#endif
