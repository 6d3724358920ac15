/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which images the guest's disks showed when the machine was built. Its command line names these, so it is no longer
 * the command line of a machine whose disk is at another node: after an external snapshot, the end of a mirror or of
 * an active commit, another medium. Filters of jobs do not count.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_DISKS_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_DISKS_H

#include "block/block.h"
#include "vmm/backends/backends.h"

/* Called once the machine is built. */
void machine_disks_note_start(void) RUNS_IN_MAIN;
/* Names a node that a disk shows and did not at the start, or the other way round, as a sentence without its full
 * stop. NULL: there is none. The caller owns it. */
char *machine_disks_changed(void) RUNS_IN_MAIN;

/* The writable disks whose changes are in temporary files (snapshot=on), which are lost when skiff ends, by their drives'
 * ids, or their nodes' names: "'d0', 'd1'". NULL: there is none. The caller owns it. */
char *machine_disks_temporary(Backends *b) RUNS_IN_MAIN;
/* The same of these nodes. */
char *machine_disks_temporary_of(Backends *b, BlockNode *const nodes[], unsigned count)
    RUNS_IN_MAIN;

#endif
