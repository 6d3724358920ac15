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

/* ---- edge.c ---- */
/* The node and all nodes below it, each once, children before their parents. To be freed. */
GPtrArray *block_node_tree(BlockNode *n) ANY_THREAD;
/* Whether @below is @n or below it. */
bool block_node_reaches(const BlockNode *n, const BlockNode *below) ANY_THREAD;
/* The node and all nodes above it, each once. To be freed. */
GPtrArray *block_node_ancestors(const BlockNode *n) RUNS_IN_MAIN;
/* For sorting pointers to nodes: parents before their children, whose requests they make. */
int block_node_compare_heights(const void *a, const void *b) RUNS_IN_MAIN;
/* Makes an edge with the links, texts and role of @like, which are copied, and takes a reference to
 * the node. NULL + error: the use is refused. */
BlockEdge *block_edge_new(const BlockEdge *like, bool writes, GError **error) RUNS_IN_MAIN;
/* Removes the edge and its reference. */
void block_edge_co_free(BlockEdge *e) coroutine_fn RUNS_IN_MAIN;
/* Sets uses and shares from the role and without a check; @writes: the user is writable. */
void block_edge_set_uses(BlockEdge *e, bool writes) RUNS_IN_MAIN;
/* The only place that decides whether two uses are compatible: of @e and of all other edges. The
 * error names both users. */
bool block_edge_check(const BlockEdge *e, GError **error) RUNS_IN_MAIN;

/* ---- child.c ---- */
/* Opens or refers to the child "file" as @d says, and moves the options of other children from @d
 * to the node. */
bool node_co_open_file(BlockNode *n, OptDict *d, GError **error) coroutine_fn RUNS_IN_MAIN;
void node_take_child_options(BlockNode *n, OptDict *d) RUNS_IN_MAIN;
/* Refuses options of children that the driver has not opened. */
bool node_check_child_options(BlockNode *n, GError **error) RUNS_IN_MAIN;
void node_co_close_children(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* Sets the options of a child of @role that follow from its parent's @flags. */
void node_child_inherit(OptDict *child, BlockChildRole role, const BlockNodeFlags *flags)
    ANY_THREAD;

/* ---- drain.c ---- */
/* Returns when nothing is in flight in @n, and with @below in the nodes below it. Later operations
 * of the nodes' own wait for block_nodes_co_release(). */
void block_nodes_co_quiesce(BlockNode *n, bool below) coroutine_fn RUNS_IN_MAIN;
/* Ends block_nodes_co_quiesce(n, true); the nodes may have moved together meanwhile. */
void block_nodes_co_release(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* Ends block_nodes_co_quiesce(n, false). */
void block_node_co_release(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* Does the same, with a reference to each, for @nodes and all nodes above them: those can have
 * operations without a backend, which a section of a backend would cover. Returns them, parents
 * before their children. */
GPtrArray *block_nodes_co_quiesce_above(const GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
/* Ends it and frees the list. */
void block_nodes_co_release_above(GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
void block_node_drain_init(BlockNode *n) ANY_THREAD;

/* ---- image_info.c ---- */
/* The node is closed. */
void block_node_free_image_info(BlockNode *n) RUNS_IN_MAIN;

/* ---- node.c ---- */
/* The limits before a driver sets its own. */
extern const BlockLimits node_no_limits;

#endif
