/* SPDX-License-Identifier: Apache-2.0 */
/* The commit job: start, data step, verbs. */
#include <errno.h>
#include "block/chain/chain.h"
#include "block/chain/commit_int.h"
#include "block/dirty_bitmap.h"
#include "util/loop/sched_point.h"

/* ---- the filter ---- */

static const BlockDriver commit_filter_driver = {
    .name = "commit_top",
    .help = "filter of a commit job",
    .is_filter = true,
    .hides_changes = true,
    .shows_file = true,
    .child_changed = block_job_filter_child_changed,
    .co_preadv = block_filter_co_preadv,
    .co_block_status = block_filter_co_block_status,
};

static RUNS_IN_MAIN BlockNode *commit_make_filter(const CommitConfig *config, GError **error)
{
    BlockNodeCreate how = {.drv = &commit_filter_driver,
                           .name = config->filter_name,
                           .home = block_node_home(config->top),
                           .flags = config->top->flags};
    how.flags.read_only = true;
    return block_node_create(&how, error);
}

/* ---- start ---- */

GPtrArray *commit_overlays(const BlockNode *n)
{
    GPtrArray *list = g_ptr_array_new();
    for (unsigned i = 0; i < n->parents->len; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL && e->role == BLOCK_ROLE_BACKING) {
            g_ptr_array_add(list, e->parent);
        }
    }
    return list;
}

static RUNS_IN_MAIN bool commit_check(const CommitConfig *config, GError **error)
{
    g_autoptr(GPtrArray) overlays = commit_overlays(config->top);
    ChainName name;
    if (config->top == config->base || !chain_contains(config->top, config->base) ||
        overlays->len == 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "'%s' is not an image between an overlay and '%s'", config->top->name,
                    config->base->name);
        return false;
    }
    for (unsigned i = 0; i < overlays->len; i++) {
        const BlockNode *overlay = overlays->pdata[i];
        if (overlay->drv->co_change_backing == NULL) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "the image of node '%s' cannot name another backing file", overlay->name);
            return false;
        }
    }
    bool ok = chain_name_init(&name, overlays->pdata[0], config->base, config->backing_file, error);
    chain_name_clear(&name);
    return ok;
}

/* Other users of the images would see base change; those of base, too. */
static coroutine_fn RUNS_IN_MAIN bool commit_co_use_nodes(CommitJob *c, GError **error)
{
    unsigned others = BLOCK_USE_ALL & ~(unsigned)BLOCK_USE_GRAPH;
    bool ok = true;
    for (BlockNode *n = c->top; ok && n != c->base; n = chain_next(n)) {
        ok = block_job_co_add_node(&c->bj, n, BLOCK_USE_READ | BLOCK_USE_GRAPH, 0, error) != NULL;
    }
    if (ok) {
        c->base_edge = block_job_co_add_node(
            &c->bj, c->base, BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_RESIZE | BLOCK_USE_GRAPH,
            0, error);
        ok = c->base_edge != NULL;
    }
    g_autoptr(GPtrArray) overlays = commit_overlays(c->filter);
    for (unsigned i = 0; ok && i < overlays->len; i++) {
        ok = block_job_co_add_node(&c->bj, overlays->pdata[i], BLOCK_USE_GRAPH, others, error) !=
             NULL;
    }
    return ok;
}

typedef struct CommitGrow {
    CommitJob *c;
    int ret;
} CommitGrow;

static void commit_grow_at_home(void *opaque)
{
    CommitGrow *g = opaque;
    enter_coroutine();
    enter_iothread(block_node_home(g->c->base));
    g->ret = block_node_co_truncate(g->c->base, block_node_size(g->c->top));
}

