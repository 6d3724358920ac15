/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Internals of a backend, shared by backend.c (life cycle, size), backend_request.c (requests) and
 * drain.c (draining).
 *
 *            blk_request_co_begin                     blk_request_end
 *   caller --> THROTTLED -----------> IN_FLIGHT ---------------------> done
 *      \                                ^
 *       \ quiesced                      | the section ends: counted before the wake
 *        `-------------> QUEUED --------'
 *
 * A request waits in THROTTLED if the backend is a member of a throttle group (block/throttle.h).
 * From there and from QUEUED it returns unstarted while the backend hurries.
 *
 * Invariants
 *   1. in_flight = requests between begin and end, macro operations and their parts included, plus
 *      requests that were woken from the queue and have not run yet.
 *   2. A queued or throttled request is not in flight. The queue is empty unless quiesced > 0.
 *      No throttled request starts while quiesced > 0.
 *   3. A drain reports only from a bottom half or posted call, never from inside a request's end.
 *      The coroutine that ended the request has then run up to its next yield.
 *   4. While the backend hurries and is not quiesced, the nodes below it are lifted; in a drained
 *      section they are lifted by it.
 *   5. Only the home context uses the runtime fields; others may read the atomic in_flight.
 */
#ifndef SKIFF_BLOCK_CORE_BACKEND_INT_H
#define SKIFF_BLOCK_CORE_BACKEND_INT_H

#include "block/core/lane_int.h"
#include "block/node.h"
#include "block/throttle.h"
#include "util/loop/waitgraph.h"

/* On the stack of the requesting coroutine. */
typedef struct BlkRequest {
    const char *op;
    BlkOp account; /* BLK_OP_COUNT: absent from the statistics */
    uint64_t offset, bytes;
    int64_t start_ns; /* time of admission */
    Coroutine *owner;
    CoToken token; /* while queued */
    WaitRecord *wait;
    int result;     /* of the wait in the queue: 0 or BLK_NOT_STARTED */
    bool unlimited; /* it does not wait for throttling, and is not returned */
    struct BlkRequest *next, **link;
} BlkRequest;

struct BlockBackend {
    /* links */
    BlockEdge *edge; /* owned */
    BlockNode *root; /* its node */
    AioContext *home;

    /* config */
    char *name;
    bool is_drive; /* else the name is a description */
    bool writable;
    BlkNotify notify;
    _Atomic bool write_cache;

    _Atomic uint64_t size; /* blk_size(); written in main, by blk_note_size() */

    /* main */
    bool retiring;                 /* it is being freed */
    const void *owner;             /* main: blk_set_owner() */
    unsigned sections;             /* drained sections begun and not ended by main */
    const void *_Atomic drainer;   /* coroutine that began the first; for the wait-for graph */
    ThrottleGroup *throttle_group; /* owned reference; NULL: none */
    BlkLanes *own_lanes;           /* NULL: none */

    /* runtime: home */
    _Atomic unsigned in_flight;
    unsigned quiesced;    /* drained sections in effect */
    BlkRequest *requests; /* in flight */
    BlkRequest *queued, **queued_tail;
    BlkMacro *macros;
    BlkAccount account;
    ThrottleMember *throttle; /* NULL: in no group */
    ThrottleMember member;    /* its memory */
    bool hurries;
    BlkLanes *lanes; /* the same as own_lanes */
};

static inline void blk_count_in(BlockBackend *blk)
{
    unsigned n = atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
    atomic_store_explicit(&blk->in_flight, n + 1, memory_order_relaxed);
}
/* The counterpart; makes a waiting drain check its counts. */
void blk_count_out(BlockBackend *blk) RUNS_IN_IOTHREAD;
/* Makes drained sections that cover @blk or @node (the other one is NULL) check their counts. */
void blk_drain_kick(const BlockBackend *blk, const BlockNode *node) RUNS_IN_IOTHREAD;
/* Home: removes all requests from the queue, which end with BLK_NOT_STARTED. */
void blk_return_queued(BlockBackend *blk) RUNS_IN_IOTHREAD;
/* Home: lifts the nodes below the backend, or ends that. */
void blk_lift_nodes(BlockBackend *blk, bool on) RUNS_IN_IOTHREAD;
/* Home: the backend is freed; it is quiesced for good. */
void blk_throttle_retire(BlockBackend *blk) RUNS_IN_IOTHREAD;
/* Takes the size of the root over. Called at the end of each drained section, in which it can change. */
void blk_note_size(BlockBackend *blk) RUNS_IN_MAIN;
/* The same for all backends on @root, whose size has changed without sections of these. */
void blk_note_sizes(const BlockNode *root) RUNS_IN_MAIN;
/* The backends on @root, as blk_list(). */
BlockBackend **blk_list_of(const BlockNode *root, unsigned *count) RUNS_IN_MAIN;
/* Home: a section takes effect for the backend (NULL: none) and for the nodes. */
void blk_drain_quiesce(BlockBackend *blk, const GPtrArray *nodes) RUNS_IN_IOTHREAD;
/* Main counts a section that it begins. */
void blk_count_section(BlockBackend *blk) RUNS_IN_MAIN;
/* Begins drained sections without a wait for what is in flight: nothing new begins. co_drained_end() ends
 * them. */
void blk_hold(BlockBackend *const *blks, unsigned count) RUNS_IN_MAIN;
/* The same for all backends and nodes, and for good: the process ends. Operations may free some of them
 * meanwhile. */
void block_hold_all(void) RUNS_IN_MAIN;
/* After block_hold_all(): returns when the backends, which may be freed meanwhile, have no request in
 * flight. */
void blk_co_await_held(BlockBackend *const *blks, unsigned count) coroutine_fn RUNS_IN_MAIN;
/* Home: whether a section of the backend waits for what is in flight. */
bool blk_drain_waits(const BlockBackend *blk) RUNS_IN_IOTHREAD;
/* As co_drained_begin(). False: for @patience_ns (INT64_MAX: any time) nothing has ended, and something
 * is in flight. The section has begun all the same: co_drained_end() ends it. */
bool co_drained_try_begin(BlockBackend *const *blks, unsigned count, int64_t patience_ns)
    coroutine_fn RUNS_IN_MAIN;
/* Home: the backend is freed, inside a section of @nodes that never ends. True: no request waits in
 * it. */
bool blk_drain_retire(BlockBackend *blk, const GPtrArray *nodes) RUNS_IN_IOTHREAD;

#endif
