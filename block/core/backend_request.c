/* SPDX-License-Identifier: Apache-2.0 */
/* The border that every request to a backend crosses. */
#include <assert.h>
#include <errno.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

/* Of the iothread that this thread is. */
static __thread BlkActivity activity_here;

BlkActivity blk_activity(void)
{
    return activity_here;
}

/* ---- begin and end of a request ---- */

static coroutine_fn RUNS_IN_IOTHREAD int blk_co_queue(BlockBackend *blk, BlkRequest *r)
{
    if (blk->hurries && !r->unlimited) {
        return BLK_NOT_STARTED;
    }
    trace_block_request_queue(blk->name, r->op);
    WaitRecord record;
    r->wait = &record;
    r->token = co_arm();
    r->next = NULL;
    *blk->queued_tail = r;
    blk->queued_tail = &r->next;
    wait_begin_at(&record, &blk->drainer, "the end of a drained section");
    co_wait(r->token);
    wait_end(&record);
    return r->result;
}

static RUNS_IN_IOTHREAD bool blk_in_own_macro(const BlockBackend *blk)
{
    for (const BlkMacro *m = blk->macros; m != NULL; m = m->next) {
        if (m->owner == co_self()) {
            return true;
        }
    }
    return false;
}

/* Counts the request, or queues it until the section ends, which counts it. 0, or BLK_NOT_STARTED
 * and the request is not counted. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_co_admit(BlockBackend *blk, BlkRequest *r)
{
    assert_home(blk->home);
    r->owner = co_self();
    if (__builtin_expect(blk->quiesced > 0, 0) && !blk_in_own_macro(blk)) {
        return blk_co_queue(blk, r);
    }
    blk_count_in(blk);
    return 0;
}

/* Waits until the limits of the backend allow a read or write. A part of a macro operation, which is
 * in flight already, is charged only. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_co_throttle(BlockBackend *blk, BlkRequest *r)
{
    bool is_write = r->account == BLK_OP_WRITE;
    if (r->bytes == 0 || (!is_write && r->account != BLK_OP_READ)) {
        return 0;
    }
    if (blk_in_own_macro(blk)) {
        throttle_member_charge(blk->throttle, is_write, r->bytes);
        return 0;
    }
    r->start_ns = aio_batch_now_ns(blk->home); /* the wait counts as time of the request */
    trace_block_request_throttle(blk->name, r->op, r->offset, r->bytes);
    return throttle_member_co_wait(blk->throttle, is_write, r->bytes);
}

/* 0, or BLK_NOT_STARTED, and then the request must not be ended. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_request_co_begin(BlockBackend *blk, BlkRequest *r)
{
    int ret = __builtin_expect(blk->throttle != NULL, 0) ? blk_co_throttle(blk, r) : 0;
    if (ret == 0) {
        ret = blk_co_admit(blk, r);
    }
    if (ret < 0) {
        return ret;
    }
    r->next = blk->requests;
    r->link = &blk->requests;
    if (r->next != NULL) {
        r->next->link = &r->next;
    }
    blk->requests = r;
    activity_here.begun++;
    if (r->start_ns == 0) {
        r->start_ns = aio_batch_now_ns(blk->home);
    }
    trace_block_request_begin(blk->name, r->op, r->offset, r->bytes, blk_in_flight(blk));
    return 0;
}

static RUNS_IN_IOTHREAD int blk_request_end(BlockBackend *blk, BlkRequest *r, int ret)
{
    SP("block.request_end", blk);
    assert_home(blk->home);
    if (r->owner != co_self() || r->link == NULL || ret > 0) {
        bug_abort("backend '%s': a %s ends a second time, elsewhere, or with %d", blk->name, r->op,
                  ret);
    }
    *r->link = r->next;
    if (r->next != NULL) {
        r->next->link = r->link;
    }
    r->link = NULL;
    activity_here.ended++;
    if (r->account != BLK_OP_COUNT) {
        blk_account_end(&blk->account, r->account, r->offset, r->bytes, r->start_ns,
                        aio_batch_now_ns(blk->home), ret);
    }
    trace_block_request_end(blk->name, r->op, r->offset, ret);
    blk_count_out(blk);
    return ret;
}

void blk_co_macro_begin(BlockBackend *blk, BlkMacro *macro)
{
    BlkRequest r = {.op = "macro", .unlimited = true};
    blk_co_admit(blk, &r);
    *macro = (BlkMacro){.owner = co_self(), .next = blk->macros, .link = &blk->macros};
    if (macro->next != NULL) {
        macro->next->link = &macro->next;
    }
    blk->macros = macro;
}

void blk_macro_end(BlockBackend *blk, BlkMacro *macro)
{
    assert_home(blk->home);
    if (macro->owner != co_self() || macro->link == NULL) {
        bug_abort("backend '%s': a macro operation ends that is not its coroutine's", blk->name);
    }
    *macro->link = macro->next;
    if (macro->next != NULL) {
        macro->next->link = macro->link;
    }
    macro->link = NULL;
    blk_count_out(blk);
}

/* ---- requests ---- */

