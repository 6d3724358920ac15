/* SPDX-License-Identifier: Apache-2.0 */
/* Lanes of a backend: their gates, seen from the home and from the lanes. block/lane.h has states and
 * invariants; lane_request.c has the requests. */
#include "block/core/lane_int.h"

#include <assert.h>
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/lane_state.h"
#include "block/trace_events.h"
#include "util/loop/sched_point.h"

/* The function that makes each move. */
static const char *const gate_moves[GATES][GATES] = {
    [GATE_CLOSED] = {[GATE_OPEN] = "lanes_update"},
    [GATE_OPEN] = {[GATE_CLOSING] = "lanes_close"},
    [GATE_CLOSING] = {[GATE_CLOSED] = "lane_answered"},
};

/* The lanes of the backends that live in this thread. Only this thread uses the list, so it has no
 * lock. */
static __thread BlkLanes *lanes_here;

static RUNS_IN_IOTHREAD void assert_lanes_state(const BlkLanes *all)
{
    assert_home(all->blk->home);
    assert(all->unanswered == 0 || all->gate == GATE_CLOSING);
    assert(all->gate == GATE_CLOSED || all->nodes->len > 0);
    for (unsigned i = 0; i < all->nodes->len; i++) {
        const BlockNode *n = all->nodes->pdata[i];
        assert(n->lanes == all && (n->quiesced == 0 || all->gate == GATE_CLOSING));
    }
}

static RUNS_IN_IOTHREAD void gate_move_by(BlkLanes *all, LaneGate to, const char *by)
{
    const char *maker = gate_moves[all->gate][to];
    trace_block_lane_gate(all->blk->name, all->gate, to);
    if (maker == NULL || strcmp(maker, by) != 0) {
        bug_abort("%s() moves the gates of '%s' from %d to %d", by, all->blk->name, all->gate, to);
    }
    all->gate = to;
}
#define gate_move(all, to) gate_move_by(all, to, __func__)

/* ---- whether lanes may pass the nodes ---- */

/* Nobody has to see the requests of @n: no bitmap, no tracking, no section. */
static RUNS_IN_IOTHREAD bool lanes_may_pass(const BlockNode *n)
{
    return n->drv->lane != NULL && n->quiesced == 0 && n->lanes == NULL && n->bitmaps == NULL &&
           n->track.users == 0 && !n->copy_on_read && !n->keeps_reads;
}

/* Whether the home has to see each request of the backend. */
static bool lanes_blk_needs_requests(const BlockBackend *blk)
{
    bool needs = blk->quiesced > 0 || blk->throttle != NULL;
    for (unsigned op = 0; op < BLK_OP_COUNT; op++) {
        needs = needs || atomic_load(&blk->account.histograms[op]) != NULL;
    }
    return needs;
}

static void plan_add_limits(BlockLimits *to, const BlockLimits *limits)
{
    to->request_alignment = MAX(to->request_alignment, limits->request_alignment);
    to->memory_alignment = MAX(to->memory_alignment, limits->memory_alignment);
    to->max_transfer = MIN(to->max_transfer, limits->max_transfer);
    to->max_iov = MIN(to->max_iov, limits->max_iov);
}

/* Makes the plan and its list of nodes. A request of whole sectors must be aligned in each node: an
 * unaligned one would be a read, a change and a write, which waits for others. */
static RUNS_IN_IOTHREAD bool lanes_plan(BlkLanes *all)
{
    BlockLanePlan *p = &all->plan;
    if (lanes_blk_needs_requests(all->blk)) {
        return false;
    }
    BlockNode *n = all->blk->root, *next; /* main changes it in a section only */
    *p = (BlockLanePlan){
        .size = block_node_size(n), .writable = all->blk->writable, .limits = n->limits};
    for (; n != NULL; n = next) {
        uint64_t size = block_node_size(n);
        if (!lanes_may_pass(n) || n->limits.request_alignment > BLOCK_SECTOR_SIZE ||
            !block_is_aligned(p->offset, BLOCK_SECTOR_SIZE) || p->offset > size ||
            p->size > size - p->offset) {
            return false;
        }
        plan_add_limits(&p->limits, &n->limits);
        g_ptr_array_add(all->nodes, n);
        p->leaf = n;
        p->drv = n->drv->lane;
        next = p->drv->pass(n, p);
    }
    return true;
}

