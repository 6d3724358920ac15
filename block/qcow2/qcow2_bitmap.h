/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent dirty bitmaps: bitmaps of the node (block/dirty_bitmap.h) that the image keeps.
 *
 *   header extension -> directory: an entry for each bitmap -> its table -> clusters of bits
 *
 *   qcow2_bitmap.c            operations of the driver
 *   qcow2_bitmap_directory.c  entries and their checks; the directory on disk
 *   qcow2_bitmap_load.c       when an image is opened
 *   qcow2_bitmap_store.c      when an image is completed, or a bitmap is removed
 *   qcow2_bitmap_header.c     the header extension and the autoclear bit
 *
 * The states of a bitmap, by its entry on disk:
 *
 *   event                  absent          stored          marked (in_use)
 *   opened                                 bits loaded     inconsistent: no bits, stays marked
 *   added (command)        memory only
 *   first change           memory only     -> marked       -> marked
 *   completed              -> stored       as it is        -> stored; inconsistent: -> marked
 *   removed (command)                      -> absent       -> absent
 *
 * "Completed": closed, reopened read-only, the end of the process. "First change": the first write,
 * resize or other change of the image, or command that changes a persistent bitmap, after the image
 * was opened or completed.
 *
 * How they go to disk ("|" is a flush):
 *
 *   first change   qcow2_co_mark_bitmaps()   in_use in all entries, in place | the change
 *   completed      qcow2_co_store_bitmaps()  clusters of bits, tables, a new directory and their
 *                                            refcounts | the extension leads to it | old ones are freed
 *   removed        qcow2_co_remove_bitmap()  a new directory, refcounts | the extension | frees
 *
 * Only in_use changes in place. A bitmap without changes keeps its table and its clusters of bits. An
 * image without bitmaps first gets an extension that says nothing, since the autoclear bit is clear.
 *
 * Invariants
 *   1. An entry on disk without in_use has a bit for each change of the disk that it has to record. So
 *      a crash at any write leaves bitmaps that are right, or marked.
 *   2. The autoclear bit is set only while the extension leads to a whole directory, whose tables and
 *      bits are on stable storage. A directory is new, or it is marked in place.
 *   3. What the directory on disk leads to has its refcount on disk. So a crash leaves leaks at most.
 *   4. s->bitmaps.entries is the directory on disk, and header.bitmaps_* its place, unless `unsure` is
 *      set: a change of the extension has failed. Then the extension is written again before anything
 *      else changes.
 *   5. A node that is writable has loaded all bitmaps of the image. One that is read-only and could not
 *      load them has none, and cannot become writable (`broken`).
 *   6. An entry with extra data that skiff does not know is kept with this data. Unless it has the flag
 *      extra_data_compatible, its bitmap is inconsistent for skiff, and is marked when the image changes.
 *
 * An extension that crosses a sector is not written atomically: the autoclear bit is clear meanwhile.
 * A crash then loses all bitmaps, and their clusters leak.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_BITMAP_H
#define SKIFF_BLOCK_QCOW2_QCOW2_BITMAP_H

#include "block/dirty_bitmap.h"
#include "block/node.h"
#include "block/qcow2/qcow2_header.h"

typedef struct Qcow2State Qcow2State;

/* An entry of the directory in memory. */
typedef struct Qcow2Bitmap {
    char *name; /* owned */
    uint64_t table_offset;
    uint32_t table_size; /* entries */
    uint32_t flags;      /* QCOW2_BITMAP_* */
    unsigned granularity_bits;
    uint8_t *extra; /* owned: data that is not known */
    uint32_t extra_size;
} Qcow2Bitmap;

typedef struct Qcow2Bitmaps {
    GArray *entries; /* Qcow2Bitmap; NULL: none */
    bool unsure, broken;
} Qcow2Bitmaps;

/* ---- qcow2_bitmap_directory.c ---- */
/* An entry in the bytes of a directory. */
typedef struct Qcow2BitmapEntry {
    uint64_t table_offset;
    uint32_t table_size, flags, extra_size;
    uint16_t name_size;
    uint8_t type, granularity_bits;
    const uint8_t *extra;
    const char *name; /* without a final zero */
    uint64_t length;  /* of the entry, with padding */
} Qcow2BitmapEntry;
/* Converts and checks the entry at @bytes, of which @rest are left. NULL, or what is invalid. */
const char *qcow2_bitmap_entry_take(const Qcow2Header *h, const uint8_t *bytes, uint64_t rest,
                                    Qcow2BitmapEntry *e) ANY_THREAD;
/* Whether an entry of a table follows the format. */
bool qcow2_bitmap_cluster_ok(const Qcow2Header *h, uint64_t entry) ANY_THREAD;
/* Whether skiff can use the bits of an entry. */
bool qcow2_bitmap_usable(const Qcow2Bitmap *e) ANY_THREAD;
/* An array of Qcow2Bitmap, which owns its elements. */
GArray *qcow2_bitmap_list_new(void) ANY_THREAD;
/* Appends a copy of @e. */
void qcow2_bitmap_list_add(GArray *list, const Qcow2Bitmap *e) ANY_THREAD;
/* Reads the directory into s->bitmaps.entries. False + @error. */
bool qcow2_co_read_directory(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
/* The length of the directory of @list in bytes. */
uint64_t qcow2_directory_bytes(const GArray *list) ANY_THREAD;
/* The directory of @list, in a buffer of @size bytes with zeroes behind it. To be freed. */
uint8_t *qcow2_directory_encode(const GArray *list, uint64_t size) ANY_THREAD;
/* Sets in_use in all entries on stable storage. 0 or -errno. */
int qcow2_co_mark_bitmaps(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_bitmap_load.c ---- */
/* Loads all bitmaps into the node while it opens. False + @error. */
bool qcow2_co_load_bitmaps(BlockNode *n, GError **error) coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_bitmaps_free(Qcow2State *s) ANY_THREAD;

/* ---- qcow2_bitmap_store.c ---- */
/* Stores what has changed. The node has no request in flight. On failure the bitmaps on disk are
 * marked, or as they were if nothing has changed since. 0 or -errno. */
int qcow2_co_store_bitmaps(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Removes the bitmap from the image. 0, also if it has none of that name, or -errno. */
int qcow2_co_remove_bitmap(BlockNode *n, const char *name) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_bitmap_header.c ---- */
typedef struct Qcow2Directory {
    uint32_t count; /* 0: none */
    uint64_t offset, bytes;
} Qcow2Directory;
/* Makes the header lead to @d on stable storage. If that fails and the old directory cannot be restored
 * either, s->bitmaps.unsure is set. */
int qcow2_co_switch_directory(BlockNode *n, Qcow2Directory d) coroutine_fn RUNS_IN_IOTHREAD;
/* If s->bitmaps.unsure is set, writes the present directory's place again. 0 or -errno. */
int qcow2_co_settle_directory(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_bitmap.c: operations of the driver ---- */
extern const BlockBitmapDriver qcow2_bitmap_driver;

#endif
