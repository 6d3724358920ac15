/* SPDX-License-Identifier: Apache-2.0 */
#include "block/chain/stream_job.h"
#include <errno.h>
#include "block/chain/chain.h"
#include "block/dirty_bitmap.h"
#include "block/graph.h"
#include "block/job/copy.h"
#include "util/loop/sched_point.h"

typedef struct StreamJob {
    BlockJob bj; /* first */
    /* links: references */
    BlockNode *node, *base; /* base NULL: none */
    BlockCopy *copy;

    /* config */
    char *backing_file; /* NULL: the path of base */
    unsigned depth;     /* of base below the node; UINT_MAX: none */

    /* main */
    bool was_read_only;
    bool tracks;
    bool committed;
    bool released; /* its end has begun */
} StreamJob;

/* ---- start ---- */

static RUNS_IN_MAIN bool stream_check(const StreamConfig *config, GError **error)
{
    BlockNode *n = config->node;
    ChainName name;
    if (config->base != NULL && (config->base == n || !chain_contains(n, config->base))) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "'%s' is not in the backing chain of '%s'", config->base->name, n->name);
        return false;
    }
    if (n->backing != NULL && n->drv->co_change_backing == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "the image of node '%s' cannot name another backing file", n->name);
        return false;
    }
    bool ok = chain_name_init(&name, n, config->base, config->backing_file, error);
    chain_name_clear(&name);
    return ok;
}

