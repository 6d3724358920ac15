/* SPDX-License-Identifier: Apache-2.0 */
/* Mirror: the end, in main under the operation lock. */
#include <errno.h>
#include "block/job/mirror_int.h"
#include "util/loop/sched_point.h"

/* How long the target may take for what is in flight there before the drained section, and, with guests'
 * requests held back, for what came since. */
#define MIRROR_REST_NS INT64_C(5000000000)

/* How long one try of prepare copies beside guests' requests before it ends, and another one goes on later. */
#define MIRROR_CATCH_UP_NS INT64_C(1000000000)

/* ---- what is left ---- */

/* A wait for the target with a limit. */
typedef struct MirrorWait {
    MirrorJob *m;
    AioTimer timer;
    int ret;
} MirrorWait;

static void mirror_wait_timeout(void *opaque)
{
    const MirrorWait *w = opaque;
    block_copy_abandon(w->m->copy);
}

static RUNS_IN_IOTHREAD void mirror_wait_begin(MirrorWait *w)
{
    AioContext *home = w->m->source->home;
    aio_timer_init(&w->timer, home, mirror_wait_timeout, w);
    aio_timer_arm(&w->timer, aio_now_ns(home) + MIRROR_REST_NS);
}

static RUNS_IN_IOTHREAD void mirror_wait_end(MirrorWait *w)
{
    if (w->timer.heap_index == 0 && w->ret == -ECANCELED) {
        w->ret = -ETIMEDOUT;
    }
    aio_timer_disarm(&w->timer);
}

/* Before the section, with an active filter: copies what guests' requests have only marked, since a section
 * began or a try failed then. */
static void mirror_catch_up_at_home(void *opaque)
{
    MirrorWait *w = opaque;
    BlockCopy *copy = w->m->copy;
    enter_coroutine();
    enter_iothread(w->m->source->home);
    w->ret = block_copy_error(copy); /* of an update since */
    if (w->ret == 0) {
        w->ret = block_copy_co_catch_up(copy, MIRROR_CATCH_UP_NS);
    }
}

/* From now on the filter only marks. Waits for what is in flight at the target, so that a drained
 * section of the target begins at once. */
static void mirror_settle_at_home(void *opaque)
{
    MirrorWait *w = opaque;
    enter_coroutine();
    enter_iothread(w->m->source->home);
    mirror_filter_set_active(w->m->filter, false);
    mirror_wait_begin(w);
    w->ret = block_copy_co_settle(w->m->copy);
    mirror_wait_end(w);
    SP("mirror.settled", w->m);
}

/* In the drained section: copies what came since mirror_settle_at_home(). */
static void mirror_rest_at_home(void *opaque)
{
    MirrorWait *w = opaque;
    BlockCopy *copy = w->m->copy;
    enter_coroutine();
    enter_iothread(w->m->source->home);
    mirror_wait_begin(w);
    w->ret = block_copy_error(copy); /* of an update since */
    if (w->ret == 0) {
        w->ret = block_copy_co_range(copy, 0, block_node_size(w->m->source));
    }
    if (w->ret == 0) {
        w->ret = block_copy_co_flush(copy, true);
    }
    mirror_wait_end(w);
    if (w->ret == 0) {
        SP("mirror.rest_copied", w->m);
    }
}

/* In the drained section: the target has all that the source holds. */
static void mirror_empty_at_home(void *opaque)
{
    MirrorWait *w = opaque;
    enter_coroutine();
    enter_iothread(w->m->source->home);
    w->ret = block_node_co_make_empty(w->m->source);
}

/* ---- prepare ---- */

/* The job's use of the target ends with the pivot: the guest writes to it then. When a commit ends, the
 * images are seen without its filter, so its uses of all of them end. */
