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
        job_signal(c->bj->job);
    }
}

void block_copy_release_updates(BlockCopy *c)
{
    c->releases++;
    for (CopyClaim *k = c->claims; k != NULL; k = k->next) {
        co_queue_wake_all(&k->waiters);
    }
    co_queue_wake_all(&c->memory_waiters);
}

/* Whether a request of the guest waits only until the source was read. */
static bool range_is_hurried(const BlockCopy *c, CopyKind kind)
{
    return kind == COPY_SAVE && c->source->quiesced > 0;
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
                                                       uint64_t bytes, unsigned releases)
{
    int result = RANGE_PENDING;
    copy_count(c);
    CopyClaim *k = copy_start(c, kind, offset, bytes, &result);
    while (result == RANGE_PENDING) {
        co_queue_wait(&k->waiters, "a copy for a request of the guest");
        bool ended = kind == COPY_UPDATE ? c->releases != releases : c->abandoned;
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
        if (range_co_copy(c, COPY_UPDATE, offset, length, releases) == RANGE_PENDING) {
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

int block_copy_co_rest(BlockCopy *c)
{
    uint64_t at, length;
    int ret = 0;
    while (ret == 0 && !c->abandoned) {
        if (c->claims != NULL) {
            block_copy_co_settle(c);
        } else if (!block_bitmap_find(c->todo, 0, c->size, &at, &length)) {
            return 0;
        } else if (!range_co_wait(c, at, length, MIN(length, c->chunk_max))) {
            ret = range_co_copy(c, COPY_REST, at, MIN(length, c->chunk_max), 0);
        }
    }
    return ret < 0 ? ret : -ECANCELED;
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
                                                           uint64_t length)
{
    length = MIN(length, c->chunk_max);
    if (!copy_reserve(c, length)) {
        if (!range_is_hurried(c, kind)) {
            co_queue_wait(&c->memory_waiters, "memory for a copy");
            return 0;
        }
        c->memory_used += length; /* above the limit, as far as requests are in flight */
    }
    int ret = range_co_copy(c, kind, at, length, 0);
    return MIN(ret, 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int range_co_do(BlockCopy *c, CopyKind kind, uint64_t offset,
                                                     uint64_t bytes)
{
    uint64_t start = block_align_down(offset, c->granularity), at, length;
    uint64_t end = MIN(block_align_up(offset + bytes, c->granularity), c->size);
    int ret = 0;
    while (ret == 0 && !c->abandoned) {
        CopyClaim *k = range_find_claim(c, start, end, range_is_hurried(c, kind));
        if (k != NULL) {
            co_queue_wait(&k->waiters, "a copy of the same range");
        } else if (!block_bitmap_find(c->todo, start, end, &at, &length)) {
            return 0;
        } else {
            ret = range_co_copy_run(c, kind, at, length);
        }
    }
    return ret < 0 ? ret : -ECANCELED;
}

int block_copy_co_range(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    return range_co_do(c, COPY_RANGE, offset, bytes);
}

int block_copy_co_save(BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    return range_co_do(c, COPY_SAVE, offset, bytes);
}
