/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lanes: loops other than the home that execute a backend's requests themselves, each with an engine
 * of its own, while the nodes below the backend have no state that a request would use.
 *
 * A lane has a gate. While it is open, the lane sends reads and writes to the leaf node's file, past the
 * nodes; else they go to the home as all other requests do. The gates of a backend open and close
 * together. The home's view of them:
 *
 *               lanes_update: the backend is eligible              lanes_close
 *   GATE_CLOSED ------------------------------------> GATE_OPEN -----------------> GATE_CLOSING
 *        ^                                                                              |
 *        +------------------- lane_answered: the last lane has answered ----------------+
 *
 * and the lane's:
 *
 *        lane_command: open                        lane_command: close, in flight
 *   shut ------------------> taking (in_flight++) ------------------------------> leaving
 *    ^ ^                        |                                                     |
 *    | +--- lane_command: close, nothing in flight; answer                            |
 *    +------------------- lane_answer: nothing in flight any more; answer <-----------+
 *
 * Invariants (assert_lanes_state())
 *   1. Only the lane's thread uses its gate, its count and its engine. Only the home uses the state
 *      above. Commands and answers are posted messages; a command is executed and answered once.
 *   2. The plan is written by the home while the gates are closed, and read by a lane between the
 *      command to open and its answer to the command to close.
 *   3. While the gates are not closed, each node of the plan has `lanes` set. A drained section that
 *      covers one of these nodes, as each section of the backend does, closes them and begins when they
 *      are closed.
 *   4. A lane answers from a bottom half: the coroutine that ended the last request has run up to its
 *      next yield.
 *   5. What makes a backend eligible (lanes_plan()) changes only while the gates are closed: in a
 *      drained section, or after block_node_co_shut_lanes() or blk_co_shut_lanes(), which the function
 *      that makes such a change calls itself, or asserts with block_node_assert_no_lanes().
 *   6. At the end of each section, and after each such change, the home decides anew.
 *
 * A lane's request counts in statistics of the lane, which blk_stats() adds up. A write that needs a
 * flush, and everything that is no read or write, goes to the home. A flush there covers the writes that
 * lanes have completed: it is a system call on the same open file.
 */
#ifndef SKIFF_BLOCK_LANE_H
#define SKIFF_BLOCK_LANE_H

#include "block/node.h"

typedef struct BlockLaneDriver BlockLaneDriver;
typedef struct BlkLanes BlkLanes;

/* How the lanes of a backend reach its storage. */
typedef struct BlockLanePlan {
    const BlockLaneDriver *drv; /* of the leaf */
    BlockNode *leaf;
    uint64_t offset; /* of the backend's first byte in the leaf */
    uint64_t size;   /* of the backend */
    bool writable;
    BlockLimits limits; /* the strictest of all nodes */
} BlockLanePlan;

/* A driver whose nodes lanes may pass. */
struct BlockLaneDriver {
    /* In the home. Adds to @plan what the node does, and returns its child that the requests go to.
     * NULL: the node is a leaf, and the following functions serve it. */
    BlockNode *(*pass)(const BlockNode *n, BlockLanePlan *plan);
    /* In the lane's loop. Makes *@state (initially NULL, later what the last call has left) fit for
     * the leaf. False: the lane cannot serve it. leave frees it, not NULL. */
    bool (*enter)(const BlockNode *leaf, AioContext *ctx, void **state);
    void (*leave)(void *state);
    /* Coroutines in the lane's loop. They read only what is fixed while the node is open. 0 or
     * -errno. */
    int (*co_preadv)(BlockNode *leaf, void *state, uint64_t offset, uint64_t bytes,
                     const struct iovec *iov, unsigned niov);
    int (*co_pwritev)(BlockNode *leaf, void *state, uint64_t offset, uint64_t bytes,
                      const struct iovec *iov, unsigned niov);
};

/* Returns with no lane past @n; until the caller yields none is opened. Before a change of what makes
 * lanes eligible. In the home. */
void block_node_co_shut_lanes(BlockNode *n) coroutine_fn RUNS_IN_IOTHREAD;
/* Aborts if lanes pass @n. In its home, or in main while it is drained. */
void block_node_assert_no_lanes(const BlockNode *n, const char *what) ANY_THREAD;
/* The lanes of this thread's nodes are decided on anew, in its next turn. In the home. */
void block_lanes_recheck(void) RUNS_IN_IOTHREAD;

#endif
