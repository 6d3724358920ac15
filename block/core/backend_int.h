/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A backend's inside: what backend.c (life, requests) and drain.c (drained sections) share.
 *
 *            blk_request_co_begin                     blk_request_end
 *   caller ------------------------> IN_FLIGHT ---------------------> done
 *      \                                ^
 *       \ quiesced                      | the section ends: who wakes the request has counted it
 *        `-------------> QUEUED --------'
 *
 * Invariants
 *   1. in_flight = requests between begin and end, macro operations and their parts included, plus
 *      those that were woken from the queue and have not run yet.
 *   2. A queued request is not in flight, and the queue is empty unless quiesced > 0.
 *   3. A drain reports only from a bottom half or posted call, never from inside a request's end:
 *      the coroutine that ended it has run up to its next yield by then.
 *   4. All runtime fields are the home context's alone; in_flight is atomic to be looked at.
 */
#ifndef SKIFF_BLOCK_CORE_BACKEND_INT_H
#define SKIFF_BLOCK_CORE_BACKEND_INT_H

#include "block/core/account.h"
#include "block/node.h"
#include "util/loop/waitgraph.h"

/* On the stack of the coroutine that asks. */
typedef struct BlkRequest {
    const char *op;
    BlkOp account;
    uint64_t offset, bytes;
    int64_t start_ns; /* when it was admitted */
    Coroutine *owner;
    CoToken token; /* while queued */
    WaitRecord *wait;
    struct BlkRequest *next, **link;
} BlkRequest;

struct BlockBackend {
    /* links */
    BlockNode *root; /* owned reference */
    AioContext *home;

    /* config */
    char *name;
    bool writable;
    BlkNotify notify;
    _Atomic bool write_cache;

    /* main */
    unsigned sections;           /* drained sections that main has begun and not ended */
    const void *_Atomic drainer; /* the coroutine that began the first; for the wait-for graph */

    /* runtime: home */
    _Atomic unsigned in_flight;
    unsigned quiesced;    /* drained sections that have arrived */
    BlkRequest *requests; /* in flight */
    BlkRequest *queued, **queued_tail;
    BlkMacro *macros;
    BlkAccount account;
};

static inline void blk_count_in(BlockBackend *blk)
{
    unsigned n = atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
    atomic_store_explicit(&blk->in_flight, n + 1, memory_order_relaxed);
}
/* The counterpart; lets a waiting drain look. */
void blk_count_out(BlockBackend *blk) RUNS_IN_IOTHREAD;
/* Home: the backend goes, inside a section that has no end. True: nothing waits in it. */
bool blk_drain_retire(BlockBackend *blk) RUNS_IN_IOTHREAD;

#endif
