/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that make, list and reopen nodes share. */
#ifndef SKIFF_BLOCK_CORE_NODE_INT_H
#define SKIFF_BLOCK_CORE_NODE_INT_H

#include "block/node.h"

/* ---- node_options.c ---- */
typedef struct NodeOptions {
    char *driver;
    char *node_name;
    bool read_only;
    bool auto_read_only;
    bool force_share;
    bool cache_direct;
    bool cache_no_flush;
    int discard;
    int detect_zeroes;
} NodeOptions;

/* Moves the options that every node has from @d to @o, to be emptied with node_options_clear();
 * nothing to empty on failure. */
bool node_options_take(OptDict *d, NodeOptions *o, GError **error) ANY_THREAD;
void node_options_clear(NodeOptions *o) ANY_THREAD;
BlockNodeFlags node_options_flags(const NodeOptions *o) ANY_THREAD;
/* Sets in @child's description what it does not say itself and its parent does. */
void node_options_inherit(OptDict *child, const BlockNodeFlags *flags) ANY_THREAD;

/* ---- drain.c ---- */
/* Returns when nothing is in flight in @n, and with @chain in the nodes below it; operations of
 * their own that come later wait for block_nodes_co_release(). */
void block_nodes_co_quiesce(BlockNode *n, bool chain) coroutine_fn RUNS_IN_MAIN;
/* After block_nodes_co_quiesce(n, true); the nodes may have moved together. */
void block_nodes_co_release(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
void block_node_drain_init(BlockNode *n) ANY_THREAD;

/* ---- node.c ---- */
/* Before a driver finds its own. */
extern const BlockLimits node_no_limits;
/* A node that @n is the child of, also one that is still being opened; NULL: none. */
const BlockNode *node_find_parent(const BlockNode *n) RUNS_IN_MAIN;

#endif
