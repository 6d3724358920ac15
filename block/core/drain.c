/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drained sections. Main sends each home context a message and yields; the contexts count requests
 * and reply. Nothing polls.
 *
 *   main: co_drained_begin --message--> home: backend and nodes are quiesced
 *                                         |  a count becomes 0: a bottom half checks all counts
 *   main: continues <---------reply------ all are 0
 *
 * Main chooses the nodes of each message, since it alone changes the graph; they exist until it is
 * processed. At any time each node is quiesced as often as main has begun sections of backends above
 * it and of the node itself, apart from messages on their way. Bottom halves and posted calls arrive in
 * order (coroutines do not). A graph change sends for each node that came below a backend, or left it,
 * the number of its sections.
 */
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/trace_events.h"
#include "util/loop/held.h"
#include "util/loop/sched_point.h"
#include "util/loop/waitgraph.h"

typedef struct BlkDrainGroup {
    _Atomic unsigned pending; /* entries without a reply yet */
    CoToken waiter;
} BlkDrainGroup;

/* A section that begins: for a backend and the nodes below it, or for nodes alone. */
typedef struct BlkDrainEntry {
    BlockBackend *blk; /* NULL: nodes alone */
    BlockNode *node;   /* the topmost node */
    GPtrArray *nodes;  /* that the section covers; with references of the coroutine that waits */
    BlkDrainGroup *group;
    AioBh begin; /* the section takes effect */
    AioBh check; /* checks the counts after one became 0 */
    struct BlkDrainEntry *next;
} BlkDrainEntry;

/* A node's own operation that waits for the end of a section. */
typedef struct BlockNodeWait {
    CoToken token;
    struct BlockNodeWait *next;
} BlockNodeWait;

/* Sections that wait for counts to become 0, in the contexts that this thread owns. Only this
 * thread uses the list, so it has no lock. */
static __thread BlkDrainEntry *drains_here;

/* ---- counts ---- */

static bool drain_covers(const BlkDrainEntry *e, const BlockBackend *blk, const BlockNode *node)
{
    return blk != NULL ? e->blk == blk : g_ptr_array_find(e->nodes, node, NULL);
}

static bool drain_is_idle(const BlkDrainEntry *e)
{
    bool idle = e->blk == NULL || blk_in_flight(e->blk) == 0;
    for (unsigned i = 0; i < e->nodes->len && idle; i++) {
        idle = block_node_in_flight(e->nodes->pdata[i]) == 0;
    }
    return idle;
}

/* Called when the count of @blk or @node has become 0. */
static RUNS_IN_IOTHREAD void drain_kick(const BlockBackend *blk, const BlockNode *node)
{
    for (BlkDrainEntry *e = drains_here; e != NULL; e = e->next) {
        if (drain_covers(e, blk, node)) {
            aio_bh_schedule(&e->check);
        }
    }
}

void blk_count_out(BlockBackend *blk)
{
    unsigned n = blk_in_flight(blk);
    if (n == 0) {
        bug_abort("backend '%s': a request ends without being in flight", blk->name);
    }
    atomic_store_explicit(&blk->in_flight, n - 1, memory_order_relaxed);
    if (__builtin_expect(n == 1 && blk->quiesced > 0, 0)) {
        drain_kick(blk, NULL);
    }
}

void block_node_kick_drains(const BlockNode *n)
{
    drain_kick(NULL, n);
}

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

/* ---- a section begins ---- */

/* Nothing is in flight. The last reply wakes the waiting coroutine and frees @e and its group. */
static RUNS_IN_IOTHREAD void drain_reply(BlkDrainEntry *e)
{
    BlkDrainGroup *group = e->group;
    CoToken waiter = group->waiter;
    trace_block_drain_done(e->blk != NULL ? e->blk->name : e->node->name);
    SP("block.drain_reply", e->blk);
    if (atomic_fetch_sub(&group->pending, 1) == 1) {
        co_wake(waiter);
    }
}

static void drain_check(void *opaque)
{
    BlkDrainEntry *e = opaque;
    enter_iothread(e->node->home);
    if (!drain_is_idle(e)) {
        return; /* checked again when a count becomes 0 */
    }
    BlkDrainEntry **link = &drains_here;
    while (*link != e) {
        link = &(*link)->next;
    }
    *link = e->next;
    drain_reply(e);
}

