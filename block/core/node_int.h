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
/* The same without the nodes that a job uses (writes to), and without what is only below those. */
GPtrArray *block_node_tree_without_jobs(BlockNode *n) RUNS_IN_MAIN;
GPtrArray *block_node_tree_unwritten(BlockNode *n) RUNS_IN_MAIN;
/* The node and all nodes above it, each once. To be freed. */
GPtrArray *block_node_ancestors(const BlockNode *n) RUNS_IN_MAIN;
/* The same without those that use the storage of the node, and not its disk (BlockEdge.aside). */
GPtrArray *block_node_viewers(const BlockNode *n) RUNS_IN_MAIN;
/* For sorting pointers to nodes: parents before their children, whose requests they make. */
int block_node_compare_heights(const void *a, const void *b) RUNS_IN_MAIN;
/* Makes an edge with the links, texts, role, uses and shares of @like, which are copied, and takes a
 * reference to the node. NULL + error: the use is refused. */
BlockEdge *block_edge_new(const BlockEdge *like, GError **error) RUNS_IN_MAIN;
/* The same without a check. */
BlockEdge *block_edge_new_unchecked(const BlockEdge *like) RUNS_IN_MAIN;
/* Removes the edge and its reference. */
void block_edge_co_free(BlockEdge *e) coroutine_fn RUNS_IN_MAIN;
/* The parts of that for a graph change, which holds the reference meanwhile: takes the edge out of
 * the graph, puts it back with its parent's children from @index on, frees it. */
unsigned block_edge_unlink(BlockEdge *e) RUNS_IN_MAIN;
void block_edge_link(BlockEdge *e, unsigned index) RUNS_IN_MAIN;
void block_edge_free(BlockEdge *e) RUNS_IN_MAIN;
/* Moves the edge to another node. The references stay as they are. */
void block_edge_relink(BlockEdge *e, BlockNode *to) RUNS_IN_MAIN;
BlockEdge *block_edge_find(const BlockNode *parent, const char *name) RUNS_IN_MAIN;
/* Sets uses and shares from the role and without a check; @writes: the user is writable. */
void block_edge_set_uses(BlockEdge *e, bool writes) RUNS_IN_MAIN;
/* The only place that decides whether two uses are compatible: of @e and of all other edges. The
 * error names both users. */
bool block_edge_check(const BlockEdge *e, GError **error) RUNS_IN_MAIN;
/* The same for an edge that exists already, as far as it counts: the backing edge of a hidden node does
 * not. */
bool block_edge_check_present(const BlockEdge *e, GError **error) RUNS_IN_MAIN;
/* Whether the node is writable if @e writes to it. */
bool block_edge_check_writable(const BlockEdge *e, GError **error) RUNS_IN_MAIN;

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

/* ---- drain.c, drain_begin.c ---- */
/* Returns when nothing is in flight in @n. Later operations of the node's own wait for
 * block_node_co_release(). */
void block_node_co_quiesce(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* False: for @patience_ns nothing has ended, and something is in flight. The node is quiesced all the
 * same. */
bool block_node_co_try_quiesce(BlockNode *n, int64_t patience_ns) coroutine_fn RUNS_IN_MAIN;
void block_node_co_release(BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* The same without a wait: what is in flight goes on, and nothing new of the node's own begins once the
 * message is in its home, before all messages of later calls. */
void block_node_hold(BlockNode *n) RUNS_IN_MAIN;
void block_node_release(BlockNode *n) RUNS_IN_MAIN;
/* The same for all of @nodes, which live in one home. They may move together in between. */
void block_nodes_co_quiesce(GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
void block_nodes_co_release(GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
/* ---- drain_nodes.c ---- */
/* All nodes above the given ones, and these. To be freed. */
GPtrArray *block_nodes_above(BlockNode *const *nodes, unsigned count) RUNS_IN_MAIN;
/* Quiesces each of @nodes, whatever its home, parents before their children, with a reference to each. */
void block_nodes_co_quiesce_each(GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
/* The same with a patience for each. Also after false, block_nodes_co_release_above() ends it. */
bool block_nodes_co_try_quiesce_each(GPtrArray *nodes, int64_t patience_ns)
    coroutine_fn RUNS_IN_MAIN;
/* The same without a wait. block_nodes_co_release_above() ends both. */
void block_nodes_hold(GPtrArray *nodes) RUNS_IN_MAIN;
/* Does the same, with a reference to each, for @nodes and all nodes above them: those can have
 * operations without a backend, which a section of a backend would cover. Returns them, parents
 * before their children. */
GPtrArray *block_nodes_co_quiesce_above(const GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
/* Ends it and frees the list. */
void block_nodes_co_release_above(GPtrArray *nodes) coroutine_fn RUNS_IN_MAIN;
/* A graph change has put the node below a backend that is in so many drained sections, or (not
 * @begin) has taken it away there. The change keeps the node quiesced meanwhile. */
void block_node_move_sections(BlockNode *n, unsigned sections, bool begin) RUNS_IN_MAIN;
void block_node_drain_init(BlockNode *n) ANY_THREAD;

/* ---- backend_throttle.c ---- */
/* Ends the delays of the node, or allows them again. Calls nest. */
void block_node_lift(BlockNode *n, bool on) RUNS_IN_IOTHREAD;

/* ---- change.c ---- */
/* Returns when no graph change of others includes @n. Before @n gets a user, or loses one. */
void block_node_co_pass_gate(const BlockNode *n) coroutine_fn RUNS_IN_MAIN;
/* A node is closed: a graph change that waits for that checks again. */
void block_graph_wake(void) RUNS_IN_MAIN;

/* ---- image_info.c ---- */
/* The node is closed. */
void block_node_free_image_info(BlockNode *n) RUNS_IN_MAIN;

/* ---- node.c ---- */
/* The limits before a driver sets its own. */
extern const BlockLimits node_no_limits;

#endif
