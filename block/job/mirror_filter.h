/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mirror_top: the filter of a mirror job, between the source and its users. It passes requests on and
 * reports what they change to the copy.
 *
 *   passive: the changed range is marked
 *   active:  the request returns when the target has the change too, unless the range was marked
 *            already, a drained section begins, or the copy is abandoned
 *
 * It is active from the end of the data step on, and passive while a try of prepare waits for its section.
 */
#ifndef SKIFF_BLOCK_JOB_MIRROR_FILTER_H
#define SKIFF_BLOCK_JOB_MIRROR_FILTER_H

#include "block/job/copy.h"

/* Creates the filter for a graph change that inserts it above @source. @name as in BlockNodeCreate.
 * @copy stays until mirror_filter_co_detach(). NULL + @error: the name is invalid or taken. */
BlockNode *mirror_filter_new(const char *name, const BlockNode *source, BlockCopy *copy,
                             bool active, GError **error) RUNS_IN_MAIN;
void mirror_filter_set_active(BlockNode *n, bool active) ANY_THREAD;
bool mirror_filter_active(const BlockNode *n) ANY_THREAD;
/* From now on the filter only passes requests on. Drained, or not in the graph. Once is enough. */
void mirror_filter_co_detach(BlockNode *n) coroutine_fn RUNS_IN_MAIN;

#endif
