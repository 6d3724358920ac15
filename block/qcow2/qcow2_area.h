/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State areas: the state of a machine that an internal snapshot has, in the space behind its disk. The
 * snapshot's L1 table maps it from the entry on that follows the last one of the disk, as QEMU has it.
 *
 *   qcow2_area.c         areas, and their tables;  qcow2_area_write.c: writes
 *   qcow2_area_node.c    the node that gives access to one
 *
 * The area of a snapshot that is being created does not go through the L1 table of the active image. It
 * has an L1 table in memory, and L2 tables of its own, which have a cache of their own.
 *
 *   create: begin --> OPEN --seal--> SEALED: its tables are written, the snapshot's L1 table gets its entries
 *                      |   \--undo--> SEALED: counts - 1 of all that it has
 *                      |   \--the image is completed on disk--> SEALED: the rest leaks
 *   a snapshot in the image: OPEN, read-only, until its node is closed
 *
 * Invariants
 *   1. Until the snapshot is stored, nothing on disk and nothing of the active image refers to a cluster
 *      of the area, which has the count 1. So a crash leaves leaks, and its tables are written at any time.
 *   2. A table of the area is zeroes on disk before an entry of the L1 table leads to it.
 *   3. An entry leads to a cluster whose bytes have all been written, or read as zeroes.
 *   4. An entry does not change once it has a cluster. So who writes in place shares the cluster, and
 *      only who allocates it excludes others (qcow2_lock.c; clusters from QCOW2_AREA_LOCKS on).
 *   5. No request runs in a sealed area, unless it was sealed by the completion of the image.
 *   6. A snapshot whose area is open is not deleted.
 *
 * Requests are not counted at the image's node: drained sections of the disk do not wait for them. The
 * node of the area is a parent of the image, so graph changes and the close do.
 *
 * Everything runs in the home of the image.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_AREA_H
#define SKIFF_BLOCK_QCOW2_QCOW2_AREA_H

#include "block/node.h"
#include "block/qcow2/qcow2_cache.h"

struct Qcow2Snapshot;

#define QCOW2_AREA_LOCKS ((uint64_t)1 << 56)

typedef struct Qcow2Area Qcow2Area;
struct Qcow2Area {
    /* config */
    BlockNode *image;
    uint64_t size;   /* bytes, a multiple of BLOCK_SECTOR_SIZE */
    char *id, *name; /* owned: of the snapshot in the image; NULL: it is being created */
    Qcow2Area *next; /* of those in the image */
    /* runtime, in the home */
    unsigned refs;
    uint64_t *l1; /* owned: in host order, without flags */
    uint32_t count;
    Qcow2Cache tables;
    bool sealed;
    unsigned requests;
    bool adding; /* a table */
    CoQueue waiters;
};

/* ---- qcow2_area.c ---- */
/* An empty area of @size bytes for a new snapshot of the disk as it is. 0; -EFBIG: its L1 table would be
 * too long. */
int qcow2_area_new(BlockNode *n, uint64_t size, Qcow2Area **area) RUNS_IN_IOTHREAD;
/* The area of a snapshot in the image. NULL + @error. */
Qcow2Area *qcow2_co_area_open(BlockNode *n, const struct Qcow2Snapshot *snap, GError **error)
    coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_area_ref(Qcow2Area *a) RUNS_IN_IOTHREAD;
/* NULL: nothing. */
void qcow2_area_unref(Qcow2Area *a) RUNS_IN_IOTHREAD;
/* Whether the area of that snapshot is open. */
bool qcow2_area_is_open(const BlockNode *n, const struct Qcow2Snapshot *snap) RUNS_IN_IOTHREAD;
/* 0: a request begins, and qcow2_area_end() follows; -ECANCELED: the area is sealed. */
int qcow2_area_begin(Qcow2Area *a) RUNS_IN_IOTHREAD;
void qcow2_area_end(Qcow2Area *a) RUNS_IN_IOTHREAD;
/* From now on no request begins; waits for those that run. */
void qcow2_co_area_seal(Qcow2Area *a) coroutine_fn RUNS_IN_IOTHREAD;
/* Writes all tables, without a flush. 0 or -errno. */
int qcow2_co_area_store(Qcow2Area *a) coroutine_fn RUNS_IN_IOTHREAD;
/* Makes sure that there is an L2 table for @offset. 0 or -errno. */
int qcow2_co_area_add_table(Qcow2Area *a, uint64_t offset) coroutine_fn RUNS_IN_IOTHREAD;
/* Loads the slice of the table, which exists, with the entry for @offset. 0 or -errno. */
int qcow2_co_area_get(Qcow2Area *a, uint64_t offset, Qcow2Slice **slice, uint64_t *index)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Whether there is an L2 table for @offset. */
bool qcow2_area_has_table(const Qcow2Area *a, uint64_t offset) RUNS_IN_IOTHREAD;
/* Bytes of the area that a slice maps. */
uint64_t qcow2_area_slice_covers(const Qcow2Area *a) ANY_THREAD;

/* ---- qcow2_area_write.c ---- */
/* A request of the node. 0 or -errno. */
int qcow2_co_area_write(Qcow2Area *a, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                        unsigned niov) coroutine_fn RUNS_IN_IOTHREAD;
/* Zeroes; what is not allocated stays so. */
int qcow2_co_area_zero(Qcow2Area *a, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_area_node.c ---- */
/* As BlockSnapshotDriver.co_open_state. */
BlockNode *qcow2_co_open_state(BlockNode *n, const BlockStateOpen *how, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
