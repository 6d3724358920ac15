/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a rewind point: from the point on, what is written to a disk goes to a temporary overlay above its
 * node.
 *
 *   open ---> insert ---> (empty)* ---> commit ---> remove ---> free
 *     |                      rewind        end, another point      ^
 *     `-----------------------------------------------------------'
 *
 *   empty    the disks are as they were at the point
 *   commit   the disk's own node gets what the overlay has, which is empty then: the disk stays as the guest sees it
 *
 * Invariants
 *   1. Between insert and remove each node and its overlay are in use by the point: no job, snapshot or resize
 *      of them begins (BLOCK_USE_GRAPH).
 *   2. A commit that fails loses nothing that the guest has written, but the node may have a part of it: it is no
 *      longer as at the point.
 *   3. All but `open` and `free` run while the VM is stopped.
 *
 * The overlays' files have no name (drive_snapshot.h). So what was written since the point is lost if skiff ends
 * before the commit. Under the VM operation lock.
 */
#ifndef SKIFF_VMM_SNAPSHOT_REWIND_DISKS_H
#define SKIFF_VMM_SNAPSHOT_REWIND_DISKS_H

#include "hw/core/run_state.h"

typedef struct RewindDisks RewindDisks;

/* Opens an overlay for each writable disk; nothing uses them. NULL + error names a disk that cannot go back. */
RewindDisks *rewind_disks_co_open(GError **error) coroutine_fn RUNS_IN_MAIN;
/* False + error: nothing has changed. */
bool rewind_disks_co_insert(RewindDisks *d, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Whether disks still show the nodes that they showed after insert; false + error names one that does not. */
bool rewind_disks_check(const RewindDisks *d, GError **error) RUNS_IN_MAIN;
/* False + error: a disk may be as it was before. */
bool rewind_disks_co_empty(RewindDisks *d, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
bool rewind_disks_co_commit(RewindDisks *d, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* After a commit. False + error: some overlays are still in use. */
bool rewind_disks_co_remove(RewindDisks *d, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* What could not be removed stays, and the log says so. NULL: nothing. */
void rewind_disks_co_free(RewindDisks *d) coroutine_fn RUNS_IN_MAIN;
unsigned rewind_disks_count(const RewindDisks *d) RUNS_IN_MAIN;

#endif
