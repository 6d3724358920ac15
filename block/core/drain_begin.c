/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drained sections. Main sends each home context a message and yields; the contexts count requests
 * and reply. Nothing polls.
 *
 *   main: co_drained_begin --message--> home: backend and nodes are quiesced
 *                                         |  a count becomes 0: a bottom half checks all counts
 *   main: continues <---------reply------ all are 0
 *
 * A section of a backend waits for its requests, and for all that is in flight in the nodes below it: what
 * drivers do on their own account, and requests of other backends, such as an export's. It does not wait
 * for nodes that a job uses, and below them: what a job does there is not the guest's, and can hang while
 * the guest's requests do not. An operation on such a node quiesces the node itself.
 *
 * A wait can have a patience: it is given up when so long nothing has ended. The section is in effect
 * all the same, and the caller ends it.
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
    _Atomic unsigned pending; /* entries without a reply yet, and messages to give them up */
    CoToken waiter;
    /* main, with patience */
    struct BlkDrainEntry *entries;
    unsigned count;
    int64_t patience_ns;
    uint64_t in_flight; /* when the timer was armed */
    AioTimer timer;
} BlkDrainGroup;

/* A section that begins: for a backend and the nodes below it, or for nodes alone. */
typedef struct BlkDrainEntry {
    BlockBackend *blk;  /* NULL: nodes alone */
    BlockNode *node;    /* the topmost node */
    GPtrArray *nodes;   /* that the section covers; with references of the coroutine that waits */
    GPtrArray *awaited; /* those of them for which it waits */
    BlkDrainGroup *group;
    AioBh begin; /* the section takes effect */
    AioBh check; /* checks the counts after one became 0 */
    AioBh give_up;
    bool given_up; /* home; main after the reply */
    struct BlkDrainEntry *next;
} BlkDrainEntry;

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
    for (unsigned i = 0; i < e->awaited->len && idle; i++) {
        idle = block_node_in_flight(e->awaited->pdata[i]) == 0;
    }
    for (unsigned i = 0; i < e->nodes->len && idle; i++) {
        const BlockNode *n = e->nodes->pdata[i];
        idle = n->lanes == NULL;
    }
    return idle;
}

void blk_drain_kick(const BlockBackend *blk, const BlockNode *node)
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
        blk_drain_kick(blk, NULL);
    }
}

void block_node_kick_drains(const BlockNode *n)
{
    blk_drain_kick(NULL, n);
}

bool blk_drain_waits(const BlockBackend *blk)
{
    bool waits = false;
    for (const BlkDrainEntry *e = drains_here; e != NULL; e = e->next) {
        waits = waits || e->blk == blk;
    }
    return waits;
}

unsigned blk_in_flight(const BlockBackend *blk)
{
    return atomic_load_explicit(&blk->in_flight, memory_order_relaxed);
}

/* ---- a section begins ---- */

/* The last reply wakes the waiting coroutine, which frees the entries and the group. */
static RUNS_IN_IOTHREAD void drain_count_reply(BlkDrainGroup *group)
{
    CoToken waiter = group->waiter;
    if (atomic_fetch_sub(&group->pending, 1) == 1) {
        co_wake(waiter);
    }
}

/* Nothing is in flight, or the wait is given up. */
static RUNS_IN_IOTHREAD void drain_reply(const BlkDrainEntry *e)
{
    trace_block_drain_done(e->blk != NULL ? e->blk->name : e->node->name);
    SP("block.drain_reply", e->blk);
    drain_count_reply(e->group);
}

/* False: the entry has replied. */
static RUNS_IN_IOTHREAD bool drain_unlink(const BlkDrainEntry *e)
{
    BlkDrainEntry **link = &drains_here;
    while (*link != NULL && *link != e) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return false;
    }
    *link = e->next;
    return true;
}

static void drain_check(void *opaque)
{
    BlkDrainEntry *e = opaque;
    enter_iothread(e->node->home);
    if (drain_is_idle(e) && drain_unlink(e)) { /* else checked again when a count becomes 0 */
        drain_reply(e);
    }
}

/* ---- patience ---- */

static void drain_give_up_at_home(void *opaque)
{
    BlkDrainEntry *e = opaque;
    BlkDrainGroup *group = e->group;
    enter_iothread(e->node->home);
    if (drain_unlink(e)) {
        aio_bh_cancel(&e->check);
        e->given_up = true;
        drain_reply(e);
    }
    drain_count_reply(group); /* this message */
}

/* Requests and operations for which the group waits. */
static RUNS_IN_MAIN uint64_t drain_group_in_flight(const BlkDrainGroup *group)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < group->count; i++) {
        const BlkDrainEntry *e = &group->entries[i];
        sum += e->blk != NULL ? blk_in_flight(e->blk) : 0;
        for (unsigned j = 0; j < e->awaited->len; j++) {
            sum += block_node_in_flight(e->awaited->pdata[j]);
        }
    }
    return sum;
}

static RUNS_IN_MAIN void drain_arm_timer(BlkDrainGroup *group)
{
    group->in_flight = drain_group_in_flight(group);
    aio_timer_arm(&group->timer, aio_now_ns(aio_context_current()) + group->patience_ns);
}

