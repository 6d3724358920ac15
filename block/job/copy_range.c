/* SPDX-License-Identifier: Apache-2.0 */
/* Copies for filters: before or after a request of the guest. */
#include <errno.h>
#include "block/job/copy_int.h"

#define RANGE_PENDING 1 /* the result of a claim that has not ended */

void block_copy_mark(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    block_bitmap_set(c->todo, offset, bytes);
    if (!c->abandoned) {
        copy_update_total(c);
        copy_signal(c);
    }
}

/* Those that wait look again. */
static RUNS_IN_IOTHREAD void range_wake_waiters(BlockCopy *c)
{
    for (CopyClaim *k = c->claims; k != NULL; k = k->next) {
        co_queue_wake_all(&k->waiters);
    }
    co_queue_wake_all(&c->memory_waiters);
}

void copy_release_updates(BlockCopy *c)
{
    c->releases++;
    range_wake_waiters(c);
}

void block_copy_lift(BlockCopy *c, bool on)
{
    c->lifted = on;
    if (on) {
        copy_release_updates(c);
    }
}

/* Whether a request of the guest waits only until the source was read. Not if the target is an overlay
 * of the source: its readers would see the change. */
static bool range_is_hurried(const BlockCopy *c, CopyKind kind)
{
    bool hurried = c->lifted || c->source->quiesced > 0;
    return kind == COPY_SAVE && hurried && !c->target->keeps_reads;
}

static RUNS_IN_IOTHREAD bool range_is_late(const BlockCopy *c, int64_t deadline_ns)
{
    return deadline_ns != INT64_MAX && aio_now_ns(c->home) >= deadline_ns;
}

/* Waits once for something that keeps a claim of the range from being made. False: there is no such
 * thing; memory is reserved then. */
static coroutine_fn RUNS_IN_IOTHREAD bool range_co_wait(BlockCopy *c, uint64_t offset,
                                                        uint64_t bytes, uint64_t memory)
{
    CopyClaim *k = copy_find_claim(c, offset, bytes);
    if (k != NULL) {
        co_queue_wait(&k->waiters, "a copy of the same range");
    } else if (!copy_reserve(c, memory)) {
        co_queue_wait(&c->memory_waiters, "memory for a copy");
    } else {
        return false;
    }
    return true;
}

/* Copies a range and waits for its end. RANGE_PENDING: the wait was ended before. */
static coroutine_fn RUNS_IN_IOTHREAD int range_co_copy(BlockCopy *c, CopyKind kind, uint64_t offset,
                                                       uint64_t bytes, unsigned releases,
                                                       int64_t deadline_ns)
{
    int result = RANGE_PENDING;
    copy_count(c);
    CopyClaim *k = copy_start(c, kind, offset, bytes, &result);
    while (result == RANGE_PENDING) {
        co_queue_wait(&k->waiters, "a copy for a request of the guest");
        bool ended = kind == COPY_UPDATE ? c->releases != releases : c->abandoned;
        ended = ended || range_is_late(c, deadline_ns);
        if (result == RANGE_PENDING && range_is_hurried(c, kind) && !k->reading) {
            k->released = true;
            ended = true;
        }
        if (result == RANGE_PENDING && ended) {
            k->result = NULL;
            break;
        }
    }
    return result;
}

/* Whether the target is up to date there, and can be kept so without a wait for a drained section. */
static RUNS_IN_IOTHREAD bool range_is_synced(const BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    uint64_t start = block_align_down(offset, c->granularity), at, length;
    uint64_t end = block_align_up(offset + bytes, c->granularity);
    return c->target->quiesced == 0 && !block_bitmap_find(c->todo, start, end, &at, &length);
}

void block_copy_co_update(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    unsigned releases = c->releases;
    uint64_t end = offset + bytes;
    if (c->whole_units) {
        offset = block_align_down(offset, c->granularity);
        end = MIN(block_align_up(end, c->granularity), c->size);
    }
    while (offset < end && c->releases == releases) {
        uint64_t length = MIN(end - offset, c->chunk_max);
        if (!range_is_synced(c, offset, length)) {
            break;
        }
        if (range_co_wait(c, offset, length, length)) {
            continue;
        }
        if (range_co_copy(c, COPY_UPDATE, offset, length, releases, INT64_MAX) == RANGE_PENDING) {
            break;
        }
        offset += length;
    }
    if (offset < end) {
        block_copy_mark(c, offset, end - offset);
    }
}

int block_copy_co_settle(BlockCopy *c)
{
    while (c->claims != NULL && !c->abandoned) {
        co_queue_wait(&c->claims->waiters, "the claims of a copy");
    }
    return c->abandoned ? -ECANCELED : 0;
}

/* ---- ranges ---- */

/* The first claim of the range that has to be waited for. In a hurry those that have read the source
 * are released. */
