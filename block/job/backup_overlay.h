/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A target that is an overlay of the source of a backup ("fleecing"): it shows the source as it was at
 * the point in time, since what is about to change is copied to it before. Meanwhile its backing edge
 * stays at the source and restricts nobody, and a copy to it waits for older reads of it, which may be
 * on their way to the source. Functions of main, while both nodes are drained.
 */
#ifndef SKIFF_BLOCK_JOB_BACKUP_OVERLAY_H
#define SKIFF_BLOCK_JOB_BACKUP_OVERLAY_H

#include "block/node.h"

typedef struct BackupOverlay {
    BlockNode *target;
    GPtrArray *edges; /* backing edges of the target that lead to the source; NULL: none */
} BackupOverlay;

/* Does nothing if the target is no overlay of the source. */
void backup_overlay_co_keep(BackupOverlay *o, BlockNode *target, BlockNode *source)
    coroutine_fn RUNS_IN_MAIN;
/* Users that still read the overlay see changes of the source from now on, as in QEMU. Does nothing
 * without backup_overlay_co_keep(). */
void backup_overlay_co_unkeep(BackupOverlay *o) coroutine_fn RUNS_IN_MAIN;

#endif
