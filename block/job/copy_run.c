/* SPDX-License-Identifier: Apache-2.0 */
/* The data step of a copy: which range is next, and when. */
#include <errno.h>
#include "block/job/copy_int.h"

#define COPY_SCAN_MAX ((uint64_t)1 << 30) /* bytes of one look */

/* ---- one operation that the data step waits for ---- */

/* Waits for a drained section of source or target to end. False: there was none. */
static coroutine_fn RUNS_IN_IOTHREAD bool copy_co_await_section(BlockCopy *c)
{
    BlockNode *n = c->source->quiesced > 0                        ? c->source
                   : c->target != NULL && c->target->quiesced > 0 ? c->target
                                                                  : NULL;
    if (n == NULL) {
        return false;
    }
    block_node_co_begin(n);
    block_node_end(n);
    return true;
}

/* What is in flight at nodes that answer ends soon: then no node is in use when the job concludes. */
static coroutine_fn RUNS_IN_IOTHREAD void copy_co_await_claims(BlockCopy *c)
{
    int64_t deadline_ns = aio_now_ns(c->home) + COPY_LEAVE_NS;
    c->leaving = true;
    while (c->claims != NULL && aio_now_ns(c->home) < deadline_ns) {
        job_co_wait(c->bj->job, deadline_ns);
    }
    c->leaving = false;
}

/* Starts a claim without bytes and waits for its end, or until the copy is abandoned. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_co_operate(BlockCopy *c, CopyKind kind,
                                                         CopyLook *look)
{
    int result = 1;
    if (c->abandoned) {
        return -ECANCELED;
    }
    copy_count(c);
    CopyClaim *k = copy_start(c, kind, 0, 0, &result);
    k->look = look;
    while (result == 1 && !c->abandoned) {
        co_queue_wait(&k->waiters, "an operation of a job");
    }
    if (result == 1) {
        k->result = NULL;
        k->look = NULL;
        return -ECANCELED;
    }
    return result;
}

int block_copy_co_flush(BlockCopy *c, bool drained)
{
    while (!drained && copy_co_await_section(c)) {
    }
    int ret = copy_co_operate(c, COPY_FLUSH, NULL);
    if (ret == -ECANCELED && c->abandoned && !drained) {
        copy_co_await_claims(c);
    }
    return ret;
}

int block_copy_co_status(BlockCopy *c, uint64_t offset, uint64_t bytes, bool below, BlockStatus *s)
{
    CopyLook look = {.offset = offset, .bytes = bytes, .below = below};
    while (copy_co_await_section(c)) {
    }
    int ret = copy_co_operate(c, COPY_LOOK, &look);
    *s = look.status;
    if (ret == -ECANCELED && c->abandoned) {
        copy_co_await_claims(c);
    }
    return ret;
}

/* ---- scanning ---- */

static bool copy_is_held(const BlockStatus *s, unsigned min_depth, unsigned max_depth)
{
    if (s->depth >= max_depth) {
        return false;
    }
    bool held = (s->flags & BLOCK_STATUS_ALLOCATED) != 0;
    return held ? s->depth >= min_depth : max_depth != UINT_MAX;
}

/* Looks at one range; returns its length. */
static coroutine_fn RUNS_IN_IOTHREAD uint64_t copy_co_scan_range(BlockCopy *c, uint64_t at,
                                                                 unsigned min_depth,
                                                                 unsigned max_depth)
{
    BlockStatus s;
    uint64_t bytes = MIN(c->size - at, COPY_SCAN_MAX);
    int ret = block_copy_co_status(c, at, bytes, true, &s);
    if (ret < 0 || s.bytes == 0) { /* unknown: the copy reports what is wrong */
        block_bitmap_set(c->todo, at, c->granularity);
        return MIN(c->size - at, c->granularity);
    }
    if (copy_is_held(&s, min_depth, max_depth)) {
        block_bitmap_set(c->todo, at, s.bytes);
    }
    return s.bytes;
}

int block_copy_co_scan(BlockCopy *c, unsigned min_depth, unsigned max_depth)
{
    for (uint64_t at = 0; at < c->size;) {
        if (!job_co_pause_point(c->bj->job)) {
            return -ECANCELED;
        }
        at += copy_co_scan_range(c, at, min_depth, max_depth);
        copy_update_total(c);
        co_yield_turn();
    }
    return 0;
}

/* ---- the next range ---- */

/* The first run of bits in [from, end) that no claim covers. */
static RUNS_IN_IOTHREAD bool copy_find_in(const BlockCopy *c, uint64_t from, uint64_t end,
                                          uint64_t *offset, uint64_t *bytes)
{
    while (block_bitmap_find(c->todo, from, end, offset, bytes)) {
        uint64_t unit = MIN(c->granularity, *bytes);
        const CopyClaim *k = copy_find_claim(c, *offset, unit);
        if (k == NULL) {
            return true;
        }
        from = block_align_up(k->offset + k->bytes, c->granularity);
    }
    return false;
}

