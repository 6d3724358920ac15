/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which images the guest's disks showed when the machine was built. Its command line names these, so it is no longer
 * the command line of a machine whose disk is at another node: after an external snapshot, the end of a mirror or of
 * an active commit, another medium. Filters of jobs do not count.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_DISKS_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_DISKS_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Called once the machine is built. */
void machine_disks_note_start(void) RUNS_IN_MAIN;
/* Names a node that a disk shows and did not at the start, or the other way round, as a sentence without its full
 * stop. NULL: there is none. The caller owns it. */
char *machine_disks_changed(void) RUNS_IN_MAIN;

#endif