static RUNS_IN_IOTHREAD CopyClaim *range_find_claim(const BlockCopy *c, uint64_t start,
                                                    uint64_t end, bool hurry)
{
    for (CopyClaim *k = c->claims; k != NULL; k = k->next) {
        bool there = k->offset < end && start < k->offset + k->bytes;
        if (there && hurry && !k->reading) {
            k->released = true;
        } else if (there) {
            return k;
        }
    }
    return NULL;
}

/* Copies the first of the bits at @at. 0 also if the rest of the copy goes on without the caller. */
static coroutine_fn RUNS_IN_IOTHREAD int range_co_copy_run(BlockCopy *c, CopyKind kind, uint64_t at,
                                                           uint64_t length, int64_t deadline_ns)
{
    length = MIN(length, c->chunk_max);
    if (!copy_reserve(c, length)) {
        if (!range_is_hurried(c, kind)) {
            co_queue_wait(&c->memory_waiters, "memory for a copy");
            return 0;
        }
        copy_reserve_more(c, length); /* as far as requests are in flight */
    }
    int ret = range_co_copy(c, kind, at, length, 0, deadline_ns);
    return MIN(ret, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int range_co_do(BlockCopy *c, CopyKind kind, uint64_t offset,
                                                     uint64_t bytes, int64_t deadline_ns)
{
    uint64_t start = block_align_down(offset, c->granularity), at, length;
    uint64_t end = MIN(block_align_up(offset + bytes, c->granularity), c->size);
    int ret = 0;
    while (ret == 0 && !c->abandoned) {
        CopyClaim *k = range_find_claim(c, start, end, range_is_hurried(c, kind));
        if (k == NULL && !block_bitmap_find(c->todo, start, end, &at, &length)) {
            return 0;
        }
        if (range_is_late(c, deadline_ns)) {
            return -ETIMEDOUT;
        }
        if (k != NULL) {
            co_queue_wait(&k->waiters, "a copy of the same range");
        } else {
            ret = range_co_copy_run(c, kind, at, length, deadline_ns);
        }
    }
    return ret < 0 ? ret : -ECANCELED;
}

int block_copy_co_range(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    return range_co_do(c, COPY_RANGE, offset, bytes, INT64_MAX);
}

static void range_timeout(void *opaque)
{
    BlockCopy *c = opaque;
    enter_iothread(c->home);
    copy_release_updates(c);
}

int block_copy_co_save(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    if (c->save_timeout_ns == 0) {
        return range_co_do(c, COPY_SAVE, offset, bytes, INT64_MAX);
    }
    AioTimer timer;
    int64_t deadline_ns = aio_now_ns(c->home) + c->save_timeout_ns;
    aio_timer_init(&timer, c->home, range_timeout, c);
    aio_timer_arm(&timer, deadline_ns);
    int ret = range_co_do(c, COPY_SAVE, offset, bytes, deadline_ns);
    aio_timer_disarm(&timer);
    return ret;
}

/* ---- what is left, beside guests ---- */

static void catch_up_timeout(void *opaque)
{
    BlockCopy *c = opaque;
    enter_iothread(c->home);
    range_wake_waiters(c); /* guests' requests wait on */
}

/* Counts at source and target are taken without a wait, so no section may have begun there. */
static RUNS_IN_IOTHREAD bool catch_up_must_end(const BlockCopy *c, int64_t deadline_ns)
{
    return range_is_late(c, deadline_ns) || c->source->quiesced > 0 || c->target->quiesced > 0;
}

/* A copy that is late goes on without the caller: nothing is marked then, but something is left. */
static coroutine_fn RUNS_IN_IOTHREAD int catch_up_co_run(BlockCopy *c, int64_t deadline_ns)
{
    uint64_t at, length;
    int ret = 0;
    while (ret == 0 && !c->abandoned && block_bitmap_find(c->todo, 0, c->size, &at, &length)) {
        CopyClaim *k = copy_find_claim(c, at, MIN(length, c->chunk_max));
        if (catch_up_must_end(c, deadline_ns)) {
            return 1;
        }
        if (k != NULL) {
            co_queue_wait(&k->waiters, "a copy of the same range");
        } else {
            ret = range_co_copy_run(c, COPY_RANGE, at, length, deadline_ns);
        }
    }
    if (ret < 0) {
        return ret;
    }
    return c->abandoned ? -ECANCELED : range_is_late(c, deadline_ns);
}

int block_copy_co_catch_up(BlockCopy *c, int64_t patience_ns)
{
    AioTimer timer;
    int64_t deadline_ns = aio_now_ns(c->home) + patience_ns;
    aio_timer_init(&timer, c->home, catch_up_timeout, c);
    aio_timer_arm(&timer, deadline_ns);
    int ret = catch_up_co_run(c, deadline_ns);
    aio_timer_disarm(&timer);
    return ret;
}
