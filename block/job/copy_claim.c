/* SPDX-License-Identifier: Apache-2.0 */
/* A claim: a range that is being copied by a coroutine of its own. */
#include <errno.h>
#include "block/job/copy_int.h"
#include "block/throttle.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"
#include "util/zero.h"

#define CLAIM_ZERO_BLOCK ((uint64_t)64 << 10) /* in which zeroes are searched for */
#define CLAIM_FAST_NS INT64_C(50000000)
#define CLAIM_SLOW_NS INT64_C(500000000)

/* ---- counts ---- */

void copy_count(BlockCopy *c)
{
    block_node_begin(c->source);
    c->reading++;
    if (c->target != NULL) {
        block_node_begin(c->target);
    }
}

static RUNS_IN_IOTHREAD void claim_end_reading(CopyClaim *k)
{
    BlockCopy *c = k->copy;
    if (k->reading) {
        k->reading = false;
        c->reading--;
        if (c->reading == 0 && c->unthrottled) { /* while the source cannot change */
            c->unthrottled = false;
            throttle_lift_nodes(c->source, false);
        }
        block_node_end(c->source);
        co_queue_wake_all(&c->end_waiters);
        co_queue_wake_all(&k->waiters);
    }
}

/* A job's own requests cross no backend. */
uint64_t copy_requests_of_others(void)
{
    BlkActivity others = blk_activity();
    return others.begun + others.ended;
}

/* What guests use as well is free again. */
static RUNS_IN_IOTHREAD void claim_end_work(CopyClaim *k)
{
    BlockCopy *c = k->copy;
    if (k->working) {
        k->working = false;
        c->working--;
        copy_pace_work_ended(&c->pace, k->start_ns, aio_now_ns(c->home), copy_requests_of_others());
    }
}

void copy_signal(const BlockCopy *c)
{
    if (c->bj != NULL) {
        job_signal(c->bj->job);
    }
}

static RUNS_IN_IOTHREAD void copy_add_progress(const BlockCopy *c, uint64_t bytes)
{
    if (c->bj != NULL) {
        job_progress_add(c->bj->job, bytes);
    }
}

void copy_update_total(const BlockCopy *c)
{
    uint64_t current, total;
    if (c->bj == NULL) {
        return;
    }
    job_progress_get(c->bj->job, &current, &total);
    job_progress_set_total(c->bj->job, current + block_bitmap_dirty_bytes(c->todo) + c->claimed);
}

CopyClaim *copy_find_claim(const BlockCopy *c, uint64_t offset, uint64_t bytes)
{
    for (CopyClaim *k = c->claims; k != NULL; k = k->next) {
        if (k->offset < offset + bytes && offset < k->offset + k->bytes) {
            return k;
        }
    }
    return NULL;
}

/* The claim covers its first @bytes only; the bits of the rest are set again. */
static RUNS_IN_IOTHREAD void claim_shrink(CopyClaim *k, uint64_t bytes)
{
    BlockCopy *c = k->copy;
    if (bytes < k->bytes) {
        block_bitmap_set(c->todo, k->offset + bytes, k->bytes - bytes);
        c->claimed -= k->bytes - bytes;
        k->bytes = bytes;
        co_queue_wake_all(&k->waiters);
        copy_signal(c);
    }
}

/* ---- what is to be done ---- */

typedef enum ClaimWork { CLAIM_NOTHING, CLAIM_ZERO, CLAIM_DATA } ClaimWork;

static ClaimWork claim_work(const BlockCopy *c, const BlockStatus *s)
{
    if (c->target == NULL) {
        bool held = (s->flags & BLOCK_STATUS_ALLOCATED) != 0 && s->depth == 0;
        return held ? CLAIM_NOTHING : CLAIM_DATA;
    }
    return (s->flags & BLOCK_STATUS_ZERO) != 0 ? CLAIM_ZERO : CLAIM_DATA;
}

/* Whole bits, or the end of the claim. */
static uint64_t claim_round(const CopyClaim *k, uint64_t bytes)
{
    if (bytes >= k->bytes || k->kind == COPY_UPDATE) {
        return MIN(bytes, k->bytes);
    }
    return block_align_down(k->offset + bytes, k->copy->granularity) - k->offset;
}

/* Finds out what the source has at the beginning of the claim, and shrinks the claim to that. */
static coroutine_fn RUNS_IN_IOTHREAD ClaimWork claim_co_look(CopyClaim *k)
{
    BlockCopy *c = k->copy;
    BlockStatus s = {.bytes = k->bytes, .flags = BLOCK_STATUS_DATA};
    if (k->kind == COPY_UPDATE && k->bytes < CLAIM_ZERO_BLOCK) {
        return CLAIM_DATA;
    }
    if (block_node_co_block_status(c->source, k->offset, k->bytes, true, &s) < 0 || s.bytes == 0) {
        s = (BlockStatus){.bytes = k->bytes, .flags = BLOCK_STATUS_DATA}; /* the read decides */
    }
    if (c->abandoned) {
        return CLAIM_NOTHING;
    }
    ClaimWork work = claim_work(c, &s);
    uint64_t bytes = claim_round(k, s.bytes);
    if (bytes == 0 || (k->kind == COPY_UPDATE && bytes < k->bytes)) {
        work = CLAIM_DATA; /* of several kinds */
        bytes = k->kind == COPY_UPDATE ? k->bytes : c->granularity;
    }
    if (work == CLAIM_DATA && k->kind != COPY_UPDATE) {
        bytes = MIN(bytes, c->chunk_max);
    }
    claim_shrink(k, bytes);
    return work;
}