static RUNS_IN_IOTHREAD void drain_quiesce_backend(BlockBackend *blk)
{
    trace_block_drain_begin(blk->name, blk->quiesced, blk_in_flight(blk));
    if (blk->quiesced++ > 0) {
        return;
    }
    if (blk->hurries) {
        blk_lift_nodes(blk, false); /* the section lifts its own nodes, and may change them */
    }
    if (blk->throttle != NULL) {
        throttle_member_suspend(blk->throttle, true);
    }
    if (blk->notify.quiesce != NULL) {
        blk->notify.quiesce(blk->notify.opaque);
    }
}

static RUNS_IN_IOTHREAD void drain_quiesce_node(BlockNode *n)
{
    if (n->quiesced++ > 0) {
        return;
    }
    block_node_lift(n, true);
}

void blk_drain_quiesce(BlockBackend *blk, const GPtrArray *nodes)
{
    if (blk != NULL) {
        drain_quiesce_backend(blk);
    }
    for (unsigned i = 0; i < nodes->len; i++) {
        drain_quiesce_node(nodes->pdata[i]);
    }
}

static void drain_begin_at_home(void *opaque)
{
    BlkDrainEntry *e = opaque;
    enter_iothread(e->node->home);
    blk_drain_quiesce(e->blk, e->nodes);
    if (drain_is_idle(e)) {
        drain_reply(e);
        return;
    }
    aio_bh_init(&e->check, e->node->home, drain_check, e);
    e->next = drains_here;
    drains_here = e;
}

static RUNS_IN_MAIN void drain_send(BlkDrainEntry *e, BlkDrainGroup *group)
{
    e->group = group;
    for (unsigned i = 0; i < e->nodes->len; i++) {
        block_node_ref(e->nodes->pdata[i]); /* a graph change may take them out meanwhile */
    }
    aio_bh_init(&e->begin, e->node->home, drain_begin_at_home, e);
    aio_bh_schedule(&e->begin);
}

static coroutine_fn RUNS_IN_MAIN void drain_co_release_nodes(GPtrArray *nodes)
{
    for (unsigned i = 0; i < nodes->len; i++) {
        block_co_unref(nodes->pdata[i]);
    }
    g_ptr_array_unref(nodes);
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
        blk_count_section(blks[i]);
        entries[i] = (BlkDrainEntry){
            .blk = blks[i], .node = blks[i]->root, .nodes = block_node_tree(blks[i]->root)};
        drain_send(&entries[i], &group);
    }
    co_wait(group.waiter);
    wait_end(&record);
    for (unsigned i = 0; i < count; i++) {
        drain_co_release_nodes(entries[i].nodes);
    }
}

/* Takes @nodes, which live in the home of @n. */
static coroutine_fn RUNS_IN_MAIN void drain_co_quiesce(BlockNode *n, GPtrArray *nodes)
{
    BlkDrainEntry e = {.node = n, .nodes = nodes};
    BlkDrainGroup group = {.pending = 1, .waiter = co_arm()};
    WaitRecord record;
    wait_begin(&record, NULL, "drain of a node");
    drain_send(&e, &group);
    co_wait(group.waiter);
    wait_end(&record);
}

void block_nodes_co_quiesce(GPtrArray *nodes)
{
    drain_co_quiesce(nodes->pdata[0], g_ptr_array_ref(nodes));
    drain_co_release_nodes(nodes);
}

/* The node may be closing: it has no reference. */
void block_node_co_quiesce(BlockNode *n)
{
    GPtrArray *nodes = g_ptr_array_new();
    g_ptr_array_add(nodes, n);
    drain_co_quiesce(n, nodes);
    n->refs--;
    g_ptr_array_unref(nodes);
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
    bool waits = false;
    for (const BlkDrainEntry *e = drains_here; e != NULL; e = e->next) {
        waits = waits || e->blk == blk;
    }
    return !waits && blk->queued == NULL;
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

unsigned blk_in_flight(const BlockBackend *blk)
{
    return atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
}
