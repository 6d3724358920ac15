/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disks of a snapshot of the machine: nodes whose format has internal snapshots. One of them also has the
 * machine's state.
 *
 * Names are looked up under the operation lock, and the nodes stay until it is released; a job keeps names. Messages
 * are QEMU's. Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_SNAPSHOT_DISKS_H
#define SKIFF_VMM_SNAPSHOT_SNAPSHOT_DISKS_H

#include "vmm/backends/backends.h"

typedef struct SnapshotDisks {
    unsigned count;
    BlockNode *state;   /* has the machine's state; NULL: not chosen */
    BlockNode *nodes[]; /* borrowed */
} SnapshotDisks;

/* The nodes with these names (NULL at the end), each once. @state: a name among them, or NULL. NULL + @error: there is no
 * such node, or its format has no snapshots. Freed by g_free(). */
SnapshotDisks *snapshot_disks_find(const char *const *names, const char *state, GError **error)
    RUNS_IN_MAIN;
/* The names of the nodes of all drives that the guest can write to: NULL at the end, freed by g_strfreev(). */
char **snapshot_disks_all(void) RUNS_IN_MAIN;

/* The node with the largest disk: not the one of the flash, if there is another. */
BlockNode *snapshot_disks_largest(const SnapshotDisks *d) RUNS_IN_MAIN;

/* The first snapshot with the name @tag in @n, as its image has it now; NULL: none. Borrowed until main yields. */
const BlockSnapshotInfo *snapshot_disk_has(BlockNode *n, const char *tag) RUNS_IN_MAIN;
/* How many of the nodes have one. */
unsigned snapshot_disks_having(const SnapshotDisks *d, const char *tag) RUNS_IN_MAIN;
/* The newest snapshot of the machine with this name: one that each node has, made at the same time by the same save, with a
 * machine's state in the chosen node, or, if none is chosen, in one that becomes it. Returns its id in each of d->nodes:
 * NULL at the end, freed by g_strfreev(). NULL + @error: there is none. */
char **snapshot_disks_find_set(SnapshotDisks *d, const char *tag, GError **error) RUNS_IN_MAIN;
/* Warns of disks whose snapshot @tag is lost when skiff ends, since they are in temporary files (snapshot=on). */
void snapshot_disks_warn_of_temporary(const SnapshotDisks *d, Backends *b, const char *tag)
    RUNS_IN_MAIN;

#endif
