/* SPDX-License-Identifier: Apache-2.0 */
/* Drained sections: what waits in them, and their end. drain_begin.c has their begin. */
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/trace_events.h"
#include "util/loop/held.h"
#include "util/loop/sched_point.h"

/* A node's own operation that waits for the end of a section. */
typedef struct BlockNodeWait {
    CoToken token;
    struct BlockNodeWait *next;
} BlockNodeWait;

/* ---- operations wait ---- */

void block_node_co_begin(BlockNode *n)
{
    assert_home(n->home);
    if (n->quiesced == 0) {
        block_node_begin(n);
        return;
    }
    BlockNodeWait w = {.token = co_arm()};
    *n->waiting_tail = &w;
    n->waiting_tail = &w.next;
    co_wait(w.token); /* counted before the wake */
}

void block_node_drain_init(BlockNode *n)
{
    n->waiting_tail = &n->waiting;
}

/* ---- a section ends ---- */

static RUNS_IN_IOTHREAD void drain_resume_node(BlockNode *n)
{
    if (n->quiesced == 0) {
        bug_abort("node '%s': a drained section ends without a begin", n->name);
    }
    if (--n->quiesced > 0) {
        return;
    }
    block_lanes_recheck();
    block_node_lift(n, false);
    BlockNodeWait *w = n->waiting;
    n->waiting = NULL;
    n->waiting_tail = &n->waiting;
    while (w != NULL) {
        BlockNodeWait *next = w->next;
        block_node_begin(n);
        co_wake(w->token);
        w = next;
    }
}

static RUNS_IN_IOTHREAD void drain_resume_nodes(const GPtrArray *nodes)
{
    for (unsigned i = 0; i < nodes->len; i++) {
        drain_resume_node(nodes->pdata[i]);
    }
}

static void drain_release_at_home(void *opaque)
{
    const GPtrArray *nodes = opaque;
    const BlockNode *first = nodes->pdata[0];
    enter_coroutine();
    enter_iothread(first->home);
    drain_resume_nodes(nodes);
}

void block_nodes_co_release(GPtrArray *nodes)
{
    const BlockNode *first = nodes->pdata[0];
    co_call_in(first->home, drain_release_at_home, nodes);
}

static void drain_release_one_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    drain_resume_node(n);
}

void block_node_co_release(BlockNode *n)
{
    co_call_in(n->home, drain_release_one_at_home, n);
}

static void drain_release_posted(void *opaque)
{
    BlockNode *n = opaque;
    enter_iothread(n->home);
    drain_resume_node(n);
}

void block_node_release(BlockNode *n)
{
    aio_post(n->home, drain_release_posted, n);
}

typedef struct DrainMove {
    BlockNode *node;
    unsigned sections;
    bool begin;
} DrainMove;

static void drain_move_at_home(void *opaque)
{
    g_autofree DrainMove *m = opaque;
    BlockNode *n = m->node;
    enter_iothread(n->home);
    if (n->quiesced == 0) {
        bug_abort("node '%s': a graph change finds it in use", n->name);
    }
    if (m->begin) {
        n->quiesced += m->sections;
    }
    for (; !m->begin && m->sections > 0; m->sections--) {
        drain_resume_node(n);
    }
}

void block_node_move_sections(BlockNode *n, unsigned sections, bool begin)
{
    DrainMove *m = g_new(DrainMove, 1);
    *m = (DrainMove){.node = n, .sections = sections, .begin = begin};
    aio_post(n->home, drain_move_at_home, m);
}

bool blk_drain_retire(BlockBackend *blk, const GPtrArray *nodes)
{
    drain_resume_nodes(nodes);
    return !blk_drain_waits(blk) && blk->queued == NULL;
}

/* Resumes queued requests in the order of arrival. Each is counted here, before it runs, so that
 * the next drain waits for it. */
static RUNS_IN_IOTHREAD void drain_resume_queued(BlockBackend *blk)
{
    BlkRequest *r = blk->queued;
    blk->queued = NULL;
    blk->queued_tail = &blk->queued;
    while (r != NULL) {
        BlkRequest *next = r->next;
        blk_count_in(blk);
        wait_set_holder(r->wait, NULL);
        co_wake(r->token);
        r = next;
    }
}

void blk_return_queued(BlockBackend *blk)
{
    BlkRequest *r = blk->queued, *kept = NULL, **tail = &kept;
    while (r != NULL) {
        BlkRequest *next = r->next;
        if (r->unlimited) {
            *tail = r;
            tail = &r->next;
        } else {
            r->result = BLK_NOT_STARTED;
            co_wake(r->token);
        }
        r = next;
    }
    *tail = NULL;
    blk->queued = kept;
    blk->queued_tail = kept != NULL ? tail : &blk->queued;
}

typedef struct DrainEnd {
    BlockBackend *blk;
    GPtrArray *nodes;
} DrainEnd;

static RUNS_IN_IOTHREAD void drain_end(BlockBackend *blk, const GPtrArray *nodes)
{
    if (blk->quiesced == 0) {
        bug_abort("backend '%s': a drained section ends without a begin", blk->name);
    }
    drain_resume_nodes(nodes);
    blk->quiesced--;
    trace_block_drain_end(blk->name, blk->quiesced);
    if (blk->quiesced > 0) {
        return;
    }
    block_lanes_recheck();
    drain_resume_queued(blk);
    if (blk->hurries) {
        blk_lift_nodes(blk, true);
    }
    if (blk->throttle != NULL) {
        throttle_member_suspend(blk->throttle, false);
    }
    if (blk->notify.resume != NULL) {
        blk->notify.resume(blk->notify.opaque);
    }
}

static void drain_end_at_home(void *opaque)
{
    DrainEnd *end = opaque;
    enter_iothread(end->blk->home);
    drain_end(end->blk, end->nodes);
    g_ptr_array_unref(end->nodes);
    g_free(end);
}

/* Messages from main arrive in order: when the next section begins, these requests are resumed. */
static RUNS_IN_MAIN void drain_send_end(BlockBackend *blk)
{
    DrainEnd *end = g_new(DrainEnd, 1);
    *end = (DrainEnd){.blk = blk, .nodes = block_node_tree(blk->root)};
    aio_post(blk->home, drain_end_at_home, end);
}

void co_drained_end(BlockBackend *const *blks, unsigned count)
{
    if (count == 0) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        if (blks[i]->sections == 0) {
            bug_abort("backend '%s': a drained section ends without a begin", blks[i]->name);
        }
        blks[i]->sections--;
        blk_note_size(blks[i]);
        if (atomic_load(&blks[i]->drainer) == co_self()) { /* no wait ends by it any more */
            atomic_store(&blks[i]->drainer, NULL);
        }
        drain_send_end(blks[i]);
    }
    held_pop(RANK_DRAINED, blks[0]);
}
