/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating, applying and deleting internal snapshots.
 *
 *   qcow2_snapshot_create.c, _apply.c, _delete.c   the operations
 *   qcow2_snapshot_walk.c   changes the refcounts of all that an L1 table reaches, and the flags
 *   qcow2_snapshot_store.c  writes the snapshot table
 *   qcow2_snapshot_step.c   the state machine: which function makes each move
 *
 * The core calls begin, then switch in a drained section, then step until the operation ends. While
 * a snapshot is created or deleted the guest's requests run between and beside the steps. Applying
 * one is drained from the switch to the end.
 *
 *             create                    apply                    delete
 *   IDLE       | begin: flush            | begin                  | begin: dirty bit, then the
 *              |                         |                        |        table without it on disk
 *   READY      | switch: copy of the L1  | switch: flush, its L1  | switch
 *   RAISING    | dirty bit, counts + 1   | counts + 1             |
 *   STORING    | L1, snapshot table      | new L1, header         |
 *   LOWERING   |                         | counts - 1 of the old  | counts - 1
 *   IDLE       v no dirty bit            v                        v no dirty bit
 *
 *   RAISING, STORING --error--> UNDOING: counts - 1 of what was raised --> FREEING or IDLE
 *   READY, RAISING, STORING of a creation --cancel--> UNDOING
 *   FREEING: counts - 1 of all that the state area has --> IDLE
 *   LOWERING, FREEING --error--> IDLE: the rest leaks
 *   any state --the image is completed on disk (the process ends)--> IDLE: the rest leaks
 *
 * A snapshot with the state of a machine has a state area (qcow2_area.h), which is written to from begin
 * until the store, so STORING can take long: `fresh` is dropped and the dirty bit cleared before it.
 *
 * Invariants
 *   1. On disk, a snapshot is in the table only while all that it reaches has a count for it. The
 *      same is true of the active L1 table. So a crash leaves leaks at most.
 *   2. While `fresh` exists, the active image owns a cluster only if it was allocated since the
 *      switch and its entry has COPIED. All other clusters are shared, whatever their entries say.
 *   3. While `fresh` exists nothing is freed: a cluster that the guest gives up stays allocated until
 *      its count was raised. The walk can read the tables of the frozen L1 table at any time.
 *   4. When `fresh` does not exist, and at each step between two tables, COPIED means a count of 1 in
 *      all entries of the active image that the walk has passed. So dropping `fresh` early is safe.
 *   5. Tables of the active image get or lose COPIED, and `fresh` is dropped, while no L2 table is
 *      added: a copy of a table has the flags of its original, and a table that is being copied does
 *      not become the active image's own.
 *   6. A count and its flag COPIED lie in different sectors, and check calls either order of their
 *      writes an error. So the dirty bit is on disk before the first count of a cluster of the active
 *      image changes, and until counts and flags on disk match again. After a crash the image is
 *      repaired when it is opened for writing, or by check -r all. The repair loses nothing because
 *      of invariant 1. Applying changes no count between one and more in the active image.
 *   7. An image of version 2 has no dirty bit. There a crash leaves flags that do not match. They are
 *      harmless: a cluster with COPIED has one reference, and one without is copied without need.
 *   8. If an error leaves flags that may not match, the dirty bit stays when the image is closed.
 */
#ifndef SKIFF_BLOCK_QCOW2_QCOW2_SNAP_H
#define SKIFF_BLOCK_QCOW2_QCOW2_SNAP_H

#include "block/node.h"
#include "block/qcow2/qcow2_area.h"
#include "block/qcow2/qcow2_header.h"

typedef struct Qcow2Writer Qcow2Writer;

typedef struct Qcow2Snapshot {
    char *id, *name; /* owned */
    uint64_t l1_offset;
    uint32_t l1_size;
    uint64_t disk_size;
    uint64_t vm_state_size;
    uint32_t date_s, date_ns; /* since 1970 */
    uint64_t vm_clock_ns;
    uint64_t icount;  /* UINT64_MAX: unknown */
    uint8_t *unknown; /* owned: the rest of the extra data, which is kept */
    uint32_t unknown_size;
} Qcow2Snapshot;

typedef enum Qcow2SnapState {
    QCOW2_SNAP_IDLE,
    QCOW2_SNAP_READY,
    QCOW2_SNAP_RAISING,
    QCOW2_SNAP_STORING,
    QCOW2_SNAP_LOWERING,
    QCOW2_SNAP_UNDOING,
    QCOW2_SNAP_FREEING,
} Qcow2SnapState;

/* Which flags a walk sets right. */
typedef enum Qcow2WalkFlags {
    QCOW2_WALK_ACTIVE, /* those of the active image, at the same places of the disk */
    QCOW2_WALK_TABLES, /* those of the tables themselves, whose clusters are all shared */
    QCOW2_WALK_NONE,
} Qcow2WalkFlags;

/* A walk through all that an L1 table reaches. */
typedef struct Qcow2Walk {
    uint64_t *l1; /* owned, in host order */
    uint32_t count;
    Qcow2WalkFlags flags;
    Qcow2Cache *tables; /* of the L2 tables; NULL: that of the disk */
    /* the next part: */
    uint32_t index; /* an L2 table */
    uint64_t slice; /* its slice there; the size of a cluster: the table itself */
} Qcow2Walk;

