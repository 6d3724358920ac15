/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commit that keeps the chain: what an overlay holds goes to its backing node while guests use it, and the overlay
 * is empty then. The human monitor's command commit, for disks that write to a temporary overlay.
 */
#ifndef SKIFF_BLOCK_CHAIN_CHAIN_COMMIT_H
#define SKIFF_BLOCK_CHAIN_CHAIN_COMMIT_H

#include "block/node.h"
#include "util/job/job.h"

/* Whether @n shows an image with a backing node. */
bool chain_can_commit(BlockNode *n) RUNS_IN_MAIN;
/* Starts the job @id that commits the image that @n shows. It ends by itself, and dismisses itself. If it
 * fails, the overlay still holds everything, but the backing node can have a part of it. Under the operation
 * lock. NULL + @error: nothing has changed. */
Job *chain_commit_co_start(BlockNode *n, const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