static RUNS_IN_IOTHREAD void claim_adapt_zero(CopyClaim *k, ClaimWork work)
{
    BlockCopy *c = k->copy;
    uint64_t last = MAX(c->zero_chunk, c->chunk);
    c->zero_chunk = work != CLAIM_DATA ? MIN(last * 4, COPY_ZERO_CHUNK_MAX) : 0;
}

/* The next claim is larger if this one was fast. */
static RUNS_IN_IOTHREAD void claim_adapt_data(const CopyClaim *k)
{
    BlockCopy *c = k->copy;
    int64_t ns = aio_now_ns(c->home) - k->start_ns;
    if (ns > CLAIM_SLOW_NS) {
        c->chunk = MAX(block_align_down(c->chunk / 2, c->granularity), c->chunk_min);
    } else if (ns < CLAIM_FAST_NS && k->bytes >= c->chunk) {
        c->chunk = MIN(c->chunk * 2, c->chunk_max);
    }
}

/* ---- writing ---- */

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_zero(const BlockCopy *c, uint64_t offset,
                                                       uint64_t bytes)
{
    uint64_t at, length;
    if (c->written != NULL &&
        !block_bitmap_find(c->written, offset, offset + bytes, &at, &length)) {
        return 0; /* the target has zeroes there */
    }
    return block_node_co_write_zeroes(c->target, offset, bytes, c->unmap ? BLOCK_REQ_MAY_UNMAP : 0);
}

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_write(const CopyClaim *k, uint64_t offset,
                                                        uint8_t *data, uint64_t bytes)
{
    BlockCopy *c = k->copy;
    struct iovec iov = {data, bytes};
    if (c->written != NULL) {
        block_bitmap_set(c->written, offset, bytes);
    }
    return block_node_co_pwritev(c->target, offset, bytes, &iov, 1,
                                 c->compress ? BLOCK_REQ_COMPRESSED : 0);
}

/* Blocks of zeroes, or of other data, at the beginning of the buffer. */
static uint64_t claim_run(const BlockCopy *c, uint64_t offset, const uint8_t *data, uint64_t bytes,
                          bool *zero)
{
    uint64_t block = c->compress ? c->granularity : CLAIM_ZERO_BLOCK;
    uint64_t run = 0;
    while (run < bytes) {
        uint64_t length = MIN(block - (offset + run) % block, bytes - run);
        bool all = bytes_are_zero(data + run, length);
        if (run == 0) {
            *zero = all;
        } else if (all != *zero) {
            break;
        }
        run += length;
    }
    return run;
}

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_write_runs(const CopyClaim *k)
{
    const BlockCopy *c = k->copy;
    int ret = 0;
    for (uint64_t done = 0; done < k->bytes && ret == 0;) {
        bool zero = false;
        uint64_t at = k->offset + done;
        uint64_t run = claim_run(c, at, k->data + done, k->bytes - done, &zero);
        if (c->abandoned) {
            return -ECANCELED;
        }
        ret = zero ? claim_co_zero(c, at, run) : claim_co_write(k, at, k->data + done, run);
        done += run;
    }
    return ret;
}

/* ---- the copy ---- */

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_read(const CopyClaim *k)
{
    struct iovec iov = {k->data, k->bytes};
    BlockNode *source = k->copy->source;
    SP("copy.read", k->copy);
    return k->copy->target == NULL
               ? block_node_co_preadv_copying(source, k->offset, k->bytes, &iov, 1)
               : block_node_co_preadv(source, k->offset, k->bytes, &iov, 1);
}

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_copy(CopyClaim *k, bool *is_read)
{
    BlockCopy *c = k->copy;
    if (!copy_get_buffer(k)) {
        return -ENOMEM;
    }
    int ret = claim_co_read(k);
    *is_read = ret < 0;
    if (ret == 0 && c->target != NULL) {
        claim_end_reading(k);
        if (c->remote && !c->abandoned) {
            claim_end_work(k);
            copy_signal(c);
        }
        SP("copy.write", c);
        ret = claim_co_write_runs(k);
    }
    return ret;
}

