/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dirty bitmaps: which parts of a node have changed since a bitmap was added or cleared.
 *
 * A bitmap has one bit for each @granularity bytes of its node. While it is enabled, each write,
 * write-zeroes and discard of the node sets the bits of its range when it ends, also when it fails,
 * since it may have changed something. Bits of a part by which the node grows are clear.
 *
 * Names belong to a node. The functions with a name run under the operation lock, which keeps the
 * node's home; bits are read and changed in that home only.
 *
 * A persistent bitmap is kept in the image of its node, by the node's driver (BlockBitmapDriver in
 * block/node.h). It is in memory while the node is open:
 *
 *   opened --driver--> loaded --requests, commands--> changed --driver: the image is completed--> stored
 *
 * Before the image or a persistent bitmap changes, the driver marks the stored bitmaps as out of
 * date. A bitmap that is loaded with such a mark is inconsistent: it has no bits, and it can only be
 * removed. The persistent bitmaps of a read-only node cannot be changed.
 */
#ifndef SKIFF_BLOCK_DIRTY_BITMAP_H
#define SKIFF_BLOCK_DIRTY_BITMAP_H

#include "block/block.h"

#define BLOCK_BITMAP_NAME_MAX 1023u
#define BLOCK_BITMAP_BITS_MAX ((uint64_t)1 << 32) /* 512 MiB of memory */
/* Of all bitmaps of a node together: 1 GiB of memory. */
#define BLOCK_BITMAPS_BITS_MAX ((uint64_t)1 << 33)
#define BLOCK_BITMAP_GRANULARITY_MIN_DEFAULT 4096u
#define BLOCK_BITMAP_GRANULARITY_DEFAULT 65536u

typedef struct BlockDirtyBitmapInfo {
    const char *name; /* borrowed */
    uint32_t granularity;
    uint64_t dirty_bytes; /* set bits, in bytes: a multiple of the granularity */
    bool recording;       /* enabled */
    bool persistent;
    bool inconsistent; /* it can only be removed */
    bool busy;         /* it has a user */
} BlockDirtyBitmapInfo;

enum {
    BLOCK_BITMAP_DISABLED = 1 << 0,
    BLOCK_BITMAP_PERSISTENT = 1 << 1,
};

/* Adds a bitmap without set bits. @granularity is a power of two of at least 512, or 0 for the
 * default: the cluster size of the image within 4 KiB and 64 KiB, or 64 KiB. @flags are
 * BLOCK_BITMAP_*. */
bool block_dirty_bitmap_co_add(BlockNode *n, const char *name, uint32_t granularity, unsigned flags,
                               GError **error) coroutine_fn RUNS_IN_MAIN;