/* The images between node and base have no other job; others may read them. */
static coroutine_fn RUNS_IN_MAIN bool stream_co_use_nodes(StreamJob *s, GError **error)
{
    unsigned others = BLOCK_USE_ALL & ~(unsigned)BLOCK_USE_GRAPH;
    bool ok = true;
    for (BlockNode *n = s->node; ok && n != NULL && n != s->base; n = chain_next(n)) {
        unsigned uses = BLOCK_USE_READ | BLOCK_USE_GRAPH;
        unsigned shares = n == s->node ? others : others & ~(unsigned)BLOCK_USE_WRITE;
        ok = block_job_co_add_node(&s->bj, n, uses, shares, error) != NULL;
    }
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool stream_co_track(StreamJob *s, GError **error)
{
    BlockGraphChange *c = block_graph_co_begin(&s->node, 1, error);
    if (c == NULL) {
        return false;
    }
    s->tracks = block_node_co_prepare_copying(s->node, error);
    block_graph_co_end(c);
    return s->tracks;
}

static coroutine_fn RUNS_IN_MAIN bool stream_co_make_copy(StreamJob *s, GError **error)
{
    BlockCopyConfig copy = {.source = s->node};
    copy.todo = block_bitmap_new(block_node_size(s->node), BLOCK_BITMAP_GRANULARITY_DEFAULT);
    if (copy.todo == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s': there is no memory for a bitmap of its size", s->node->name);
        return false;
    }
    s->copy = block_copy_new(&s->bj, &copy);
    return true;
}

static bool stream_co_try_end(BlockJob *bj)
{
    StreamJob *s = (StreamJob *)bj;
    enter_main();
    enter_coroutine();
    if (s->copy != NULL) {
        if (!block_copy_co_await_idle(s->copy, false, bj->patience_ns)) {
            return false;
        }
        block_copy_co_free(g_steal_pointer(&s->copy));
    }
    block_job_co_remove_nodes(&s->bj);
    if (s->tracks) {
        block_node_co_end_copying(s->node);
        s->tracks = false;
    }
    if (s->was_read_only && !block_job_co_make_read_only(bj, s->node)) {
        return false;
    }
    if (s->base != NULL) {
        block_co_unref(s->base);
    }
    block_co_unref(s->node);
    return true;
}

/* Ends the use of the nodes now, or when nothing is in flight there. */
static coroutine_fn RUNS_IN_MAIN void stream_co_end(StreamJob *s)
{
    if (s->copy != NULL) {
        block_copy_abandon(s->copy);
    }
    s->released = true;
    block_job_co_end(&s->bj, stream_co_try_end);
}

static const JobDriver stream_driver;

static RUNS_IN_MAIN StreamJob *stream_new(const StreamConfig *config, GError **error)
{
    StreamJob *s = g_new0(StreamJob, 1);
    AioContext *home = block_node_home(config->node);
    if (!block_job_init(&s->bj, &stream_driver, &config->job, home, s, error)) {
        g_free(s);
        return NULL;
    }
    s->node = config->node;
    s->base = config->base;
    s->backing_file = g_strdup(config->backing_file);
    s->depth = chain_depth(s->node, s->base);
    s->was_read_only = block_node_read_only(s->node);
    block_node_ref(s->node);
    if (s->base != NULL) {
        block_node_ref(s->base);
    }
    return s;
}

Job *block_stream_co_start(const StreamConfig *config, GError **error)
{
    StreamJob *s = stream_check(config, error) ? stream_new(config, error) : NULL;
    if (s == NULL) {
        return NULL;
    }
    Job *job = s->bj.job;
    job_ref(job);
    bool ok = stream_co_use_nodes(s, error) && block_node_co_set_read_only(s->node, false, error) &&
              stream_co_track(s, error) && stream_co_make_copy(s, error);
    if (ok) {
        job_start(job);
    } else {
        stream_co_end(s);
        job_abandon(job);
    }
    job_unref(job);
    return ok ? job : NULL;
}

/* ---- the data step ---- */

static int stream_co_run(Job *job, GError **error)
{
    StreamJob *s = job_state(job);
    bool is_read;
    enter_coroutine();
    enter_iothread(block_node_home(s->node));
    int ret = block_copy_co_scan(s->copy, 1, s->depth);
    if (ret == 0) {
        ret = block_copy_co_run(s->copy, &is_read);
    }
    SP("stream.run_done", s);
    return ret;
}

/* ---- the end ---- */

/* In the drained section. The header is right for both backing nodes once the copy is on stable storage. */
static coroutine_fn RUNS_IN_MAIN bool stream_co_switch(StreamJob *s, BlockGraphChange *c,
                                                       GError **error)
{
    ChainName name;
    bool ok = chain_name_init(&name, s->node, s->base, s->backing_file, error) &&
              chain_name_co_write(&name, error);
    SP("stream.named", s);
    ok = ok && !job_is_cancelled(s->bj.job) &&
         block_graph_set_child(c, s->node, "backing", BLOCK_ROLE_BACKING, s->base, error) &&
         block_graph_commit(c, error);
    if (!ok) {
        chain_name_co_undo(&name);
    }
    chain_name_clear(&name);
    return ok;
}

static int stream_co_prepare(Job *job, GError **error)
{
    StreamJob *s = job_state(job);
    enter_main();
    enter_coroutine();
    if (s->node->backing == NULL) {
        s->committed = true; /* there was nothing to copy */
        return 0;
    }
    BlockGraphChange *c = block_job_co_begin_change(&s->bj, &s->node, 1, error);
    if (c == NULL) {
        return -EAGAIN;
    }
    SP("stream.prepare", s);
    s->committed = stream_co_switch(s, c, error);
    block_graph_co_end(c);
    if (s->committed) {
        return 0;
    }
    return job_is_cancelled(job) ? -ECANCELED : -EPERM;
}

static void stream_co_clean(Job *job)
{
    StreamJob *s = job_state(job);
    enter_main();
    enter_coroutine();
    SP("stream.clean", s);
    if (!s->released) {
        stream_co_end(s);
    }
}

/* ---- verbs ---- */

static bool stream_cancel(Job *job, bool force)
{
    const StreamJob *s = job_state(job);
    enter_main();
    if (!s->committed && s->copy != NULL) {
        block_copy_abandon(s->copy);
    }
    return !s->committed;
}

static void stream_free(void *state)
{
    StreamJob *s = state;
    enter_main();
    block_job_clear(&s->bj);
    g_free(s->backing_file);
    g_free(s);
}

static const JobDriver stream_driver = {
    .type = "stream",
    .is_block_job = true,
    .co_run = stream_co_run,
    .co_prepare = stream_co_prepare,
    .co_clean = stream_co_clean,
    .cancel = stream_cancel,
    .free = stream_free,
};