/* Base is drained, and reads beyond its end give zeroes before and after. */
static coroutine_fn RUNS_IN_MAIN bool commit_co_grow_base(CommitJob *c, GError **error)
{
    CommitGrow g = {.c = c};
    if (block_node_size(c->base) >= block_node_size(c->top)) {
        return true;
    }
    co_call_in(block_node_home(c->base), commit_grow_at_home, &g);
    if (g.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s', the base, cannot grow to the size of '%s': %s", c->base->name,
                    c->top->name, g_strerror(-g.ret));
    }
    return g.ret == 0;
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_make_copy(CommitJob *c, GError **error)
{
    BlockCopyConfig copy = {
        .source = c->top, .target = c->base, .target_edge = c->base_edge, .unmap = true};
    copy.todo = block_bitmap_new(block_node_size(c->top), BLOCK_BITMAP_GRANULARITY_DEFAULT);
    if (copy.todo == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "node '%s': there is no memory for %s",
                    c->top->name, "a bitmap of its size");
        return false;
    }
    c->copy = block_copy_new(&c->bj, &copy);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool commit_co_insert(CommitJob *c, GError **error)
{
    c->change = block_graph_co_begin((BlockNode *[]){c->top, c->filter}, 2, error);
    if (c->change == NULL) {
        return false;
    }
    c->inserted = block_graph_insert_filter(c->change, c->filter, c->top, error) &&
                  block_graph_commit(c->change, error);
    SP("commit.inserted", c);
    bool ok = c->inserted && commit_co_use_nodes(c, error) && commit_co_grow_base(c, error) &&
              commit_co_make_copy(c, error);
    block_graph_co_end(c->change);
    c->change = NULL;
    return ok;
}

/* Fails without the job if the name of the filter is taken. */
static coroutine_fn RUNS_IN_MAIN CommitJob *commit_new(const CommitConfig *config, GError **error)
{
    CommitJob *c = g_new0(CommitJob, 1);
    c->filter = commit_make_filter(config, error);
    bool ok = c->filter != NULL && block_job_init(&c->bj, &block_commit_driver, &config->job,
                                                  block_node_home(config->top), c, error);
    if (!ok) {
        if (c->filter != NULL) {
            block_co_unref(c->filter);
        }
        g_free(c);
        return NULL;
    }
    c->top = config->top;
    c->base = config->base;
    c->backing_file = g_strdup(config->backing_file);
    c->depth = chain_depth(c->top, c->base);
    c->base_read_only = block_node_read_only(c->base);
    block_node_ref(c->top);
    block_node_ref(c->base);
    return c;
}

Job *block_commit_co_start(const CommitConfig *config, GError **error)
{
    if (!commit_check(config, error)) {
        return NULL;
    }
    CommitJob *c = commit_new(config, error);
    if (c == NULL) {
        return NULL;
    }
    Job *job = c->bj.job;
    job_ref(job);
    bool ok = block_node_co_set_read_only(c->base, false, error) && commit_co_insert(c, error);
    if (ok) {
        job_start(job);
    } else {
        commit_co_end(c);
        job_abandon(job);
    }
    job_unref(job);
    return ok ? job : NULL;
}

/* ---- the data step ---- */

static int commit_co_run(Job *job, GError **error)
{
    CommitJob *c = job_state(job);
    bool is_read;
    enter_coroutine();
    enter_iothread(block_node_home(c->top));
    int ret = block_copy_co_scan(c->copy, 0, c->depth);
    if (ret == 0) {
        ret = block_copy_co_run(c->copy, &is_read);
    }
    if (ret == 0) {
        ret = block_copy_co_flush_by_policy(c->copy);
    }
    SP("commit.run_done", c);
    return ret;
}

/* ---- verbs ---- */

static bool commit_cancel(Job *job, bool force)
{
    const CommitJob *c = job_state(job);
    enter_main();
    if (!c->committed && c->copy != NULL) {
        block_copy_abandon(c->copy);
    }
    return !c->committed;
}

static void commit_free(void *state)
{
    CommitJob *c = state;
    enter_main();
    block_job_clear(&c->bj);
    g_free(c->backing_file);
    g_free(c);
}

const JobDriver block_commit_driver = {
    .type = "commit",
    .is_block_job = true,
    .co_run = commit_co_run,
    .co_prepare = commit_co_prepare,
    .co_clean = commit_co_clean,
    .cancel = commit_cancel,
    .free = commit_free,
};