/* Returns 0, or the error of an invalid request. Called while the request is in flight, since a drained
 * section may have changed the size. */
static int blk_check(const BlockBackend *blk, uint64_t offset, uint64_t bytes, bool changes)
{
    uint64_t size = block_align_up(block_node_size(blk->root), BLOCK_SECTOR_SIZE);
    if (offset > size || bytes > size - offset) {
        return -EINVAL;
    }
    return changes && !blk->writable ? -EPERM : 0;
}

/* A flag that the operation does not support is the caller's bug. */
static void blk_check_flags(const BlockBackend *blk, const BlkRequest *r, unsigned honoured,
                            unsigned flags)
{
    if ((flags & ~honoured) != 0) {
        bug_abort("backend '%s': a %s honours flags %#x, not %#x", blk->name, r->op, honoured,
                  flags);
    }
}

static unsigned blk_write_flags(const BlockBackend *blk, unsigned flags)
{
    return blk_write_cache(blk) ? flags : flags | BLOCK_REQ_FUA;
}

int blk_co_preadv(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                  unsigned niov, unsigned flags)
{
    assert(iov_size(iov, niov) == bytes);
    BlkRequest r = {.op = "read", .account = BLK_OP_READ, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, 0, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, false);
    if (ret == 0) {
        ret = block_node_co_preadv(blk->root, offset, bytes, iov, niov);
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_pwritev(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                   unsigned niov, unsigned flags)
{
    assert(iov_size(iov, niov) == bytes);
    BlkRequest r = {.op = "write", .account = BLK_OP_WRITE, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, BLOCK_REQ_FUA | BLOCK_REQ_COMPRESSED, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret =
            block_node_co_pwritev(blk->root, offset, bytes, iov, niov, blk_write_flags(blk, flags));
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_flush(BlockBackend *blk)
{
    BlkRequest r = {.op = "flush", .account = BLK_OP_FLUSH};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk->writable ? block_node_co_flush(blk->root) : 0;
    return blk_request_end(blk, &r, ret);
}

int blk_co_discard(BlockBackend *blk, uint64_t offset, uint64_t bytes)
{
    BlkRequest r = {.op = "discard", .account = BLK_OP_UNMAP, .offset = offset, .bytes = bytes};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret = block_node_co_discard(blk->root, offset, bytes);
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_write_zeroes(BlockBackend *blk, uint64_t offset, uint64_t bytes, unsigned flags)
{
    BlkRequest r = {
        .op = "write-zeroes", .account = BLK_OP_WRITE, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, BLOCK_REQ_FUA | BLOCK_REQ_MAY_UNMAP | BLOCK_REQ_NO_FALLBACK, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret = block_node_co_write_zeroes(blk->root, offset, bytes, blk_write_flags(blk, flags));
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_block_status(BlockBackend *blk, uint64_t offset, uint64_t bytes, bool precise,
                        BlockStatus *status)
{
    BlkRequest r = {
        .op = "block-status", .account = BLK_OP_COUNT, .offset = offset, .bytes = bytes};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, false);
    if (ret == 0) {
        ret = block_node_co_block_status(blk->root, offset, bytes, precise, status);
    }
    return blk_request_end(blk, &r, ret);
}

/* ---- resizing ---- */
