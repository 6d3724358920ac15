/* SPDX-License-Identifier: Apache-2.0 */
/* Walks down chains of images, and the names of backing files in their headers. In main. */
#ifndef SKIFF_BLOCK_CHAIN_CHAIN_H
#define SKIFF_BLOCK_CHAIN_CHAIN_H

#include "block/node.h"

/* The next image below: the backing node, or what a filter shows. NULL: none. Borrowed. */
BlockNode *chain_next(const BlockNode *n) RUNS_IN_MAIN;
/* The node itself, or the image that it shows if it is a filter. */
BlockNode *chain_image(BlockNode *n) RUNS_IN_MAIN;
/* Whether @n is @root or an image below it. */
bool chain_contains(const BlockNode *root, const BlockNode *n) RUNS_IN_MAIN;
/* The image below @root whose file is @name: as the header of the image above it names it, or as a path.
 * NULL: none. */
BlockNode *chain_find_file(BlockNode *root, const char *name) RUNS_IN_MAIN;
/* Backing nodes between @top and @base, which is below it; for block_copy_co_scan(). UINT_MAX: @base is
 * NULL. */
unsigned chain_depth(const BlockNode *top, const BlockNode *base) RUNS_IN_MAIN;

/* A change of the backing file's name in the header of an image, which is writable and drained. */
typedef struct ChainName {
    BlockNode *node;     /* borrowed */
    char *name, *format; /* NULL: none */
    char *old_name, *old_format;
    bool done;
    int ret;
} ChainName;
/* The name for @backing: @name unless it is NULL. False + @error: it has none. */
bool chain_name_init(ChainName *c, BlockNode *n, const BlockNode *backing, const char *name,
                     GError **error) RUNS_IN_MAIN;
/* Flushes the image, and writes the name. False + @error. */
bool chain_name_co_write(ChainName *c, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Writes the old one again, if the new one was written. */
void chain_name_co_undo(ChainName *c) coroutine_fn RUNS_IN_MAIN;
void chain_name_clear(ChainName *c) RUNS_IN_MAIN;

/* Flushes @n in its home. 0 or -errno. */
int chain_co_flush(BlockNode *n) coroutine_fn RUNS_IN_MAIN;

#endif