/* ---- the home's side ---- */

static RUNS_IN_IOTHREAD void lanes_send(BlkLanes *all, bool open)
{
    uint32_t number = (atomic_load(&all->command) >> 1) + 1;
    atomic_store(&all->command, number << 1 | open);
    for (unsigned i = 0; i < all->count; i++) {
        aio_bh_schedule(&all->lanes[i].command_bh);
    }
}

static void lanes_update(void *opaque)
{
    BlkLanes *all = opaque;
    enter_iothread(all->blk->home);
    if (all->gate != GATE_CLOSED || all->shutting > 0) {
        return;
    }
    if (!lanes_plan(all)) {
        g_ptr_array_set_size(all->nodes, 0);
        return;
    }
    for (unsigned i = 0; i < all->nodes->len; i++) {
        BlockNode *n = all->nodes->pdata[i];
        n->lanes = all;
    }
    gate_move(all, GATE_OPEN);
    lanes_send(all, true);
    assert_lanes_state(all);
}

void lanes_close(BlkLanes *all)
{
    if (all == NULL || all->gate != GATE_OPEN) {
        return;
    }
    gate_move(all, GATE_CLOSING);
    all->unanswered = all->count;
    lanes_send(all, false);
    SP("block.lane_close", all->blk);
}

static void lane_answered(void *opaque)
{
    BlkLane *lane = opaque;
    BlkLanes *all = lane->all;
    enter_iothread(all->blk->home);
    if (all->gate != GATE_CLOSING || all->unanswered == 0) {
        bug_abort("a lane of '%s' answers twice", all->blk->name);
    }
    if (--all->unanswered > 0) {
        return;
    }
    gate_move(all, GATE_CLOSED);
    for (unsigned i = 0; i < all->nodes->len; i++) {
        BlockNode *n = all->nodes->pdata[i];
        n->lanes = NULL;
        blk_drain_kick(NULL, n);
    }
    g_ptr_array_set_size(all->nodes, 0);
    co_queue_wake_all(&all->closed);
    block_lanes_recheck();
    assert_lanes_state(all);
}

static coroutine_fn RUNS_IN_IOTHREAD void lanes_co_shut(BlkLanes *all)
{
    all->shutting++;
    while (all->gate != GATE_CLOSED) {
        lanes_close(all);
        co_queue_wait(&all->closed, "the requests of other iothreads");
    }
    all->shutting--;
    block_lanes_recheck(); /* after the caller's change */
}

void block_node_co_shut_lanes(BlockNode *n)
{
    assert_home(n->home);
    while (n->lanes != NULL) { /* another backend's may have opened meanwhile */
        lanes_co_shut(n->lanes);
    }
}

void blk_co_shut_lanes(BlockBackend *blk)
{
    assert_home(blk->home);
    if (blk->lanes != NULL) {
        lanes_co_shut(blk->lanes);
    }
}

void block_node_assert_no_lanes(const BlockNode *n, const char *what)
{
    if (n->lanes != NULL) {
        bug_abort("node '%s': %s while other iothreads use it", n->name, what);
    }
}

void block_lanes_recheck(void)
{
    for (BlkLanes *all = lanes_here; all != NULL; all = all->next) {
        aio_bh_schedule(&all->update_bh);
    }
}

void lanes_retire(BlkLanes *all)
{
    BlkLanes **link = &lanes_here;
    if (all->gate != GATE_CLOSED || all->shutting > 0) {
        bug_abort("backend '%s' is freed while its lanes are in use", all->blk->name);
    }
    while (*link != all) {
        link = &(*link)->next;
    }
    *link = all->next;
    aio_bh_cancel(&all->update_bh);
}

