/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The internal snapshots with a tag that were in the images before a save with the same tag. Ids tell them from the save's own,
 * whichever of the two has to go.
 *
 * Functions of main.
 */
#ifndef SKIFF_VMM_SNAPSHOT_SNAPSHOT_OLDER_H
#define SKIFF_VMM_SNAPSHOT_SNAPSHOT_OLDER_H

#include "block/block.h"
#include "vmm/vm/vm.h"

/* An empty set; g_ptr_array_unref() frees it. */
GPtrArray *snapshot_older_new(void) ANY_THREAD;
/* Adds those with the tag in @n. */
void snapshot_older_note(GPtrArray *older, BlockNode *n, const char *tag) RUNS_IN_MAIN;
/* Deletes them. One that cannot be deleted remains, with a warning. */
void snapshot_older_co_delete(const GPtrArray *older, Vm *vm, const char *tag)
    coroutine_fn RUNS_IN_MAIN;
/* Deletes the one with the tag in @node that is not among them, if there is one. */
void snapshot_older_co_delete_others(const GPtrArray *older, Vm *vm, const char *node,
                                     const char *tag) coroutine_fn RUNS_IN_MAIN;

#endif
