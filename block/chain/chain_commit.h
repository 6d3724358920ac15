/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commit without a job: what an overlay holds goes to its backing node, and the overlay is empty then. The
 * chain stays. The human monitor's command commit, for disks that write to a temporary overlay.
 */
#ifndef SKIFF_BLOCK_CHAIN_CHAIN_COMMIT_H
#define SKIFF_BLOCK_CHAIN_CHAIN_COMMIT_H

#include "block/node.h"

/* Whether @n shows an image with a backing node. */
bool chain_can_commit(BlockNode *n) RUNS_IN_MAIN;
/* Commits the image that @n shows. Its users wait until the end. Under the operation lock. False +
 * @error: the overlay still holds everything, but the backing node can have a part of it. */
bool chain_co_commit(BlockNode *n, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
