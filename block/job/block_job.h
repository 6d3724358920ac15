/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The base of jobs on block nodes: their use of nodes, the reaction to I/O errors, the speed limit.
 *
 * A job's data step runs in the home of its nodes. Each node that it works with has an edge that
 * names the job, so a use that would conflict is refused, with both users named, and the node can be
 * neither deleted nor moved. A job is created, and its end is carried out, in main under the operation
 * lock.
 */
#ifndef SKIFF_BLOCK_JOB_BLOCK_JOB_H
#define SKIFF_BLOCK_JOB_BLOCK_JOB_H

#include "block/graph.h"
#include "util/job/job.h"

/* on-source-error and on-target-error, as QEMU has them. */
typedef enum BlockOnError {
    BLOCK_ON_ERROR_REPORT, /* the job fails */
    BLOCK_ON_ERROR_IGNORE, /* the job tries again */
    BLOCK_ON_ERROR_ENOSPC, /* stop if there is no space, else report */
    BLOCK_ON_ERROR_STOP,   /* the job pauses, and tries again after a resume */
    BLOCK_ON_ERROR_AUTO,   /* the same as enospc */
} BlockOnError;
extern const char *const block_on_error_names[]; /* NULL-terminated: "report", "ignore", ... */

typedef struct BlockJobConfig {
    const char *id;
    uint64_t speed; /* bytes per second; 0: unlimited */
    BlockOnError on_source_error, on_target_error;
    bool manual_finalize, manual_dismiss;
    JobTxn *txn; /* NULL: the job concludes alone */
} BlockJobConfig;

/* The first member of the state of each type of block job. */
typedef struct BlockJob BlockJob;
struct BlockJob {
    Job *job;
    BlockOnError on_source_error, on_target_error;
    GPtrArray *edges;                 /* main: BlockEdge, owned */
    int64_t patience_ns;              /* main: of the next change of the graph */
    bool (*co_try_end)(BlockJob *bj); /* main: block_job_co_end() */
    /* home: the speed limit allows no more work before next_ns */
    int64_t next_ns;
    uint64_t speed; /* for which that was calculated */
};

/* Creates the job of @bj in JOB_STATUS_CREATED; @state contains @bj and belongs to the job then. On
 * failure @bj has nothing to be cleared. */
bool block_job_init(BlockJob *bj, const JobDriver *driver, const BlockJobConfig *config,
                    AioContext *home, void *state, GError **error) RUNS_IN_MAIN;
/* For JobDriver.free: the edges were removed before. */
void block_job_clear(BlockJob *bj) RUNS_IN_MAIN;

/* Adds a use of @n, which lives in the job's home, until block_job_co_remove_nodes(). NULL + @error:
 * it conflicts with another one. The edge belongs to the job. */
BlockEdge *block_job_co_add_node(BlockJob *bj, BlockNode *n, unsigned uses, unsigned shares,
                                 GError **error) coroutine_fn RUNS_IN_MAIN;
/* Refuses a source that a format above it resizes: a filter has a fixed size, so that the format could not
 * grow its image. False + @error. */
bool block_job_check_fixed_size(const BlockNode *source, GError **error) RUNS_IN_MAIN;
/* Begins a change of the graph at the end of a job. Under the operation lock. NULL + @error: a node that
 * uses one of them is being opened or closed, or requests of guests hang; the caller tries again after a
 * time without the lock. */
BlockGraphChange *block_job_co_begin_change(BlockJob *bj, BlockNode *const *nodes, unsigned count,
                                            GError **error) coroutine_fn RUNS_IN_MAIN;
/* For JobDriver.co_clean: calls @co_try_end, which ends the job's use of its nodes. If that returns false, since
 * requests that are in flight there hang, the job ends without it, and it is called again and again,
 * under the operation lock each time. The state of the job lives that long. */
void block_job_co_end(BlockJob *bj, bool (*co_try_end)(BlockJob *bj)) coroutine_fn RUNS_IN_MAIN;
/* In @co_try_end, after the job's uses have ended: makes a node read-only that was so before the job, unless it
 * is in use as a writable one. False: not now. */
bool block_job_co_make_read_only(BlockJob *bj, BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* Takes the edge out of the job's list; the caller frees it. */
BlockEdge *block_job_take_node(BlockJob *bj, BlockEdge *e) RUNS_IN_MAIN;
/* Ends all uses. */
void block_job_co_remove_nodes(BlockJob *bj) coroutine_fn RUNS_IN_MAIN;

/* For child_changed of a job's filter: as block_filter_child_changed(), with a size that is fixed while
 * the job copies the node. */
void block_job_filter_child_changed(BlockNode *n) RUNS_IN_MAIN;

/* ---- the data step ---- */
/* The reaction to an error. */
JobErrorAction block_job_error_action(const BlockJob *bj, int ret, bool is_read) ANY_THREAD;
/* Reacts to @ret < 0 at a pause point; waits for a resume if that is the reaction. True: try again;
 * false: fail, or cancelled. */
bool block_job_co_error(BlockJob *bj, int ret, bool is_read) coroutine_fn RUNS_IN_IOTHREAD;

/* Counts @bytes of work for the speed limit; and takes back what was not needed. */
void block_job_account(BlockJob *bj, uint64_t bytes) RUNS_IN_IOTHREAD;
void block_job_refund(BlockJob *bj, uint64_t bytes) RUNS_IN_IOTHREAD;
/* When the speed limit allows more work, on the home's clock; in the past: now. */
int64_t block_job_next_ns(BlockJob *bj) RUNS_IN_IOTHREAD;

#endif
