/* SPDX-License-Identifier: Apache-2.0 */
/* Inside reopening: reopen.c (the steps) and reopen_describe.c (how the nodes will be). */
#ifndef SKIFF_BLOCK_CORE_REOPEN_INT_H
#define SKIFF_BLOCK_CORE_REOPEN_INT_H

#include "block/node.h"

typedef struct Reopen {
    GPtrArray *nodes; /* BlockReopen, children before their parents */
    GPtrArray *backends;
    GPtrArray *quiesced; /* BlockNode, parents before their children */
} Reopen;

/* NULL: the node is not reopened. */
BlockReopen *reopen_find(const Reopen *reopen, const BlockNode *n) ANY_THREAD;
/* Adds the node that @opts names, and those that it describes below it. */
bool reopen_describe_root(Reopen *reopen, const OptDict *opts, GError **error) RUNS_IN_MAIN;
/* Adds @n with its present options but another access, and its files whose access follows. */
void reopen_describe_read_only(Reopen *reopen, BlockNode *n, bool read_only) RUNS_IN_MAIN;

#endif
