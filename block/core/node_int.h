/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files that create, list and reopen nodes. */
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

/* Moves the options common to all nodes from @d to @o; free them with node_options_clear(), which
 * is not needed on failure. */
bool node_options_take(OptDict *d, NodeOptions *o, GError **error) ANY_THREAD;
void node_options_clear(NodeOptions *o) ANY_THREAD;
BlockNodeFlags node_options_flags(const NodeOptions *o) ANY_THREAD;
/* Sets options in @child's description that are absent there and known from its parent's @flags. */
void node_options_inherit(OptDict *child, const BlockNodeFlags *flags) ANY_THREAD;

/* ---- drain.c ---- */
/* Returns when nothing is in flight in @n, and with @chain in the nodes below it. Later operations
 * of the nodes' own wait for block_nodes_co_release(). */
void block_nodes_co_quiesce(BlockNode *n, bool chain) coroutine_fn RUNS_IN_MAIN;
/* Ends block_nodes_co_quiesce(n, true); the nodes may have moved together meanwhile. */
void block_nodes_co_release(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
void block_node_drain_init(BlockNode *n) ANY_THREAD;

/* ---- node.c ---- */
/* The limits before a driver sets its own. */
extern const BlockLimits node_no_limits;
/* A node whose child @n is, also one that is being opened; NULL: none. */
const BlockNode *node_find_parent(const BlockNode *n) RUNS_IN_MAIN;

#endif
