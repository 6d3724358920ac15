/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backup: a job that copies a node to another one as it was at one point in time, while guests change
 * it.
 *
 *   begin      checks, uses of the nodes, the filter, which is not in the graph yet
 *   insert     drained: the filter comes above the source, a bitmap becomes busy: the point in time
 *   start      the data step begins
 *   data step  copies what is left; the filter copies what guests are about to change
 *   clean      drained: the filter goes, the bitmap is no longer busy
 *
 * The target can be an overlay of the source ("fleecing"): then it shows the source as it was at the
 * point in time from insert until clean, and users may read it meanwhile. Its backing edge stays at the
 * source. A copy waits there for older reads, which may still come from the source.
 *
 * Invariants
 *   1. From insert on, each cluster of the source that has its bit in the copy's bitmap is as it was
 *      at the point in time; so is each cluster of the target that had its bit once and has it no
 *      more, when no claim covers it (copy.h).
 *   2. Guests' requests change a cluster only when it has no bit.
 *   3. After an error or a cancel that ends the copy, guests' requests pass the filter at once.
 *
 * Functions of main, under the VM operation lock; BlockBackup is the job from begin on.
 */
#ifndef SKIFF_BLOCK_JOB_BACKUP_H
#define SKIFF_BLOCK_JOB_BACKUP_H

#include "block/job/backup_filter.h"
#include "block/job/block_job.h"

typedef enum BlockBackupSync {
    BLOCK_BACKUP_TOP,    /* what the source holds itself */
    BLOCK_BACKUP_FULL,   /* everything */
    BLOCK_BACKUP_NONE,   /* only what guests change, until the job is cancelled */
    BLOCK_BACKUP_BITMAP, /* what a bitmap has */
} BlockBackupSync;

/* What becomes of the bitmap: its bits are those of the changes since the point in time, ... */
typedef enum BlockBackupBitmapMode {
    BLOCK_BACKUP_ON_SUCCESS, /* ... and after a failure the old ones too */
    BLOCK_BACKUP_NEVER,      /* ... and the old ones */
    BLOCK_BACKUP_ALWAYS,     /* ... and those of what was not copied */
} BlockBackupBitmapMode;

typedef struct BlockBackupConfig {
    BlockJobConfig job;
    BlockNode *source, *target;
    BlockBackupSync sync;
    const char *bitmap; /* of the source; NULL: none */
    BlockBackupBitmapMode bitmap_mode;
    const char *filter_name; /* NULL: it is generated */
    BlockOnCbwError on_cbw_error;
    uint32_t cbw_timeout_s; /* after which a copy before a write has failed; 0: none */
    bool compress;
    unsigned max_workers; /* copies of the data step at a time; 0: the default */
    uint64_t max_chunk;   /* bytes of one; 0: the default */
} BlockBackupConfig;

typedef struct BlockBackup BlockBackup;

/* Creates the job. Moves an idle target to the home of the source. NULL + @error. */
BlockBackup *block_backup_co_begin(const BlockBackupConfig *config, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Once. A drained section of the caller may cover the nodes. False + @error: nothing has changed. */
bool block_backup_co_insert(BlockBackup *b, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Undoes insert, if it was done. */
void block_backup_co_remove(BlockBackup *b) coroutine_fn RUNS_IN_MAIN;
/* The end of the creation, outside of a drained section of the caller: starts the job, or frees what
 * begin has made. */
void block_backup_co_finish(BlockBackup *b, bool start) coroutine_fn RUNS_IN_MAIN;
/* All of it. */
bool block_backup_co_start(const BlockBackupConfig *config, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The nodes that insert changes. */
BlockNode *block_backup_source(const BlockBackup *b) RUNS_IN_MAIN;

#endif
