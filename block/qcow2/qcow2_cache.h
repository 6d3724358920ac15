/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Slices of tables in memory: of L2 tables or of refcount blocks. The slices of a cache have one
 * size, and at most a fixed number of them is in memory.
 *
 *   free --get--> loading --read--> valid <--get, put--> used
 *                    \--error--> free      \--evicted--> free
 *
 *   clean --mark_dirty--> dirty --capture--> writing --written--> clean
 *                           ^                   |
 *                           +-------error-------+
 *
 * Invariants
 *   1. A slice that is used or being written is not evicted. A holder of a slice changes it without
 *      a wait between get and put, and does not get another one, so there is no deadlock.
 *   2. What is written is a copy. A slice that is being written can change; then it is dirty too.
 *   3. A cache with a limit never evicts a dirty slice. At most `limit` of its slices are dirty or
 *      being written, so that others can be evicted; who wants to exceed it writes them first.
 *      Without a limit the dirty slice that is evicted is written, at any time and in any order.
 *
 * All users of a cache run in the home of its node.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_CACHE_H
#define SKIFF_BLOCK_QCOW2_QCOW2_CACHE_H

#include "block/node.h"

typedef struct Qcow2Slice {
    uint64_t offset; /* in the file; 0: free */
    uint8_t *data;   /* NULL: no memory yet */
    unsigned users;
    bool loading;
    bool touched; /* since the last cleaning */
    bool dirty;
    bool writing;                           /* a copy of it is being written */
    bool listed;                            /* in dirty_list */
    struct Qcow2Slice *hash_next;           /* of the bucket */
    struct Qcow2Slice *lru_prev, *lru_next; /* the least recently used one is first */
} Qcow2Slice;

typedef struct Qcow2Cache {
    size_t slice_size;   /* a power of two */
    uint64_t table_size; /* of each table that has slices: a cluster */
    unsigned count;
    unsigned limit;    /* of dirty slices; 0: none */
    unsigned dirty;    /* slices that are dirty or being written */
    unsigned evicting; /* writes of slices that are to be evicted */
    Qcow2Slice *slices;
    Qcow2Slice **buckets;
    unsigned bucket_mask;
    Qcow2Slice *lru_first, *lru_last;
    GPtrArray *dirty_list; /* each dirty slice, and some that are clean again */
    CoQueue waiters;       /* for a slice to be loaded or to become free */
    GArray *zeroes;        /* uint64_t: offsets of tables that are zeroes, whatever the file has */
} Qcow2Cache;

void qcow2_cache_init(Qcow2Cache *c, uint64_t bytes, size_t slice_size, uint64_t table_size,
                      bool limited) ANY_THREAD;
void qcow2_cache_destroy(Qcow2Cache *c) ANY_THREAD;
/* Loads the slice at @offset of @file, a multiple of the slice size. 0 and *@slice, to be released
 * by qcow2_cache_put(); else -errno. Slices behind it in the table may be loaded with it. */
int qcow2_cache_co_get(Qcow2Cache *c, BlockNode *file, uint64_t offset, Qcow2Slice **slice)
    coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_cache_put(Qcow2Cache *c, Qcow2Slice *slice) RUNS_IN_IOTHREAD;
/* Whether a clean slice cannot become dirty before others are written. */
bool qcow2_cache_full(const Qcow2Cache *c) RUNS_IN_IOTHREAD;
/* Whether so many slices are dirty that background work should wait for a commit, and leave the rest
 * to requests. False for small caches. */
bool qcow2_cache_filling(const Qcow2Cache *c) RUNS_IN_IOTHREAD;
/* Called by a holder of @slice, which changes it before its next wait. */
void qcow2_cache_mark_dirty(Qcow2Cache *c, Qcow2Slice *slice) RUNS_IN_IOTHREAD;
/* From now on, or no longer, the slices of the table at @offset are not read but filled with
 * zeroes: the file does not have the table yet. */
void qcow2_cache_begin_zeroes(Qcow2Cache *c, uint64_t offset) RUNS_IN_IOTHREAD;
void qcow2_cache_end_zeroes(Qcow2Cache *c, uint64_t offset) RUNS_IN_IOTHREAD;
/* Forgets what the cache holds of [offset, offset + bytes): the file gets other contents there.
 * False: a slice there is in use, so the image is corrupt. */
bool qcow2_cache_forget(Qcow2Cache *c, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* Frees the memory of slices that were not used since the last call. */
void qcow2_cache_clean(Qcow2Cache *c) RUNS_IN_IOTHREAD;
/* The number of slices that have memory. */
unsigned qcow2_cache_loaded(const Qcow2Cache *c) RUNS_IN_IOTHREAD;

/* ---- qcow2_cache_write.c ---- */
/* A copy of a slice that was dirty. */
typedef struct Qcow2Copy {
    uint64_t offset;
    uint8_t *data;
    Qcow2Slice *slice;
} Qcow2Copy;

/* Waits until no slice is being written for its eviction. */
void qcow2_cache_co_settle(Qcow2Cache *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Copies all dirty slices, which are then being written. The cache is settled. Returns Qcow2Copy elements in the order of
 * their offsets. */
GArray *qcow2_cache_capture(Qcow2Cache *c) RUNS_IN_IOTHREAD;
/* Writes the copies. 0 or -errno; in either case qcow2_cache_release() follows. */
int qcow2_cache_co_write(Qcow2Cache *c, BlockNode *file, const GArray *copies)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Frees the copies. Their slices are clean if they were @written, else dirty again. */
void qcow2_cache_release(Qcow2Cache *c, GArray *copies, bool written) RUNS_IN_IOTHREAD;
/* Writes one dirty slice so that it can be evicted. 0 or -errno. */
int qcow2_cache_co_clean_slice(Qcow2Cache *c, BlockNode *file, Qcow2Slice *slice)
    coroutine_fn RUNS_IN_IOTHREAD;

#endif