typedef struct Qcow2Snap {
    Qcow2SnapState state;
    BlockSnapshotKind kind;
    bool cancelled; /* the image was completed on disk */
    bool marked;    /* the dirty bit is on disk, for changes of the active image's counts */
    int error;      /* UNDOING, FREEING: why */
    Qcow2Walk walk;
    uint32_t undo_index; /* UNDOING: where the raising ended */
    uint64_t undo_slice;
    GArray *fresh;        /* uint64_t: a bit for each cluster of the file; NULL: no create runs */
    Qcow2Snapshot target; /* the snapshot; texts are owned */
    Qcow2Area *area;      /* CREATE: referenced; NULL: the snapshot has no state of a machine */
    uint64_t old_l1;      /* LOWERING: place and length of the L1 table that goes */
    uint64_t old_l1_bytes;
} Qcow2Snap;

/* ---- qcow2_snapshot_step.c: operations of the driver ---- */
extern const BlockSnapshotDriver qcow2_snapshot_driver;
/* Drops an operation; what it has raised leaks. The node has no request in flight. */
void qcow2_snap_cancel(BlockNode *n) RUNS_IN_IOTHREAD;
/* Notes newly allocated clusters. */
void qcow2_snap_allocated(BlockNode *n, uint64_t cluster, uint64_t count) RUNS_IN_IOTHREAD;
/* Whether @entry, of the L1 table or of an L2 table, refers to a cluster that only the active image
 * has, so that it can be changed in place. */
bool qcow2_owns(const BlockNode *n, uint64_t entry) RUNS_IN_IOTHREAD;

/* ---- qcow2_snapshot_create.c, _apply.c, _delete.c ---- */
/* store: the switch on disk. If it fails with *@unsure, the disk may have the old state or the new
 * one, so that nothing may be undone. */
int qcow2_co_create_begin(BlockNode *n, const BlockSnapshotOp *op, const char **what)
    coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_create_switch(BlockNode *n) RUNS_IN_IOTHREAD;
int qcow2_co_create_store(BlockNode *n, bool *unsure) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_apply_begin(BlockNode *n, const BlockSnapshotOp *op) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_apply_switch(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_apply_store(BlockNode *n, bool *unsure) coroutine_fn RUNS_IN_IOTHREAD;
int qcow2_co_delete_begin(BlockNode *n, const BlockSnapshotOp *op, const char **what)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Reads the L1 table of a snapshot into the walk. 0 or -errno. */
int qcow2_co_walk_snapshot(BlockNode *n, const Qcow2Snapshot *snap) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_snapshot_walk.c ---- */
/* Changes the refcounts of the next part by @by, 1 or -1. 0 or -errno: nothing has changed, except
 * after an error of a decrement. */
int qcow2_co_walk(BlockNode *n, Qcow2Walk *k, int by) coroutine_fn RUNS_IN_IOTHREAD;
bool qcow2_walk_ended(const Qcow2Walk *k) ANY_THREAD;
void qcow2_walk_clear(Qcow2Walk *k) ANY_THREAD;

/* ---- qcow2_snapshot_flags.c ---- */
/* Between these no L2 table is added. */
void qcow2_co_flags_begin(Qcow2Writer *w) coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_flags_end(Qcow2Writer *w) RUNS_IN_IOTHREAD;
/* Sets the flags COPIED of the slice at @slice of the active L2 table @index by the refcounts. */
int qcow2_co_fix_slice(BlockNode *n, uint32_t index, uint64_t slice) coroutine_fn RUNS_IN_IOTHREAD;
/* The same for the L1 entry of the table. */
int qcow2_co_fix_l1(BlockNode *n, uint32_t index) coroutine_fn RUNS_IN_IOTHREAD;
/* Clears the flags of the slice at @slice of the table at @table. */
int qcow2_co_clear_flags(BlockNode *n, uint64_t table, uint64_t slice)
    coroutine_fn RUNS_IN_IOTHREAD;

/* ---- qcow2_snapshot_store.c ---- */
/* Writes a table of the image's snapshots, with @add (NULL: none) and without the one at index @leave
 * (UINT32_MAX: none). If it is on disk, takes over what @add owns, and returns 0. -errno with
 * *@unsure: the disk may have either table. */
int qcow2_co_store_snapshots(BlockNode *n, const Qcow2Snapshot *add, uint32_t leave, bool *unsure)
    coroutine_fn RUNS_IN_IOTHREAD;
void qcow2_snapshot_clear(Qcow2Snapshot *snap) ANY_THREAD;
/* The length of the complete entry of a snapshot; writes the entry to @at and returns its end. */
uint64_t qcow2_snapshot_length(const Qcow2Snapshot *snap) ANY_THREAD;
uint8_t *qcow2_snapshot_encode(uint8_t *at, const Qcow2Snapshot *snap) ANY_THREAD;
/* The other direction: from the fixed part and @rest, which is the extra data, id and name.
 * @disk_size: what an entry without one means. qcow2_snapshot_clear() frees @snap. */
void qcow2_snapshot_decode(const Qcow2DiskSnapshot *d, const uint8_t *rest, uint64_t disk_size,
                           Qcow2Snapshot *snap) ANY_THREAD;

#endif