/* ---- the lane's side ---- */

/* An engine fits one driver, and is kept over sections. */
static RUNS_IN_IOTHREAD bool lane_enter(BlkLane *lane)
{
    const BlockLanePlan *p = &lane->all->plan;
    if (lane->state != NULL && lane->drv != p->drv) {
        lane->drv->leave(g_steal_pointer(&lane->state));
    }
    lane->drv = p->drv;
    return p->drv->enter(p->leaf, lane->ctx, &lane->state);
}

static void lane_command(void *opaque)
{
    BlkLane *lane = opaque;
    enter_iothread(lane->ctx);
    SP("block.lane_command", lane);
    uint32_t command = atomic_load(&lane->all->command);
    if (command >> 1 == lane->executed) {
        return; /* by an earlier call, which found it already */
    }
    lane->executed = command >> 1;
    if ((command & 1) != 0) {
        lane->taking = lane_enter(lane);
        return;
    }
    lane->taking = false;
    if (lane->in_flight > 0) {
        lane->leaving = true;
    } else {
        aio_bh_schedule(&lane->answered_bh);
    }
}

static void lane_answer(void *opaque)
{
    BlkLane *lane = opaque;
    enter_iothread(lane->ctx);
    assert(!lane->taking && lane->in_flight == 0);
    SP("block.lane_answer", lane);
    aio_bh_schedule(&lane->answered_bh);
}

/* ---- life cycle ---- */

static void lanes_add_at_home(void *opaque)
{
    BlkLanes *all = opaque;
    enter_coroutine();
    enter_iothread(all->blk->home);
    all->blk->lanes = all;
    all->next = lanes_here;
    lanes_here = all;
    aio_bh_schedule(&all->update_bh);
}

void blk_co_add_lanes(BlockBackend *blk, AioContext *const *loops, unsigned count)
{
    BlkLanes *all = g_new0(BlkLanes, 1);
    all->blk = blk;
    all->count = count;
    all->lanes = g_new0(BlkLane, count);
    all->nodes = g_ptr_array_new();
    co_queue_init(&all->closed);
    aio_bh_init(&all->update_bh, blk->home, lanes_update, all);
    for (unsigned i = 0; i < count; i++) {
        BlkLane *lane = &all->lanes[i];
        assert(loops[i] != blk->home);
        lane->all = all;
        lane->ctx = loops[i];
        aio_bh_init(&lane->command_bh, lane->ctx, lane_command, lane);
        aio_bh_init(&lane->answer_bh, lane->ctx, lane_answer, lane);
        aio_bh_init(&lane->answered_bh, blk->home, lane_answered, lane);
    }
    blk->own_lanes = all;
    co_call_in(blk->home, lanes_add_at_home, all);
}

BlkLane *blk_lane(const BlockBackend *blk, unsigned i)
{
    return blk->own_lanes != NULL && i < blk->own_lanes->count ? &blk->own_lanes->lanes[i] : NULL;
}

const BlkAccount *lanes_account(const BlkLanes *all, unsigned i)
{
    return all != NULL && i < all->count ? &all->lanes[i].account : NULL;
}

static void lane_retire(void *opaque)
{
    BlkLane *lane = opaque;
    enter_coroutine();
    enter_iothread(lane->ctx);
    aio_bh_cancel(&lane->command_bh); /* of a command that an earlier call has executed */
    if (lane->state != NULL) {
        lane->drv->leave(lane->state);
    }
}

void lanes_co_free(BlkLanes *all)
{
    if (all == NULL) {
        return;
    }
    for (unsigned i = 0; i < all->count; i++) {
        co_call_in(all->lanes[i].ctx, lane_retire, &all->lanes[i]);
    }
    g_ptr_array_unref(all->nodes);
    g_free(all->lanes);
    g_free(all);
}
