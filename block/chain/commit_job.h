/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit: a job that copies the images from @top down into @base, which is below them, and takes them out
 * of the chain. @top is not the active layer: it has overlays, which guests see.
 *
 *       before            while it runs          after
 *   overlay             overlay                overlay   (its header names base)
 *      | backing           | backing              | backing
 *     top                filter, read-only        |
 *      |                    |                     |
 *     mid                  top                    |
 *      |                    | mid                 |
 *     base                 base, writable        base
 *
 *   start      base becomes writable; drained: the filter is inserted, base grows to the size of top
 *   data step  scan -> copy -> flush
 *   prepare    drained, under the operation lock: headers, base replaces the filter
 *   clean      the filter is removed if prepare has not done it; base as it was
 *
 * What guests see does not change at any time: base gets what top shows there already.
 */
#ifndef SKIFF_BLOCK_CHAIN_COMMIT_JOB_H
#define SKIFF_BLOCK_CHAIN_COMMIT_JOB_H

#include "block/job/block_job.h"

typedef struct CommitConfig {
    BlockJobConfig job;
    BlockNode *top, *base;
    const char *backing_file; /* base's name in the headers of the overlays; NULL: its path */
    const char *filter_name;  /* NULL: generated */
} CommitConfig;

/* Creates and starts the job. Under the operation lock. NULL + @error: nothing has changed. */
Job *block_commit_co_start(const CommitConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
