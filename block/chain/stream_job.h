/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream: a job that copies to a node what the images between it and a base hold, and then makes the base
 * its backing node. Guests use the node meanwhile.
 *
 *   start      the node becomes writable; drained: it tracks its changes
 *   data step  scan -> copy, as copy-on-read does it (block/core/copy_read.c)
 *   prepare    drained, under the operation lock: flush, header, base becomes the backing node
 *   clean      tracking ends; the node is read-only again if it was
 *
 * There is no filter: a copy never replaces newer data of the guest, and what the guest writes need not
 * be copied. A job that ends otherwise leaves the chain, and what it has copied.
 */
#ifndef SKIFF_BLOCK_CHAIN_STREAM_JOB_H
#define SKIFF_BLOCK_CHAIN_STREAM_JOB_H

#include "block/job/block_job.h"

typedef struct StreamConfig {
    BlockJobConfig job;
    BlockNode *node;
    BlockNode *base;          /* below the node; NULL: everything is copied */
    const char *backing_file; /* base's name in the header of the node; NULL: its path */
} StreamConfig;

/* Creates and starts the job. Under the operation lock. NULL + @error: nothing has changed. */
Job *block_stream_co_start(const StreamConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
