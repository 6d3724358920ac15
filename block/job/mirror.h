/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror: a job that copies a node to another one while guests use it, and then keeps the copy up to
 * date until it is completed (the guests go on with the copy) or cancelled (they stay).
 *
 *   start      drained: the filter is inserted, a bitmap becomes busy
 *   data step  scan -> copy -> READY -> copy what guests change -> (complete) nothing is left, flush
 *   prepare    drained, under the operation lock: copy what came in between, flush, pivot; the section
 *              lasts until clean
 *   abort      nothing
 *   clean      the filter is removed (drained, unless prepare has done it); bitmap, copy, uses end
 *
 * From the verb complete on the filter is active: each guest's request reaches the target before it
 * returns. So little is left for prepare, however long the job waits for the verb finalize.
 *
 * The same job commits an active layer: the target is an image below the source, and the pivot takes the
 * images above it out of use. The filter comes first then, since it hides that the target changes
 * below the guests; in the same drained section the job's uses and the target's size follow. A commit that
 * keeps the chain has no READY phase, and in place of the pivot the source is emptied.
 *
 * A target that hangs delays none of the guest's storage operations: requests that wait for it
 * return when a drained section begins, and prepare gives up when the target makes no progress.
 */
#ifndef SKIFF_BLOCK_JOB_MIRROR_H
#define SKIFF_BLOCK_JOB_MIRROR_H

#include "block/job/block_job.h"

typedef enum BlockMirrorSync {
    BLOCK_MIRROR_TOP,         /* what the source holds itself */
    BLOCK_MIRROR_FULL,        /* everything */
    BLOCK_MIRROR_NONE,        /* what changes from now on */
    BLOCK_MIRROR_INCREMENTAL, /* what a bitmap has, and what changes from now on */
} BlockMirrorSync;

/* What becomes of the bits of a bitmap that the job has copied. */
typedef enum BlockBitmapMode {
    BLOCK_BITMAP_ON_SUCCESS, /* cleared if the job succeeds */
    BLOCK_BITMAP_NEVER,      /* kept */
    BLOCK_BITMAP_ALWAYS,     /* cleared as far as they were copied */
} BlockBitmapMode;
extern const char *const block_bitmap_mode_names[]; /* "on-success", "never", "always" */

typedef struct BlockMirrorConfig {
    BlockJobConfig job;
    BlockNode *source, *target; /* of the same size */
    /* The target is an image below the source, and gets its size: the job commits the active layer. It
     * gets what the images above it hold, whatever @sync is, and becomes writable. */
    bool commit;
    /* With @commit: the job ends by itself, and the source, whose backing node is the target, stays in use and
     * holds nothing itself then. The target does not shrink. */
    bool keep_chain;
    BlockMirrorSync sync;
    const char *bitmap; /* of the source; for BLOCK_MIRROR_INCREMENTAL */
    BlockBitmapMode bitmap_mode;
    const char *filter_name; /* NULL: it is generated */
    BlockNode *replaces;     /* the node that the target replaces at the pivot; NULL: the source */
    /* The backing node that the target gets at the pivot; NULL: it keeps what it has. */
    BlockNode *backing;
    uint32_t granularity; /* 0: the target's cluster size within 4 KiB and 64 KiB, or 64 KiB */
    uint64_t buf_size;    /* 0: the default */
    bool write_blocking;
    bool unmap;
    bool target_is_zero;
} BlockMirrorConfig;

/* Creates and starts the job. Moves an idle target to the home of the source. Under the operation lock.
 * NULL + @error: nothing has changed. */
Job *block_mirror_co_start(const BlockMirrorConfig *config, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Whether the job writes each change to source and target at once. Only where JOB_VERB_CHANGE is
 * legal. */
bool block_mirror_write_blocking(const Job *job) RUNS_IN_MAIN;
/* Switches that on, for block-job-change. False + error: the job has reached its end. */
bool block_mirror_set_write_blocking(Job *job, GError **error) RUNS_IN_MAIN;
/* Whether source and target have the same data and each change is written to both at once. */
bool block_mirror_actively_synced(const Job *job) RUNS_IN_MAIN;
extern const JobDriver block_mirror_driver, block_commit_active_driver;

#endif
