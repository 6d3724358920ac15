/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the dirty bitmaps, and what the node's requests and its closing do with them.
 *
 *   dirty_bitmap.c        bits, requests, names, commands
 *   dirty_bitmap_merge.c  merging
 *   dirty_bitmap_undo.c   operations that can be undone, for transactions
 *   dirty_bitmap_job.c    bitmaps of jobs, busy bitmaps
 *   dirty_bitmap_store.c  loading and storing, by drivers
 */
#ifndef SKIFF_BLOCK_CORE_DIRTY_BITMAP_H
#define SKIFF_BLOCK_CORE_DIRTY_BITMAP_H

#include "block/dirty_bitmap.h"
#include "block/lane.h"

struct BlockDirtyBitmap {
    /* config */
    char *name;
    unsigned shift; /* a bit stands for 1 << shift bytes */
    bool persistent;
    bool inconsistent; /* it has no bits and is disabled */
    unsigned users;    /* main: who need it to stay and to record as it does */
    _Atomic bool enabled;
    bool busy; /* main: a job uses it */
    /* runtime, in the node's home */
    uint64_t size; /* bytes of the node that have a bit */
    uint64_t *words;
    _Atomic uint64_t set; /* bits; read by main too */
    bool changed;         /* since it was loaded or stored */
    BlockDirtyBitmap
        *successor; /* of a busy bitmap: what requests set since; NULL: it is not busy */
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

/* Sets in @to, which nobody else uses, what is set in @from. */
void bitmap_add_bits(BlockDirtyBitmap *to, const BlockDirtyBitmap *from) ANY_THREAD;
/* Sets the bits of [offset, offset + bytes) as far as there are some. */
void bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Gives the bitmap, which has no bits, those of a node of @size bytes. False: too many, or there is no
 * memory. */
bool bitmap_init_bits(BlockDirtyBitmap *b, uint64_t size) ANY_THREAD;
/* Appends it to the node's list. */
void bitmap_co_append(BlockNode *n, BlockDirtyBitmap *b) coroutine_fn RUNS_IN_IOTHREAD;
void bitmap_unlink(BlockNode *n, BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;
void bitmap_resize(BlockDirtyBitmap *b, uint64_t size) ANY_THREAD;
void bitmap_free(BlockDirtyBitmap *b) ANY_THREAD;

/* NULL + @error: there is none. */
BlockDirtyBitmap *bitmap_find(const BlockNode *n, const char *name, GError **error) RUNS_IN_MAIN;
enum {
    BITMAP_FOR_CHANGE = 1 << 0, /* it must not be read-only */
    BITMAP_FOR_BITS = 1 << 1,   /* it must not be inconsistent */
};
/* The same for a use; NULL + @error also if the bitmap is busy or does not allow the use. */
BlockDirtyBitmap *bitmap_find_for(const BlockNode *n, const char *name, unsigned use,
                                  GError **error) RUNS_IN_MAIN;
/* Before a change: the driver's co_change for a persistent bitmap of a writable node. @drained: the
 * caller has a drained section that covers the node. 0 or -errno. */
int bitmap_co_begin_change(BlockNode *n, const BlockDirtyBitmap *b, bool drained)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- the commands ---- */
struct BlockBitmapUndo {
    BlockNode *node; /* borrowed: the caller keeps it */
    BlockBitmapOpKind kind;
    BlockDirtyBitmap *bitmap; /* REMOVE: owned; else one of the node's */
    unsigned place;           /* REMOVE: among the node's bitmaps */
    bool enabled;             /* ENABLE, DISABLE: before */
    uint64_t *words;          /* ZERO, MERGE: the bits before, owned */
    uint64_t set;
};
/* As block_dirty_bitmap_co_*(). @undo NULL: no drained section covers the node. Else one does, and
 * @undo, which is preset to zeroes, gets what undoes the command. */
bool bitmap_co_add(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool bitmap_co_remove(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool bitmap_co_clear(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool bitmap_co_set_enabled(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool bitmap_co_merge(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Stores a copy of the bits. False: there is no memory. */
bool bitmap_save_bits(const BlockDirtyBitmap *b, BlockBitmapUndo *undo) RUNS_IN_IOTHREAD;
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