static RUNS_IN_MAIN void mirror_set_uses(const MirrorJob *m, bool used)
{
    if (m->target_edge != NULL) {
        m->target_edge->uses = used ? mirror_target_uses(m) : 0;
        m->target_edge->shares = used ? mirror_target_shares(m) : BLOCK_USE_ALL;
    }
    for (unsigned i = 0; m->commit && i < m->bj.edges->len; i++) {
        BlockEdge *e = m->bj.edges->pdata[i];
        if (e != m->target_edge && e->node != m->source) {
            e->uses = used ? BLOCK_USE_READ | BLOCK_USE_GRAPH : 0;
            e->shares = used ? 0 : BLOCK_USE_ALL;
        }
    }
}

static RUNS_IN_MAIN bool mirror_pivot(MirrorJob *m, GError **error)
{
    if (m->backing != NULL && !block_graph_set_child(m->change, m->target, "backing",
                                                     BLOCK_ROLE_BACKING, m->backing, error)) {
        return false;
    }
    if (m->replaces == NULL) {
        return block_graph_replace(m->change, m->filter, m->target, error) &&
               block_graph_set_child(m->change, m->filter, "file", BLOCK_ROLE_FILE, NULL, error);
    }
    return block_graph_remove_filter(m->change, m->filter, error) &&
           block_graph_replace(m->change, m->replaces, m->target, error);
}

/* Without a yield. */
static RUNS_IN_MAIN bool mirror_change_graph(MirrorJob *m, bool pivot, GError **error)
{
    mirror_set_uses(m, false);
    bool ok =
        pivot ? mirror_pivot(m, error) : block_graph_remove_filter(m->change, m->filter, error);
    if (!ok) {
        block_graph_abort(m->change);
    } else {
        ok = block_graph_commit(m->change, error);
    }
    if (ok) {
        m->inserted = false;
    } else {
        mirror_set_uses(m, true);
    }
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool mirror_co_begin_change(MirrorJob *m, GError **error)
{
    BlockNode *nodes[5] = {m->filter, m->source};
    unsigned count = 2;
    if (!m->finish) {
        nodes[count++] = m->target;
        if (m->replaces != NULL) {
            nodes[count++] = m->replaces;
        }
        if (m->backing != NULL) {
            nodes[count++] = m->backing;
        }
    }
    m->change = block_job_co_begin_change(&m->bj, nodes, count, error);
    return m->change != NULL;
}

static coroutine_fn RUNS_IN_MAIN int mirror_co_call(MirrorJob *m, CoroutineEntry *fn,
                                                    GError **error)
{
    MirrorWait w = {.m = m};
    co_call_in(m->source->home, fn, &w);
    if (w.ret == -EAGAIN) {
        w.ret = -EIO; /* not an attempt to be repeated */
    }
    if (w.ret == -ETIMEDOUT) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s', the target, did not complete its requests in time",
                    block_node_name(m->target));
    }
    return w.ret;
}

/* Begins the section with little left to copy. -EAGAIN: not now. The filter is active again then, so that
 * until the next try guests cannot get ahead of the target. */
static coroutine_fn RUNS_IN_MAIN int mirror_co_begin_pivot(MirrorJob *m, GError **error)
{
    int ret = mirror_co_call(m, mirror_catch_up_at_home, error);
    if (ret == 0) {
        ret = mirror_co_call(m, mirror_settle_at_home, error);
    } else if (ret > 0) {
        return -EAGAIN;
    }
    if (ret == 0 && !mirror_co_begin_change(m, error)) {
        mirror_filter_set_active(m->filter, true);
        ret = -EAGAIN;
    }
    return ret;
}

int mirror_co_prepare(Job *job, GError **error)
{
    MirrorJob *m = job_state(job);
    enter_main();
    enter_coroutine();
    int ret = mirror_co_begin_pivot(m, error);
    if (ret < 0) {
        return ret;
    }
    SP("mirror.prepare", m);
    ret = mirror_co_call(m, mirror_rest_at_home, error);
    SP("mirror.rest", m);
    if (ret == 0 && job_is_cancelled(job)) {
        ret = -ECANCELED;
    }
    if (ret == 0 && m->keep_chain) {
        ret = mirror_co_call(m, mirror_empty_at_home, error);
    }
    if (ret == 0 && !mirror_change_graph(m, mirror_pivots(m), error)) {
        ret = -EPERM;
    }
    m->committed = ret == 0; /* then a cancel has no effect any more */
    return ret;
}

