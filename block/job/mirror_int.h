/* SPDX-License-Identifier: Apache-2.0 */
/* Inside mirror: mirror.c (start, verbs), mirror_run.c (the data step), mirror_end.c (the end). */
#ifndef SKIFF_BLOCK_JOB_MIRROR_INT_H
#define SKIFF_BLOCK_JOB_MIRROR_INT_H

#include "block/graph.h"
#include "block/job/copy.h"
#include "block/job/mirror.h"
#include "block/job/mirror_filter.h"

typedef struct MirrorJob {
    BlockJob bj; /* first */
    /* links: references */
    BlockNode *source, *target, *filter;
    BlockNode *replaces; /* NULL: the source */
    BlockNode *backing;  /* NULL: as it is */
    BlockCopy *copy;
    BlockEdge *target_edge; /* of the job or the copy */

    /* config */
    bool commit;
    bool keep_chain;
    unsigned depth;        /* commit: backing nodes between source and target */
    bool target_read_only; /* commit: before the job */
    BlockMirrorSync sync;
    char *bitmap; /* busy while the job lives; NULL: none */
    BlockBitmapMode bitmap_mode;

    /* main */
    BlockGraphChange *change; /* from prepare until clean; NULL: none */
    bool inserted;            /* the filter is in the graph */
    bool committed;           /* the end cannot be undone any more */
    bool released;            /* the start has failed */

    _Atomic bool finish; /* READY ends without a pivot */
    _Atomic bool synced; /* READY, active, and nothing is left to copy */
} MirrorJob;

/* The job's use of the target. */
static inline unsigned mirror_target_uses(const MirrorJob *m)
{
    unsigned uses = BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_GRAPH;
    return m->commit ? uses | BLOCK_USE_RESIZE : uses;
}

static inline unsigned mirror_target_shares(const MirrorJob *m)
{
    return m->commit ? 0 : BLOCK_USE_READ;
}

/* The source is replaced at the end. */
static inline bool mirror_pivots(const MirrorJob *m)
{
    return !m->finish && !m->keep_chain;
}

/* ---- mirror_run.c ---- */
int mirror_co_run(Job *job, GError **error);

/* ---- mirror_end.c: coroutines in main, under the operation lock ---- */
int mirror_co_prepare(Job *job, GError **error);
void mirror_co_clean(Job *job);
void mirror_co_unref_nodes(const MirrorJob *m) coroutine_fn RUNS_IN_MAIN;
/* Takes the filter out of the graph, if it is there, and frees what @m has, except itself and what
 * block_job_clear() frees; now, or when nothing is in flight there. */
void mirror_co_end(MirrorJob *m) coroutine_fn RUNS_IN_MAIN;

#endif
