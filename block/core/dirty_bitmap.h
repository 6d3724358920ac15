/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the dirty bitmaps, and what the node's requests and its closing do with them.
 *
 *   dirty_bitmap.c        bits, requests, names, commands
 *   dirty_bitmap_merge.c  merging
 *   dirty_bitmap_store.c  loading and storing, by drivers
 */
#ifndef SKIFF_BLOCK_CORE_DIRTY_BITMAP_H
#define SKIFF_BLOCK_CORE_DIRTY_BITMAP_H

#include "block/dirty_bitmap.h"
#include "block/node.h"

struct BlockDirtyBitmap {
    /* config */
    char *name;
    unsigned shift; /* a bit stands for 1 << shift bytes */
    bool persistent;
    bool inconsistent; /* it has no bits and is disabled */
    unsigned users;    /* main: who need it to stay and to record as it does */
    _Atomic bool enabled;
    /* runtime, in the node's home */
    uint64_t size; /* bytes of the node that have a bit */
    uint64_t *words;
    _Atomic uint64_t set; /* bits; read by main too */
    bool changed;         /* since it was loaded or stored */
    BlockDirtyBitmap *next;
};

#define BITMAP_WORD 64u /* bits */

static inline uint64_t bitmap_bits(uint64_t size, unsigned shift)
{
    return (size >> shift) + ((size & (((uint64_t)1 << shift) - 1)) != 0);
}

static inline size_t bitmap_words(uint64_t bits)
{
    return (size_t)((bits + BITMAP_WORD - 1) / BITMAP_WORD);
}

/* Sets the bits of [offset, offset + bytes) as far as there are some. */
void bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Gives the bitmap, which has no bits, those of a node of @size bytes. False: too many, or there is no
 * memory. */
bool bitmap_init_bits(BlockDirtyBitmap *b, uint64_t size) ANY_THREAD;
/* Appends it to the node's list. */
void bitmap_append(BlockNode *n, BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;
void bitmap_resize(BlockDirtyBitmap *b, uint64_t size) ANY_THREAD;
void bitmap_free(BlockDirtyBitmap *b) ANY_THREAD;

/* NULL + @error: there is none. */
BlockDirtyBitmap *bitmap_find(const BlockNode *n, const char *name, GError **error) RUNS_IN_MAIN;
enum {
    BITMAP_FOR_CHANGE = 1 << 0, /* it must not be read-only */
    BITMAP_FOR_BITS = 1 << 1,   /* it must not be inconsistent */
};
/* The same for a use; NULL + @error also if the bitmap does not allow the use. */
BlockDirtyBitmap *bitmap_find_for(const BlockNode *n, const char *name, unsigned use,
                                  GError **error) RUNS_IN_MAIN;
/* Before a change: the driver's co_change for a persistent bitmap of a writable node. 0 or -errno. */
int bitmap_co_begin_change(BlockNode *n, const BlockDirtyBitmap *b) coroutine_fn RUNS_IN_IOTHREAD;
/* Reports that this has failed with @ret. */
void bitmap_change_failed(const BlockNode *n, int ret, GError **error) ANY_THREAD;

/* Sets the bits of [offset, offset + bytes) in all enabled bitmaps of @n, which has some. */
void node_bitmaps_set(BlockNode *n, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* The node's size is about to become @size. 0; -EFBIG: its bitmaps would be too large; -ENOTSUP: one
 * is inconsistent. */
int node_bitmaps_can_resize(const BlockNode *n, uint64_t size) RUNS_IN_IOTHREAD;
/* Names the bitmap because of which the node cannot be resized, in main. True: there is none. */
bool node_bitmaps_check_resize(const BlockNode *n, GError **error) RUNS_IN_MAIN;
/* In the node's home, or in main while it is drained. */
void node_bitmaps_resize(BlockNode *n, uint64_t size) ANY_THREAD;
/* The node has no requests any more. */
void node_bitmaps_free(BlockNode *n) RUNS_IN_MAIN;

#endif
