/* SPDX-License-Identifier: Apache-2.0 */
/* The commit job: the end, in main under the operation lock. */
#include <errno.h>
#include "block/chain/chain.h"
#include "block/chain/commit_int.h"
#include "util/loop/sched_point.h"

/* ---- the overlays' headers ---- */

/* An overlay, and how it was before the end. */
typedef struct CommitOverlay {
    ChainName name;
    bool read_only;
} CommitOverlay;

static coroutine_fn RUNS_IN_MAIN bool commit_co_begin_overlay(const CommitJob *c, CommitOverlay *o,
                                                              BlockNode *n, GError **error)
{
    *o = (CommitOverlay){.read_only = block_node_read_only(n)};
    return chain_name_init(&o->name, n, c->base, c->backing_file, error) &&
           block_node_co_set_read_only(n, false, error);
}

static coroutine_fn RUNS_IN_MAIN void commit_co_end_overlay(CommitOverlay *o)
{
    if (o->read_only) {
        block_node_co_set_read_only(o->name.node, true, NULL);
    }
    chain_name_clear(&o->name);
}

/* ---- prepare ---- */

static RUNS_IN_MAIN bool commit_change_graph(CommitJob *c, GError **error)
{
    bool ok = block_graph_replace(c->change, c->filter, c->base, error) &&
              block_graph_set_child(c->change, c->filter, "file", BLOCK_ROLE_FILE, NULL, error);
    return ok && block_graph_commit(c->change, error);
}

/* In the drained section: the copy is on stable storage before the headers name base. */
static coroutine_fn RUNS_IN_MAIN bool commit_co_switch(CommitJob *c, CommitOverlay *overlays,
                                                       unsigned count, GError **error)
{
    int ret = chain_co_flush(c->base);
    if (ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "node '%s', the base: flush: %s",
                    c->base->name, g_strerror(-ret));
        return false;
    }
    bool ok = true;
    for (unsigned i = 0; ok && i < count; i++) {
        ok = chain_name_co_write(&overlays[i].name, error);
    }
    SP("commit.named", c);
    ok = ok && !job_is_cancelled(c->bj.job) && commit_change_graph(c, error);
    for (unsigned i = 0; !ok && i < count; i++) {
        chain_name_co_undo(&overlays[i].name);
    }
    return ok;
}

/* The uses of the job end with it, so that base is seen through the overlays. */
static RUNS_IN_MAIN void commit_set_base_use(const CommitJob *c, bool used)
{
    c->base_edge->uses =
        used ? BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_RESIZE | BLOCK_USE_GRAPH : 0;
    c->base_edge->shares = used ? 0 : BLOCK_USE_ALL;
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_run_change(CommitJob *c, CommitOverlay *overlays,
                                                           unsigned count, GError **error)
{
    c->change = block_job_co_begin_change(&c->bj, (BlockNode *[]){c->filter, c->base}, 2, error);
    if (c->change == NULL) {
        c->later = true;
        return false;
    }
    SP("commit.prepare", c);
    commit_set_base_use(c, false);
    bool ok = commit_co_switch(c, overlays, count, error);
    commit_set_base_use(c, !ok);
    block_graph_co_end(c->change);
    c->change = NULL;
    return ok;
}

/* An overlay that is read-only is reopened, outside of a change: only while nothing hangs. */
static coroutine_fn RUNS_IN_MAIN bool commit_co_may_reopen(CommitJob *c, const GPtrArray *overlays,
                                                           GError **error)
{
    bool reopens = false;
    for (unsigned i = 0; i < overlays->len; i++) {
        reopens = reopens || block_node_read_only(overlays->pdata[i]);
    }
    if (reopens) {
        BlockGraphChange *probe =
            block_job_co_begin_change(&c->bj, (BlockNode *[]){c->filter, c->base}, 2, error);
        if (probe == NULL) {
            return false;
        }
        block_graph_co_end(probe);
    }
    return true;
}

int commit_co_prepare(Job *job, GError **error)
{
    CommitJob *c = job_state(job);
    enter_main();
    enter_coroutine();
    g_autoptr(GPtrArray) nodes = commit_overlays(c->filter);
    if (!commit_co_may_reopen(c, nodes, error)) {
        return -EAGAIN;
    }
    g_autofree CommitOverlay *overlays = g_new0(CommitOverlay, nodes->len);
    unsigned count = 0;
    bool ok = true;
    for (; ok && count < nodes->len; count++) {
        ok = commit_co_begin_overlay(c, &overlays[count], nodes->pdata[count], error);
    }
    c->committed = ok && commit_co_run_change(c, overlays, nodes->len, error);
    c->inserted = !c->committed;
    bool later = c->later;
    c->later = false;
    while (count > 0) {
        commit_co_end_overlay(&overlays[--count]);
    }
    if (c->committed) {
        return 0;
    }
    return later ? -EAGAIN : job_is_cancelled(job) ? -ECANCELED : -EPERM;
}

/* ---- clean ---- */

static coroutine_fn RUNS_IN_MAIN bool commit_co_remove_filter(CommitJob *c)
{
    g_autoptr(GError) error = NULL;
    BlockGraphChange *change = block_job_co_begin_change(&c->bj, &c->filter, 1, &error);
    if (change == NULL) {
        return false;
    }
    bool ok =
        block_graph_remove_filter(change, c->filter, &error) && block_graph_commit(change, &error);
    block_graph_co_end(change);
    return ok;
}

/* While a request to base hangs, base is not seen without the filter. */
static bool commit_co_try_end(BlockJob *bj)
{
    CommitJob *c = (CommitJob *)bj;
    enter_main();
    enter_coroutine();
    if (c->copy != NULL) {
        if (!block_copy_co_await_idle(c->copy, true, bj->patience_ns)) {
            return false;
        }
        block_copy_co_free(g_steal_pointer(&c->copy)); /* takes the use of base */
    }
    block_job_co_remove_nodes(&c->bj);
    if (c->inserted && !commit_co_remove_filter(c)) {
        return false;
    }
    c->inserted = false;
    if (c->base_read_only && !block_job_co_make_read_only(bj, c->base)) {
        return false;
    }
    block_co_unref(c->filter);
    block_co_unref(c->top);
    block_co_unref(c->base);
    return true;
}

void commit_co_end(CommitJob *c)
{
    if (c->copy != NULL) {
        block_copy_abandon(c->copy);
    }
    c->released = true;
    block_job_co_end(&c->bj, commit_co_try_end);
}

void commit_co_clean(Job *job)
{
    CommitJob *c = job_state(job);
    enter_main();
    enter_coroutine();
    SP("commit.clean", c);
    if (!c->released) {
        commit_co_end(c);
    }
}