static void drain_impatient(void *opaque)
{
    BlkDrainGroup *group = opaque;
    enter_main();
    if (drain_group_in_flight(group) < group->in_flight) {
        drain_arm_timer(group);
        return;
    }
    unsigned pending = atomic_load(&group->pending);
    do {
        if (pending == 0) {
            return; /* the last reply has come */
        }
    } while (!atomic_compare_exchange_weak(&group->pending, &pending, pending + group->count));
    for (unsigned i = 0; i < group->count; i++) {
        BlkDrainEntry *e = &group->entries[i];
        aio_bh_init(&e->give_up, e->node->home, drain_give_up_at_home, e);
        aio_bh_schedule(&e->give_up); /* behind e->begin */
    }
}

/* Waits for the entries, which have been sent. False: the patience has ended. */
static coroutine_fn RUNS_IN_MAIN bool drain_co_wait(BlkDrainGroup *group, const char *what)
{
    WaitRecord record;
    bool ok = true;
    aio_timer_init(&group->timer, aio_context_current(), drain_impatient, group);
    if (group->patience_ns != INT64_MAX) {
        drain_arm_timer(group);
    }
    wait_begin(&record, NULL, what);
    co_wait(group->waiter);
    wait_end(&record);
    aio_timer_disarm(&group->timer);
    for (unsigned i = 0; i < group->count; i++) {
        ok = ok && !group->entries[i].given_up;
    }
    return ok;
}

/* ---- the section takes effect ---- */

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
    lanes_close(n->lanes);
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

bool co_drained_try_begin(BlockBackend *const *blks, unsigned count, int64_t patience_ns)
{
    if (count == 0) {
        return true;
    }
    held_push(RANK_DRAINED, blks[0], "drained section", true);
    g_autofree BlkDrainEntry *entries = g_new0(BlkDrainEntry, count);
    BlkDrainGroup group = {.pending = count,
                           .waiter = co_arm(),
                           .entries = entries,
                           .count = count,
                           .patience_ns = patience_ns};
    for (unsigned i = 0; i < count; i++) {
        blk_count_section(blks[i]);
        entries[i] = (BlkDrainEntry){.blk = blks[i],
                                     .node = blks[i]->root,
                                     .nodes = block_node_tree(blks[i]->root),
                                     .awaited = block_node_tree_without_jobs(blks[i]->root)};
        drain_send(&entries[i], &group);
    }
    bool ok = drain_co_wait(&group, "drain");
    for (unsigned i = 0; i < count; i++) {
        g_ptr_array_unref(entries[i].awaited);
        drain_co_release_nodes(entries[i].nodes);
    }
    return ok;
}

void co_drained_begin(BlockBackend *const *blks, unsigned count)
{
    co_drained_try_begin(blks, count, INT64_MAX);
}

/* No section ends, so these add to those of block_hold_all(). After its reply, an entry does not use its
 * backend. */
void blk_co_await_held(BlockBackend *const *blks, unsigned count)
{
    if (count == 0) {
        return;
    }
    g_autofree BlkDrainEntry *entries = g_new0(BlkDrainEntry, count);
    g_autoptr(GPtrArray) none = g_ptr_array_new();
    BlkDrainGroup group = {.pending = count,
                           .waiter = co_arm(),
                           .entries = entries,
                           .count = count,
                           .patience_ns = INT64_MAX};
    for (unsigned i = 0; i < count; i++) {
        entries[i] =
            (BlkDrainEntry){.blk = blks[i], .node = blks[i]->root, .nodes = none, .awaited = none};
        block_node_ref(entries[i].node);
        drain_send(&entries[i], &group);
    }
    drain_co_wait(&group, "the last requests of a backend");
    for (unsigned i = 0; i < count; i++) {
        block_co_unref(entries[i].node);
    }
}

/* Takes @nodes, which live in the home of @n. False: the patience has ended. */
static coroutine_fn RUNS_IN_MAIN bool drain_co_quiesce(BlockNode *n, GPtrArray *nodes,
                                                       int64_t patience_ns)
{
    BlkDrainEntry e = {.node = n, .nodes = nodes, .awaited = nodes};
    BlkDrainGroup group = {
        .pending = 1, .waiter = co_arm(), .entries = &e, .count = 1, .patience_ns = patience_ns};
    drain_send(&e, &group);
    return drain_co_wait(&group, "drain of a node");
}

void block_nodes_co_quiesce(GPtrArray *nodes)
{
    drain_co_quiesce(nodes->pdata[0], g_ptr_array_ref(nodes), INT64_MAX);
    drain_co_release_nodes(nodes);
}

/* The node may be closing: it has no reference. */
bool block_node_co_try_quiesce(BlockNode *n, int64_t patience_ns)
{
    GPtrArray *nodes = g_ptr_array_new();
    g_ptr_array_add(nodes, n);
    bool ok = drain_co_quiesce(n, nodes, patience_ns);
    n->refs--;
    g_ptr_array_unref(nodes);
    return ok;
}

void block_node_co_quiesce(BlockNode *n)
{
    block_node_co_try_quiesce(n, INT64_MAX);
}
