/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the commit job: commit_job.c (start, data step) and commit_end.c (the end). */
#ifndef SKIFF_BLOCK_CHAIN_COMMIT_INT_H
#define SKIFF_BLOCK_CHAIN_COMMIT_INT_H

#include "block/chain/commit_job.h"
#include "block/graph.h"
#include "block/job/copy.h"

typedef struct CommitJob {
    BlockJob bj; /* first */
    /* links: references */
    BlockNode *top, *base, *filter;
    BlockCopy *copy;

    /* config */
    char *backing_file; /* NULL: the path of base */
    unsigned depth;     /* of base below top */

    /* main */
    BlockGraphChange *change;
    bool later;          /* prepare cannot begin its change now */
    bool inserted;       /* the filter is in the graph */
    bool committed;      /* base has replaced the filter */
    bool base_read_only; /* before the job */
    bool released;       /* its end has begun */
    BlockEdge *base_edge;
} CommitJob;

extern const JobDriver block_commit_driver;

/* ---- commit_end.c: coroutines in main, under the operation lock ---- */
int commit_co_prepare(Job *job, GError **error);
void commit_co_clean(Job *job);
/* Takes the filter out and frees what @c has, except itself and what block_job_clear() frees; now, or when
 * nothing is in flight there. */
void commit_co_end(CommitJob *c) coroutine_fn RUNS_IN_MAIN;
/* The nodes whose backing node is @n: borrowed; to be freed. */
GPtrArray *commit_overlays(const BlockNode *n) RUNS_IN_MAIN;

#endif