/* The data step may have abandoned the copy before the answer comes. */
static coroutine_fn RUNS_IN_IOTHREAD int claim_co_answer(const CopyClaim *k)
{
    CopyLook look = *k->look;
    int ret = block_node_co_block_status(k->copy->source, look.offset, look.bytes, look.below,
                                         &look.status);
    if (k->look != NULL) {
        *k->look = look;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int claim_co_run(CopyClaim *k, bool *is_read)
{
    BlockCopy *c = k->copy;
    if (k->kind == COPY_FLUSH) {
        claim_end_reading(k);
        return block_node_co_flush(c->target);
    }
    if (k->kind == COPY_LOOK) {
        return claim_co_answer(k);
    }
    ClaimWork work = claim_co_look(k);
    if (c->abandoned) {
        return -ECANCELED;
    }
    if (k->kind == COPY_BACKGROUND) {
        claim_adapt_zero(k, work);
        uint64_t used = work == CLAIM_DATA ? k->bytes : 0;
        if (k->paid > used) {
            block_job_refund(c->bj, k->paid - used);
        }
    }
    if (work == CLAIM_NOTHING) {
        return 0;
    }
    if (work == CLAIM_ZERO) {
        claim_end_reading(k);
        return claim_co_zero(c, k->offset, k->bytes);
    }
    int ret = claim_co_copy(k, is_read);
    if (ret == 0 && k->kind == COPY_BACKGROUND) {
        claim_adapt_data(k);
    }
    return ret;
}

/* ---- begin and end ---- */

/* The data step has copied @bytes more. */
static RUNS_IN_IOTHREAD void claim_count_ending(BlockCopy *c, uint64_t bytes)
{
    if (c->outpaced == NULL || !copy_is_ending(c)) {
        return;
    }
    if (!c->ending) {
        c->ending = true;
        c->ending_left = block_bitmap_dirty_bytes(c->todo) + c->claimed;
    } else if (c->ending_left > bytes) {
        c->ending_left -= bytes;
    } else {
        c->outpaced(c->outpaced_opaque);
    }
}

static RUNS_IN_IOTHREAD void claim_account(const CopyClaim *k, int ret, bool is_read)
{
    BlockCopy *c = k->copy;
    bool own_error = k->kind != COPY_BACKGROUND && k->kind != COPY_UPDATE; /* of who waits */
    if (ret < 0) {
        block_bitmap_set(c->todo, k->offset, k->bytes);
    }
    if (ret < 0 && k->released) {
        block_copy_break(c, ret);
    }
    if (c->abandoned) {
        return; /* the job can be gone */
    }
    if (ret == 0) {
        if (k->kind == COPY_BACKGROUND) {
            copy_pace_copied(&c->pace, k->bytes);
            claim_count_ending(c, k->bytes);
        }
        copy_add_progress(c, k->bytes);
    } else if (!own_error && c->error == 0) {
        c->error = ret;
        c->error_is_read = is_read;
    }
    copy_update_total(c);
    copy_signal(c);
}

static RUNS_IN_IOTHREAD void claim_end(CopyClaim *k, int ret, bool is_read)
{
    BlockCopy *c = k->copy;
    trace_block_copy_end(c->target != NULL ? c->target->name : c->source->name, k->offset, k->bytes,
                         ret);
    *k->link = k->next;
    if (k->next != NULL) {
        k->next->link = k->link;
    }
    c->claimed -= k->bytes;
    c->background -= k->kind == COPY_BACKGROUND;
    claim_end_work(k);
    SP("copy.claim_end", k);
    claim_account(k, ret, is_read);
    claim_end_reading(k);
    if (c->target_unthrottled && c->claims == NULL) {
        c->target_unthrottled = false;
        throttle_lift_nodes(c->target, false);
    }
    if (c->target != NULL) {
        block_node_end(c->target);
    }
    copy_release_memory(k);
    if (k->result != NULL) {
        *k->result = ret;
    }
    co_queue_wake_all(&k->waiters);
    co_queue_wake_all(&c->end_waiters);
    g_free(k);
    if (c->leaving && c->claims == NULL) {
        job_signal(c->bj->job);
    }
    if (c->orphaned && c->claims == NULL) {
        copy_end_orphan(c);
    }
}

static void claim_work_run(void *opaque)
{
    CopyClaim *k = opaque;
    bool is_read = false;
    enter_coroutine();
    enter_iothread(k->copy->home);
    int ret = k->copy->abandoned ? -ECANCELED : claim_co_run(k, &is_read);
    claim_end(k, ret, is_read);
}

CopyClaim *copy_start(BlockCopy *c, CopyKind kind, uint64_t offset, uint64_t bytes, int *result)
{
    CopyClaim *k = g_new0(CopyClaim, 1);
    *k = (CopyClaim){.copy = c,
                     .kind = kind,
                     .offset = offset,
                     .bytes = bytes,
                     .memory = copy_memory_for(c, bytes),
                     .paid = MIN(bytes, c->chunk_max),
                     .working = kind == COPY_BACKGROUND,
                     .reading = true,
                     .start_ns = aio_now_ns(c->home),
                     .result = result,
                     .next = c->claims,
                     .link = &c->claims};
    if (k->next != NULL) {
        k->next->link = &k->next;
    }
    c->claims = k;
    c->claimed += bytes;
    c->background += kind == COPY_BACKGROUND;
    c->working += kind == COPY_BACKGROUND;
    co_queue_init(&k->waiters);
    block_bitmap_clear(c->todo, offset, kind == COPY_UPDATE ? 0 : bytes);
    SP("copy.claimed", c);
    co_start(c->home, claim_work_run, k);
    return k;
}
