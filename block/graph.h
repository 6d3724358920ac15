/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the graph of nodes while guests use it: another node in place of one, a filter above a
 * node, another child. Coroutines and functions of main, under the VM operation lock.
 *
 *   block_graph_co_begin -----> drained: the given nodes, and those above and below them. All that is
 *        |                      connected with them begins nothing new. The caller may yield.
 *        |  block_graph_replace, ...
 *        v
 *   steps ----------------> commit ---> drained, changed: the caller may yield.
 *        \                    | refused        |
 *         `---> abort <-------'                v
 *                 |                    block_graph_co_end
 *                 `------------------> nodes and backends go on; references are released
 *
 * Invariants
 *   1. From begin until end nothing is in flight in the given nodes, in the nodes and backends above
 *      them, and below them, except reads of shared nodes below by what follows. The other connected
 *      nodes and backends, and nodes below that a job writes to and that are not given, begin nothing;
 *      what is in flight there may go on, and may hang. New users of
 *      all connected nodes (blockdev-add, a device) wait for the end.
 *   2. From the first step until commit or abort nothing yields. So nobody sees a part of the steps.
 *   3. After commit all steps are done and all uses of the connected nodes are compatible
 *      (block/core/edge.c). After abort or a refused commit all is as before the first step.
 *   4. Heights, limits, caps, sizes, and what drivers keep about their children follow in commit.
 *   5. Drained sections that others have begun hold for the changed graph (block/node.h, invariant 7).
 *
 * What a job keeps about a node (a filter's bitmap) it makes and frees between begin and end.
 */
#ifndef SKIFF_BLOCK_GRAPH_H
#define SKIFF_BLOCK_GRAPH_H

#include "block/node.h"

typedef struct BlockGraphChange BlockGraphChange;

/* Begins a change of edges of @nodes, which need not be connected with each other: those that
 * are replaced, replacements, filters, parents and children. NULL + @error: a node that is being
 * opened uses one of them, or one whose close takes longer than a second. */
BlockGraphChange *block_graph_co_begin(BlockNode *const *nodes, unsigned count, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* The same, for a caller that can try later: NULL also if nothing has ended for @patience_ns while something
 * is in flight. */
BlockGraphChange *block_graph_co_try_begin(BlockNode *const *nodes, unsigned count,
                                           int64_t patience_ns, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* ---- steps: false + @error if impossible, then the caller aborts ---- */
/* All users of @from use @to instead, except @to itself, the nodes below it, and users that stay
 * (block_user_new(), blk_set_stays()). Both live in one home. */
bool block_graph_replace(BlockGraphChange *c, BlockNode *from, BlockNode *to, GError **error)
    RUNS_IN_MAIN;
/* Sets, changes or (NULL) removes a child of @parent. The parent writes to a child that is not a
 * backing node if the parent is writable. */
bool block_graph_set_child(BlockGraphChange *c, BlockNode *parent, const char *name,
                           BlockChildRole role, BlockNode *child, GError **error) RUNS_IN_MAIN;
/* Puts @filter, which has no child "file", between @below and its users. */
bool block_graph_insert_filter(BlockGraphChange *c, BlockNode *filter, BlockNode *below,
                               GError **error) RUNS_IN_MAIN;
/* The users of @filter use its file instead; the filter has no child "file" then. Not possible while a
 * user stays. */
bool block_graph_remove_filter(BlockGraphChange *c, BlockNode *filter, GError **error) RUNS_IN_MAIN;

/* ---- their end ---- */
/* False + @error: the uses conflict, and the error names both users. */
bool block_graph_commit(BlockGraphChange *c, GError **error) RUNS_IN_MAIN;
/* Undoes all steps. After a refused commit, which has done so, it does nothing. */
void block_graph_abort(BlockGraphChange *c) RUNS_IN_MAIN;
/* Ends the drained section, and frees @c. Without a commit the steps are undone. A node that has no
 * reference any more is closed. */
void block_graph_co_end(BlockGraphChange *c) coroutine_fn RUNS_IN_MAIN;

/* ---- nodes of jobs ---- */
typedef struct BlockNodeCreate {
    const BlockDriver *drv; /* need not be in the table of drivers */
    const char *name;       /* NULL: it is generated, as "#block123" */
    AioContext *home;
    BlockNodeFlags flags;
    void *state; /* the node's; g_free()d after co_close. NULL: zeroes */
} BlockNodeCreate;
/* Creates a node of a driver that needs no options, without children. Users find it by its name only
 * while a graph change has given it a child "file". The caller owns one reference and drops it
 * when the filter is removed. Takes the state on success. NULL + @error: the name is invalid or taken. */
BlockNode *block_node_create(const BlockNodeCreate *how, GError **error) RUNS_IN_MAIN;

/* ---- jobs as users of nodes ---- */
/* A use of @n by @user ("job 'job0'"), which stays at the node when the node is replaced. @uses and
 * @shares are BlockUse; a job that changes the graph uses BLOCK_USE_GRAPH and does not share it: no
 * second one does then, and the node is not resized, reopened or snapshotted. Inside a change only the
 * coroutine that began it may call this. NULL + @error: another use conflicts; both users are named. */
BlockEdge *block_user_co_new(BlockNode *n, const char *user, unsigned uses, unsigned shares,
                             GError **error) coroutine_fn RUNS_IN_MAIN;
void block_user_co_free(BlockEdge *user) coroutine_fn RUNS_IN_MAIN; /* NULL: nothing */
/* A name for @n that is no use of it: it follows the users when the node is replaced, as the id of a
 * -drive does, and keeps the node open. */
BlockEdge *block_name_co_new(BlockNode *n, const char *user) coroutine_fn RUNS_IN_MAIN;
/* What the filters of jobs show that are above it: the node that the ids of drives and devices mean;
 * @n if it is no such filter. */
BlockNode *block_node_below_jobs(BlockNode *n) RUNS_IN_MAIN;
/* The same below filters whose name is generated: the node that queries of disks show. */
BlockNode *block_node_below_unnamed(BlockNode *n) RUNS_IN_MAIN;
/* Whether a part of what @n shows is lost when skiff ends: it is in a temporary file (snapshot=on), its own or that of a
 * node below it. */
bool block_node_is_temporary(const BlockNode *n) RUNS_IN_MAIN;
/* False + @error if @n is the filter of a job: jobs, bitmaps and exports cannot use it. */
bool block_node_check_no_filter(const BlockNode *n, GError **error) RUNS_IN_MAIN;
/* The job that uses @n with BLOCK_USE_GRAPH; "job 'job0'", borrowed. NULL: none. */
const char *block_node_job(const BlockNode *n) RUNS_IN_MAIN;
/* False + @error if there is such a job. */
bool block_node_check_no_job(const BlockNode *n, GError **error) RUNS_IN_MAIN;
/* The backend stays at its node when the node is replaced, as the backends of a job do. */
void blk_set_stays(BlockBackend *blk) RUNS_IN_MAIN;

#endif
