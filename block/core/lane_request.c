/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that a lane executes itself, in the lane's loop. */
#include "block/core/backend_int.h"
#include "block/core/lane_state.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

static bool lane_memory_fits(const BlockLimits *l, const struct iovec *iov, unsigned niov)
{
    uint64_t address_mask = l->memory_alignment - 1, length_mask = l->request_alignment - 1;
    if ((address_mask | length_mask) == 0) {
        return true;
    }
    for (unsigned i = 0; i < niov; i++) {
        if (((uintptr_t)iov[i].iov_base & address_mask) != 0 ||
            (iov[i].iov_len & length_mask) != 0) {
            return false;
        }
    }
    return true;
}

/* Whether the leaf can execute the request as it is. */
static RUNS_IN_IOTHREAD bool lane_fits(const BlkLane *lane, const BlkLaneRequest *r)
{
    const BlockLanePlan *p = &lane->all->plan;
    if (r->bytes == 0 || r->offset > p->size || r->bytes > p->size - r->offset ||
        !block_is_aligned(r->offset | r->bytes, BLOCK_SECTOR_SIZE)) {
        return false;
    }
    if (r->is_write && (!p->writable || !blk_write_cache(lane->all->blk))) {
        return false; /* refused there, or followed by a flush */
    }
    return r->bytes <= p->limits.max_transfer && r->niov <= p->limits.max_iov &&
           lane_memory_fits(&p->limits, r->iov, r->niov);
}

bool blk_lane_begin(BlkLane *lane, const BlkLaneRequest *r)
{
    assert_home(lane->ctx);
    if (!lane->taking || !lane_fits(lane, r)) {
        return false;
    }
    lane->in_flight++;
    return true;
}

static RUNS_IN_IOTHREAD void lane_end(BlkLane *lane)
{
    if (lane->in_flight == 0) {
        bug_abort("a lane of '%s' ends a request that it has not begun", lane->all->blk->name);
    }
    if (--lane->in_flight == 0 && lane->leaving) {
        lane->leaving = false;
        aio_bh_schedule(&lane->answer_bh);
    }
}

int blk_lane_co_run(BlkLane *lane, const BlkLaneRequest *r)
{
    const BlockLanePlan *p = &lane->all->plan;
    const char *name = lane->all->blk->name, *op = r->is_write ? "write" : "read";
    assert_home(lane->ctx);
    int64_t start_ns = aio_batch_now_ns(lane->ctx);
    trace_block_request_begin(name, op, r->offset, r->bytes, lane->in_flight);
    SP("block.lane_run", lane);
    int ret = (r->is_write ? p->drv->co_pwritev : p->drv->co_preadv)(
        p->leaf, lane->state, p->offset + r->offset, r->bytes, r->iov, r->niov);
    SP("block.lane_end", lane);
    assert_home(lane->ctx);
    if (ret > 0) {
        bug_abort("backend '%s': a %s in a lane ends with %d", name, op, ret);
    }
    blk_account_end(&lane->account, r->is_write ? BLK_OP_WRITE : BLK_OP_READ, r->offset, r->bytes,
                    start_ns, aio_batch_now_ns(lane->ctx), ret);
    trace_block_request_end(name, op, r->offset, ret);
    lane_end(lane);
    return ret;
}