/* ---- clean ---- */

static coroutine_fn RUNS_IN_MAIN void mirror_co_end_bitmap(MirrorJob *m, bool success)
{
    bool keep = m->bitmap_mode == BLOCK_BITMAP_NEVER ||
                (m->bitmap_mode == BLOCK_BITMAP_ON_SUCCESS && !success);
    if (m->bitmap != NULL) {
        block_dirty_bitmap_co_end_job(m->source, m->bitmap, keep,
                                      keep ? NULL : block_copy_todo(m->copy));
        g_clear_pointer(&m->bitmap, g_free);
    }
}

/* In the section of m->change. */
static RUNS_IN_MAIN bool mirror_take_filter_out(MirrorJob *m, GError **error)
{
    if (m->commit) {
        mirror_set_uses(m, false); /* nothing is in flight at the target */
    }
    m->inserted = !block_graph_remove_filter(m->change, m->filter, error) ||
                  !block_graph_commit(m->change, error);
    if (m->inserted && m->commit) {
        mirror_set_uses(m, true);
    }
    return !m->inserted;
}

/* Begins the section, unless m->change is it. The target of a commit is seen without the filter, so nothing is
 * in flight there by then. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_begin_removal(MirrorJob *m)
{
    g_autoptr(GError) error = NULL;
    if (m->change == NULL &&
        (!m->commit || block_copy_co_await_idle(m->copy, true, m->bj.patience_ns))) {
        m->change = block_job_co_begin_change(&m->bj, &m->filter, 1, &error);
    }
    return m->change != NULL;
}

/* Takes the filter out of the graph, if it is there, and ends the use of the bitmap. False: not now. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_remove_filter(MirrorJob *m)
{
    g_autoptr(GError) error = NULL;
    if (m->change != NULL && !m->committed) {
        block_graph_co_end(m->change);
        m->change = NULL;
    }
    if (!mirror_co_begin_removal(m)) {
        return false;
    }
    bool ok = !m->inserted || mirror_take_filter_out(m, &error);
    if (ok) {
        mirror_co_end_bitmap(m, m->committed);
        mirror_filter_co_detach(m->filter);
    }
    block_graph_co_end(m->change);
    m->change = NULL;
    return ok;
}

void mirror_co_unref_nodes(const MirrorJob *m)
{
    BlockNode *nodes[] = {m->filter, m->replaces, m->backing, m->target, m->source};
    for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
        if (nodes[i] != NULL) {
            block_co_unref(nodes[i]);
        }
    }
}

/* False: not now; what is done is not done again. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_release(MirrorJob *m)
{
    if (m->copy != NULL) {
        if (m->filter != NULL) {
            mirror_filter_co_detach(m->filter);
        }
        block_copy_co_free(g_steal_pointer(&m->copy)); /* takes the use of the target */
    }
    block_job_co_remove_nodes(&m->bj);
    if (m->commit && m->target_read_only && (!m->committed || !mirror_pivots(m)) &&
        !block_job_co_make_read_only(&m->bj, m->target)) {
        return false;
    }
    mirror_co_unref_nodes(m);
    return true;
}

static bool mirror_co_try_end(BlockJob *bj)
{
    MirrorJob *m = (MirrorJob *)bj;
    enter_main();
    enter_coroutine();
    bool in_graph = m->inserted || m->bitmap != NULL || m->change != NULL;
    if (in_graph && !mirror_co_remove_filter(m)) {
        return false;
    }
    return mirror_co_release(m);
}

void mirror_co_end(MirrorJob *m)
{
    block_job_co_end(&m->bj, mirror_co_try_end);
}

void mirror_co_clean(Job *job)
{
    MirrorJob *m = job_state(job);
    enter_main();
    enter_coroutine();
    if (m->released) {
        return;
    }
    if (!m->committed) {
        block_copy_abandon(m->copy); /* guests' requests go on before they are drained */
    }
    SP("mirror.clean", m);
    mirror_co_end(m);
}