/* A persistent bitmap is no longer in the image when this returns. On failure it stays. */
bool block_dirty_bitmap_co_remove(BlockNode *n, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool block_dirty_bitmap_co_clear(BlockNode *n, const char *name, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool block_dirty_bitmap_co_set_enabled(BlockNode *n, const char *name, bool enabled, GError **error)
    coroutine_fn RUNS_IN_MAIN;

typedef struct BlockDirtyBitmapRef {
    BlockNode *node;
    const char *name;
} BlockDirtyBitmapRef;
/* Sets in @target's bitmap what is set in any of the @count @sources. The nodes have the same size,
 * the granularities can differ. On failure @target is as it was. */
bool block_dirty_bitmap_co_merge(BlockDirtyBitmapRef target, const BlockDirtyBitmapRef *sources,
                                 unsigned count, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- several changes that take effect together (block/core/dirty_bitmap_undo.c) ---- */
typedef enum BlockBitmapOpKind {
    BLOCK_BITMAP_ADD,
    BLOCK_BITMAP_REMOVE,
    BLOCK_BITMAP_ZERO, /* clear */
    BLOCK_BITMAP_ENABLE,
    BLOCK_BITMAP_DISABLE,
    BLOCK_BITMAP_MERGE,
} BlockBitmapOpKind;

/* One of the operations above, with its arguments. */
typedef struct BlockBitmapOp {
    BlockBitmapOpKind kind;
    BlockNode *node;
    const char *name;
    uint32_t granularity; /* ADD */
    unsigned flags;       /* ADD */
    const BlockDirtyBitmapRef *sources;
    unsigned count; /* MERGE: of the sources */
} BlockBitmapOp;

/* Does @op alone. */
bool block_bitmap_co_run(const BlockBitmapOp *op, GError **error) coroutine_fn RUNS_IN_MAIN;

typedef struct BlockBitmapUndo BlockBitmapUndo;
/* Does @op inside a drained section of the caller, which covers all its nodes and lasts until the undo
 * is used. NULL + @error: nothing has changed. */
BlockBitmapUndo *block_bitmap_co_do(const BlockBitmapOp *op, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Undoes the operation, or makes it final; frees @undo. Later operations are undone first. */
void block_bitmap_co_undo(BlockBitmapUndo *undo) coroutine_fn RUNS_IN_MAIN;
void block_bitmap_undo_free(BlockBitmapUndo *undo) RUNS_IN_MAIN;
/* ---- users ---- */
/* A user reads the bits in the node's home. While a bitmap has one, the functions above refuse it.
 * Under the operation lock. The user holds a reference to the node. NULL + @error: there is none of
 * that name, it is in use, or it is inconsistent. */
typedef struct BlockDirtyBitmap BlockDirtyBitmap;
BlockDirtyBitmap *block_dirty_bitmap_use(BlockNode *n, const char *name, GError **error)
    RUNS_IN_MAIN;
void block_dirty_bitmap_unuse(BlockDirtyBitmap *b) RUNS_IN_MAIN;
bool block_dirty_bitmap_enabled(const BlockDirtyBitmap *b) ANY_THREAD;
/* Returns how many of the @bytes bytes from @offset on are alike, at least 1 if @bytes is not 0, and
 * whether they are dirty. What is beyond the end of the bitmap is clean. */
uint64_t block_dirty_bitmap_run(const BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes,
                                bool *dirty) RUNS_IN_IOTHREAD;

/* The number of bitmaps of @n, and one of them. */
unsigned block_dirty_bitmap_count(const BlockNode *n) RUNS_IN_MAIN;
void block_dirty_bitmap_info(const BlockNode *n, unsigned i, BlockDirtyBitmapInfo *info)
    RUNS_IN_MAIN;
/* Whether the image of @n can have persistent bitmaps. */
bool block_node_can_store_bitmaps(const BlockNode *n) RUNS_IN_MAIN;

typedef struct BlockDirtyBitmap BlockDirtyBitmap;

/* ---- for jobs (block/core/dirty_bitmap_job.c) ---- */
/*
 * What a job has to copy is a bitmap of its own. It has no name and belongs to no node, so no request
 * sets its bits. One thread uses it at a time.
 */
/* A bitmap for @size bytes without set bits. @granularity is a power of two of at least 512. NULL:
 * it would be too large, or there is no memory. */
BlockDirtyBitmap *block_bitmap_new(uint64_t size, uint32_t granularity) ANY_THREAD;
/* NULL is fine. */
void block_bitmap_free(BlockDirtyBitmap *b) ANY_THREAD;
uint64_t block_bitmap_size(const BlockDirtyBitmap *b) ANY_THREAD;
uint32_t block_bitmap_granularity(const BlockDirtyBitmap *b) ANY_THREAD;
/* The bytes that have a set bit, at most the size. */
uint64_t block_bitmap_dirty_bytes(const BlockDirtyBitmap *b) ANY_THREAD;
/* Sets all bits that a byte of the range has. */
void block_bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Clears the bits whose bytes are all in the range. */
void block_bitmap_clear(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes) ANY_THREAD;
/* Finds the first run of set bits in [from, end): stores its start and length, both within that
 * range. False: no bit is set. */
bool block_bitmap_find(const BlockDirtyBitmap *b, uint64_t from, uint64_t end, uint64_t *offset,
                       uint64_t *bytes) ANY_THREAD;

/*
 * A job that copies what a bitmap of a node has. From begin to end the bitmap is busy: nothing else
 * can use or change it, its bits stay as they were, and requests set the bits of its successor.
 *
 *                begin                      end, keep
 *   recording ----------> busy, successor ------------> recording: old bits and the successor's
 *                                   \
 *                                    `-- end, !keep --> recording: the successor's
 */
/* Adds the bits to @todo, which has the node's size. @changes: its bits can be others after the end.
 * Drained, so that each request before sets a bit here and each later one in the successor. False +
 * @error: it cannot be used. */
bool block_dirty_bitmap_co_begin_job(BlockNode *n, const char *name, bool changes,
                                     BlockDirtyBitmap *todo, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The bits of @left are set too; NULL: none. */
void block_dirty_bitmap_co_end_job(BlockNode *n, const char *name, bool keep,
                                   const BlockDirtyBitmap *left) coroutine_fn RUNS_IN_MAIN;

/* ---- for drivers that store bitmaps (block/core/dirty_bitmap_store.c) ---- */
/*
 * Stored bits: the first bit is the lowest one of the first byte. Functions with an offset take a
 * part of them; what it has beyond the last bit is ignored, and is zeroes when it is read. A busy
 * bitmap is stored together with its successor.
 */

/* A bitmap in the image. */
typedef struct BlockStoredBitmap {
    const char *name;
    unsigned granularity_bits;
    bool enabled;
    bool inconsistent;
} BlockStoredBitmap;

/* Adds a bitmap of the image while @n opens, for a disk of @size bytes. NULL: it is too large, or
 * there is no memory. The caller makes sure that all together are not too large. In the home; main
 * waits. */
BlockDirtyBitmap *block_bitmap_restore(BlockNode *n, const BlockStoredBitmap *stored, uint64_t size)
    RUNS_IN_IOTHREAD;
/* Drops the bitmaps that were restored. In the home; main waits. */
void block_bitmap_drop(BlockNode *n) RUNS_IN_IOTHREAD;
void block_bitmap_load(BlockDirtyBitmap *b, uint64_t offset, const uint8_t *bytes, uint64_t length)
    RUNS_IN_IOTHREAD;
/* The same for bytes that are all ones. */
void block_bitmap_load_ones(BlockDirtyBitmap *b, uint64_t offset, uint64_t length) RUNS_IN_IOTHREAD;

/* The persistent bitmap after @b, or the first one if @b is NULL, in the order of their creation.
 * NULL: there is no other. */
BlockDirtyBitmap *block_bitmap_next(const BlockNode *n, const BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;
/* Describes the bitmap; the name is borrowed. */
BlockStoredBitmap block_bitmap_describe(const BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;
/* The length of its bits in bytes. */
uint64_t block_bitmap_bytes(const BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;

typedef enum BlockBitmapBits {
    BLOCK_BITMAP_CLEAR, /* no bit is set */
    BLOCK_BITMAP_ONES,  /* all are set, and there are bits for all bytes */
    BLOCK_BITMAP_MIXED,
} BlockBitmapBits;
BlockBitmapBits block_bitmap_look(const BlockDirtyBitmap *b, uint64_t offset, uint64_t length)
    RUNS_IN_IOTHREAD;
void block_bitmap_save(const BlockDirtyBitmap *b, uint64_t offset, uint8_t *bytes, uint64_t length)
    RUNS_IN_IOTHREAD;
/* Whether its bits or its size have changed since it was loaded, added or last noted as stored. A new
 * one has changed. */
bool block_bitmap_changed(const BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;
void block_bitmap_note_stored(BlockDirtyBitmap *b) RUNS_IN_IOTHREAD;

#endif
