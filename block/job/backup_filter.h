/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy-before-write: the filter of a backup job, above the source; and a driver for users, with the child
 * "target". What a request is about to change
 * is copied to the target before; a request waits only for the clusters that it touches. The copy
 * itself knows what is left to be copied (copy.h).
 *
 * In a drained section a request waits only until the old data has been read, so a target that hangs
 * delays no drained section.
 */
#ifndef SKIFF_BLOCK_JOB_BACKUP_FILTER_H
#define SKIFF_BLOCK_JOB_BACKUP_FILTER_H

#include "block/job/copy.h"

/* What happens if old data cannot be copied. */
typedef enum BlockOnCbwError {
    BLOCK_CBW_BREAK_GUEST_WRITE, /* the guest's request fails with that error */
    BLOCK_CBW_BREAK_SNAPSHOT,    /* the copy is broken: the job fails */
} BlockOnCbwError;
extern const char *const block_on_cbw_error_names[]; /* NULL-terminated */

/* Creates the filter, which is not in the graph yet. @name NULL: it is generated. The caller owns one
 * reference. NULL + @error. */
BlockNode *backup_filter_new(const char *name, const BlockNode *source, BlockCopy *copy,
                             BlockOnCbwError on_error, GError **error) RUNS_IN_MAIN;
/* The filter copies nothing any more. Drained, or not in the graph. Once is enough. */
void backup_filter_co_detach(BlockNode *n) coroutine_fn RUNS_IN_MAIN;

#endif