static RUNS_IN_IOTHREAD uint64_t copy_chunk(const BlockCopy *c)
{
    uint64_t speed = job_speed(c->bj->job);
    uint64_t chunk = MAX(copy_pace_chunk(&c->pace, c->chunk, c->zero_chunk), c->granularity);
    if (speed > 0) { /* parts of a second */
        chunk = MIN(chunk, block_align_up(speed / 8 + 1, c->granularity));
    }
    return chunk;
}

/* Shortens a run to one claim. */
static RUNS_IN_IOTHREAD uint64_t copy_limit(const BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    bytes = MIN(bytes, copy_chunk(c));
    for (const CopyClaim *k = c->claims; k != NULL; k = k->next) {
        if (k->offset >= offset && k->offset < offset + bytes) {
            bytes = block_align_down(k->offset, c->granularity) - offset;
        }
    }
    return bytes;
}

static RUNS_IN_IOTHREAD bool copy_find(const BlockCopy *c, uint64_t *offset, uint64_t *bytes)
{
    return copy_find_in(c, c->cursor, c->size, offset, bytes) ||
           copy_find_in(c, 0, c->cursor, offset, bytes);
}

/* ---- the data step ---- */

static RUNS_IN_IOTHREAD void copy_step_pace(BlockCopy *c)
{
    BlkActivity others = blk_activity();
    const Job *job = c->bj->job;
    CopyPaceInput in = {.now_ns = aio_now_ns(c->home),
                        .requests = copy_requests_of_others(),
                        .in_flight = others.begun != others.ended,
                        .left = block_bitmap_dirty_bytes(c->todo) + c->claimed,
                        .free = job_speed(job) > 0 || copy_is_ending(c)};
    copy_pace_step(&c->pace, &in);
}

/* Claims the run, or waits for what it needs. */
static coroutine_fn RUNS_IN_IOTHREAD void copy_co_claim(BlockCopy *c, uint64_t offset,
                                                        uint64_t bytes)
{
    Job *job = c->bj->job;
    copy_step_pace(c);
    int64_t next_ns = MAX(block_job_next_ns(c->bj), c->pace.next_ns);
    bytes = copy_limit(c, offset, bytes);
    if (next_ns > aio_now_ns(c->home)) {
        job_co_wait(job, next_ns);
    } else if (copy_co_await_section(c)) {
        return; /* bits and claims have changed */
    } else if (c->background >= c->claims_max || !copy_pace_allows(&c->pace, c->working) ||
               !copy_reserve(c, bytes)) {
        job_co_wait(job, INT64_MAX);
    } else {
        copy_count(c);
        block_job_account(c->bj, MIN(bytes, c->chunk_max));
        copy_pace_work_begins(&c->pace, aio_now_ns(c->home), copy_requests_of_others());
        copy_start(c, COPY_BACKGROUND, offset, bytes, NULL);
        c->cursor = offset + bytes < c->size ? offset + bytes : 0;
        copy_update_total(c);
        /* The engine would merge reads that begin in one turn: all would end at once, then all writes
         * would, and the disk would never read and write at the same time. */
        co_yield_turn();
    }
}

/* Reacts to an error, or pauses; nothing of the data step is in flight. 0: go on. */
static coroutine_fn RUNS_IN_IOTHREAD int copy_co_interrupted(BlockCopy *c, bool *is_read)
{
    int error = c->error;
    if (error == 0) {
        return job_co_pause_point(c->bj->job) ? 0 : -ECANCELED;
    }
    c->error = 0;
    *is_read = c->error_is_read;
    if (block_job_co_error(c->bj, error, c->error_is_read)) {
        return 0;
    }
    return job_is_cancelled(c->bj->job) ? -ECANCELED : error;
}

static coroutine_fn RUNS_IN_IOTHREAD int copy_co_leave(BlockCopy *c)
{
    copy_abandon(c);
    copy_co_await_claims(c);
    return -ECANCELED;
}

int block_copy_co_flush_by_policy(BlockCopy *c)
{
    for (;;) {
        int ret = block_copy_co_flush(c, false);
        if (ret == 0 || ret == -ECANCELED || !block_job_co_error(c->bj, ret, false)) {
            return job_is_cancelled(c->bj->job) ? -ECANCELED : ret;
        }
    }
}

int block_copy_co_run(BlockCopy *c, bool *is_read)
{
    Job *job = c->bj->job;
    uint64_t offset, bytes;
    int ret = 0;
    while (ret == 0) {
        if (job_is_cancelled(job) || c->abandoned) {
            ret = -ECANCELED;
        } else if (c->error < 0 || job_should_pause(job)) {
            if (c->background > 0) {
                job_co_wait(job, INT64_MAX);
            } else {
                ret = copy_co_interrupted(c, is_read);
            }
        } else if (copy_find(c, &offset, &bytes)) {
            copy_co_claim(c, offset, bytes);
        } else if (block_copy_busy(c)) {
            job_co_wait(job, INT64_MAX);
        } else {
            return 0;
        }
    }
    return ret == -ECANCELED ? copy_co_leave(c) : ret;
}
