/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drained sections: main asks each home context by a message and yields; the contexts count and
 * answer. Nobody polls.
 */
#include "block/core/backend_int.h"
#include "block/trace_events.h"
#include "util/loop/held.h"
#include "util/loop/sched_point.h"
#include "util/loop/waitgraph.h"

typedef struct BlkDrainGroup {
    _Atomic unsigned pending; /* backends that have not answered */
    CoToken waiter;
} BlkDrainGroup;

struct BlkDrainEntry {
    BlockBackend *blk;
    BlkDrainGroup *group;
    AioBh bh;
    BlkDrainEntry *next;
};

/* One backend has nothing in flight. The last answer wakes who waits, and frees @e and its group.
 */
static RUNS_IN_IOTHREAD void drain_answer(BlkDrainEntry *e)
{
    BlkDrainGroup *group = e->group;
    CoToken waiter = group->waiter;
    trace_block_drain_done(e->blk->name);
    SP("block.drain_answer", e->blk);
    if (atomic_fetch_sub(&group->pending, 1) == 1) {
        co_wake(waiter);
    }
}

static void drain_look(void *opaque)
{
    BlockBackend *blk = opaque;
    enter_iothread(blk->home);
    /* Nothing begins while a drain waits: others queue, and a macro, whose parts do not, counts
     * until after the last of them. */
    if (atomic_load_explicit(&blk->in_flight, memory_order_relaxed) != 0) {
        bug_abort("backend '%s': a request began inside a drained section", blk->name);
    }
    BlkDrainEntry *e = blk->drains;
    blk->drains = NULL;
    while (e != NULL) {
        BlkDrainEntry *next = e->next; /* before the answer, after which @e may be gone */
        drain_answer(e);
        e = next;
    }
}

void blk_count_out(BlockBackend *blk)
{
    unsigned n = atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
    if (n == 0) {
        bug_abort("backend '%s': a request ends that was not in flight", blk->name);
    }
    atomic_store_explicit(&blk->in_flight, n - 1, memory_order_relaxed);
    if (n == 1 && blk->drains != NULL) {
        aio_bh_schedule(&blk->drain_bh);
    }
}

void blk_drain_init(BlockBackend *blk)
{
    blk->queued_tail = &blk->queued;
    aio_bh_init(&blk->drain_bh, blk->home, drain_look, blk);
}

static void drain_begin_at_home(void *opaque)
{
    BlkDrainEntry *e = opaque;
    BlockBackend *blk = e->blk;
    enter_iothread(blk->home);
    unsigned in_flight = atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
    trace_block_drain_begin(blk->name, blk->quiesced, in_flight);
    if (blk->quiesced++ == 0 && blk->notify.quiesce != NULL) {
        blk->notify.quiesce(blk->notify.opaque);
    }
    if (atomic_load_explicit(&blk->in_flight, memory_order_relaxed) == 0) {
        drain_answer(e);
        return;
    }
    e->next = blk->drains;
    blk->drains = e;
}

void co_drained_begin(BlockBackend *const *blks, unsigned count)
{
    if (count == 0) {
        return;
    }
    held_push(RANK_DRAINED, blks[0], "drained section", true);
    g_autofree BlkDrainEntry *entries = g_new0(BlkDrainEntry, count);
    BlkDrainGroup group = {.pending = count, .waiter = co_arm()};
    WaitRecord record;
    wait_begin(&record, NULL, "drain");
    for (unsigned i = 0; i < count; i++) {
        blks[i]->sections++;
        entries[i].blk = blks[i];
        entries[i].group = &group;
        aio_bh_init(&entries[i].bh, blks[i]->home, drain_begin_at_home, &entries[i]);
        aio_bh_schedule(&entries[i].bh);
    }
    co_wait(group.waiter);
    wait_end(&record);
}

/* Queued requests go on, in the order they came; each is counted here, before it runs, so that the
 * next drain waits for it. */
static RUNS_IN_IOTHREAD void drain_resume_queued(BlockBackend *blk)
{
    BlkRequest *r = blk->queued;
    blk->queued = NULL;
    blk->queued_tail = &blk->queued;
    while (r != NULL) {
        BlkRequest *next = r->next;
        blk_count_in(blk);
        co_wake(r->token);
        r = next;
    }
}

static void drain_end_at_home(void *opaque)
{
    BlockBackend *blk = opaque;
    enter_iothread(blk->home);
    if (blk->quiesced == 0) {
        bug_abort("backend '%s': a drained section ends that was not begun", blk->name);
    }
    blk->quiesced--;
    trace_block_drain_end(blk->name, blk->quiesced);
    if (blk->quiesced > 0) {
        return;
    }
    drain_resume_queued(blk);
    if (blk->notify.resume != NULL) {
        blk->notify.resume(blk->notify.opaque);
    }
}

void co_drained_end(BlockBackend *const *blks, unsigned count)
{
    if (count == 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (blks[i]->sections == 0) {
            bug_abort("backend '%s': a drained section ends that was not begun", blks[i]->name);
        }
        blks[i]->sections--;
        /* What main posts arrives in order: a section that begins next finds these requests
         * resumed. */
        aio_post(blks[i]->home, drain_end_at_home, blks[i]);
    }
    held_pop(RANK_DRAINED, blks[0]);
}

unsigned blk_in_flight(const BlockBackend *blk)
{
    return atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
}
