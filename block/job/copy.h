/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data mover of all block jobs: copies ranges of a source node to a target node.
 *
 * What is left to copy is a bitmap, `todo`. The job's data step calls block_copy_co_run(), which takes
 * runs of set bits, clears them, and copies several of them at once; a filter above the source sets
 * bits again (block_copy_mark()) when the guest has changed something. Filters can also copy a range
 * before a write (block_copy_co_range()) or after it (block_copy_co_update()).
 *
 *   data step:  find a run -> claim it: bits cleared -> status --zero or hole--> write zeroes -> end
 *                                                          `--data--> read --> write ----------> end
 *   failed:     the bits are set again
 *
 * Invariants
 *   1. Claims do not overlap. A claim lasts from the clearing of its bits until its last write ends.
 *   2. The bit of a byte that differs between source and target is set, or a claim covers the byte, or
 *      a filter is about to mark or update it within a counted request.
 *   3. A claim of the data step is counted at the target until it ends and at the source while it
 *      reads. Both counts are taken before the bits are cleared: it waits for no drained section.
 *   4. At a pause point the data step has no claim.
 *   5. After block_copy_abandon() nothing waits for a claim, and no claim begins another request or waits
 *      for throttling. What is in flight ends when it does: until then it keeps its buffer, the nodes
 *      and the job's use of them. The data step waits for that for a second at most before it ends.
 *
 * Memory is bounded, guests keep a share of the time (copy_pace.h), the chunk size follows the speed of the storage, zeroes are found by block status
 * and in the data, and what the target has already is left out. Source and target live in one home;
 * functions without another role run there. Errors of the data step go to the policy of the job.
 */
#ifndef SKIFF_BLOCK_JOB_COPY_H
#define SKIFF_BLOCK_JOB_COPY_H

#include "block/dirty_bitmap.h"
#include "block/job/block_job.h"

typedef struct BlockCopy BlockCopy;

typedef struct BlockCopyConfig {
    BlockNode *source;
    /* NULL: the source itself takes what it reads from below (block_node_co_preadv_copying(), for
     * which it was prepared). */
    BlockNode *target;
    BlockEdge *target_edge; /* the job's use of the target, if it exists already */
    /* Of the size of the source; the copy takes it. Its granularity is the smallest unit that is
     * copied: whole clusters of the target need not be read there. */
    BlockDirtyBitmap *todo;
    uint64_t memory;         /* bytes of buffers; 0: 16 MiB */
    bool unmap;              /* zeroes may be holes in the target */
    bool target_is_zero;     /* at first the target reads as zeroes */
    bool compress;           /* data is written compressed; granularity: clusters of the target */
    unsigned max_claims;     /* of the data step at a time; 0: the default */
    int64_t save_timeout_ns; /* of block_copy_co_save(), which then gives -ETIMEDOUT; 0: none */
    uint64_t max_chunk; /* bytes of a claim of data, at least the granularity; 0: the default */
    /* block_copy_co_update() copies whole units: parts of the target that were not copied have other
     * data than the source. */
    bool whole_units;
} BlockCopyConfig;

/* ---- main ---- */
/* @bj NULL: there is no data step, only filters copy. */
BlockCopy *block_copy_new(BlockJob *bj, const BlockCopyConfig *config) RUNS_IN_MAIN;
/* The nodes have moved; nothing is in flight. */
void block_copy_set_home(BlockCopy *c, AioContext *home) RUNS_IN_MAIN;
/* Before the copy begins: the job's use of the target. */
void block_copy_set_target_edge(BlockCopy *c, BlockEdge *e) RUNS_IN_MAIN;
/* The user waits for the end of the copy: it leaves no time to guests any more. */
void block_copy_hurry(BlockCopy *c) ANY_THREAD;
/* @fn is called in the home once the user waits for the end, and the data step has copied as much as was
 * left then, but not all: guests change the source as fast as it is copied. */
void block_copy_set_outpaced(BlockCopy *c, void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* Ends all waits at once, when the job is cancelled or fails. The copy fails with -ECANCELED from then
 * on, and the bits of all claims are set. */
void block_copy_abandon(BlockCopy *c) ANY_THREAD;
/* Clears a filter's pointer to its copy, in the home: that may still end the drained section in which the filter was to be
 * inserted, and reads the pointer then. NULL already: nothing to do. */
void block_copy_co_detach(BlockCopy **link) coroutine_fn RUNS_IN_MAIN;
/* Abandons and frees the copy, which no filter and no data step uses any more. Waits for requests to
 * the source. Takes the target's edge out of the job; it ends with the last request to the target. */
void block_copy_co_free(BlockCopy *c) coroutine_fn RUNS_IN_MAIN;
/* Waits until nothing of the copy is in flight at the source, and, with @target, at the target. False: not
 * within @patience_ns. */
bool block_copy_co_await_idle(BlockCopy *c, bool target, int64_t patience_ns)
    coroutine_fn RUNS_IN_MAIN;

/* ---- the data step ---- */
/* Sets the bits of what the source shows of nodes between @min_depth and @max_depth backing nodes below
 * it, the latter excluded: 0 and 1: what it holds itself; 0 and the depth of a base: what is above the
 * base; UINT_MAX: to the end of the chain. Ranges that a chain of shorter nodes ends before reaching
 * @max_depth read as zeroes and count as held. 0, or -ECANCELED. */
int block_copy_co_scan(BlockCopy *c, unsigned min_depth, unsigned max_depth)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Copies until no bit is set and nothing is in flight. 0; -ECANCELED; or the error that the policy of
 * the job reports, with *@is_read. */
int block_copy_co_run(BlockCopy *c, bool *is_read) coroutine_fn RUNS_IN_IOTHREAD;

/* block_node_co_block_status() of the source, for the data step; returns early only when the copy is
 * abandoned. 0, -ECANCELED, or an error. */
int block_copy_co_status(BlockCopy *c, uint64_t offset, uint64_t bytes, bool below, BlockStatus *s)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Flushes the target; returns early only when the copy is abandoned, which JobDriver.cancel does.
 * @drained: the caller has it in a drained section. 0, -ECANCELED, or the target's error. */
int block_copy_co_flush(BlockCopy *c, bool drained) coroutine_fn RUNS_IN_IOTHREAD;
/* The same without a section, again and again as the policy of the job for errors wants it. */
int block_copy_co_flush_by_policy(BlockCopy *c) coroutine_fn RUNS_IN_IOTHREAD;

/* ---- filters, in a request, and others in the home ---- */
/* The source has changed in this range. */
void block_copy_mark(BlockCopy *c, uint64_t offset, uint64_t bytes) RUNS_IN_IOTHREAD;
/* The same; brings the target up to date before it returns, if it was up to date. An error goes to the
 * data step; the range then stays marked. */
void block_copy_co_update(BlockCopy *c, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Copies what is left of this range, rounded outwards to the granularity. Returns when it is in the
 * target, or with the error, which does not go to the data step. The caller is counted at the source,
 * or has it drained. */
int block_copy_co_range(BlockCopy *c, uint64_t offset, uint64_t bytes)
    coroutine_fn RUNS_IN_IOTHREAD;
/* Copies what is left of the whole source, beside guests' requests, whose filter keeps up to date what the
 * target has. For a copy with a target whose data step has ended. 0: nothing was left at one moment; 1:
 * something is left after @patience_ns, or a drained section has begun; -ECANCELED; or the error of source
 * or target. */
int block_copy_co_catch_up(BlockCopy *c, int64_t patience_ns) coroutine_fn RUNS_IN_IOTHREAD;
/* As block_copy_co_range(), before a write. While waits are lifted, or a drained section covers the
 * source, whose begin block_copy_lift() reports, it returns as soon as the range has been read: then an
 * error of the target breaks the copy. */
int block_copy_co_save(BlockCopy *c, uint64_t offset, uint64_t bytes) coroutine_fn RUNS_IN_IOTHREAD;
/* The copy cannot be completed because of @ret: it ends as if it was abandoned. */
void block_copy_break(BlockCopy *c, int ret) RUNS_IN_IOTHREAD;
/* That error; 0: none. */
int block_copy_broken(const BlockCopy *c) RUNS_IN_IOTHREAD;
/* What is left: borrowed. Bits may be set; to clear one drops work that is not begun. */
BlockDirtyBitmap *block_copy_todo(BlockCopy *c) ANY_THREAD;
/* Waits until no claim exists, while no new one is made. 0 or -ECANCELED. */
int block_copy_co_settle(BlockCopy *c) coroutine_fn RUNS_IN_IOTHREAD;
/* Whether bits are set or claims exist. */
bool block_copy_busy(const BlockCopy *c) RUNS_IN_IOTHREAD;
/* While it is on, block_copy_co_save() waits for the target no longer than in a drained section.
 * Guests' requests that wait already return without waiting for the target; what they wait for stays
 * marked until it is done. */
void block_copy_lift(BlockCopy *c, bool on) RUNS_IN_IOTHREAD;
/* The first error of an update that no data step has taken: 0 or -errno. */
int block_copy_error(const BlockCopy *c) RUNS_IN_IOTHREAD;

#endif
