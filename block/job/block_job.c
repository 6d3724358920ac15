/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/block_job.h"

#include <errno.h>
#include "util/log.h"

#define BLOCK_JOB_NS_PER_S 1000000000.0
#define BLOCK_JOB_PATIENCE_NS INT64_C(50000000)
#define BLOCK_JOB_PATIENCE_MAX_NS INT64_C(1000000000)
#define BLOCK_JOB_PAUSE_MAX_NS INT64_C(5000000000)
#define BLOCK_JOB_RETRY_NS INT64_C(100000000) /* before an ignored error is tried again */

const char *const block_on_error_names[] = {"report", "ignore", "enospc", "stop", "auto", NULL};

/* ---- making and freeing ---- */

bool block_job_init(BlockJob *bj, const JobDriver *driver, const BlockJobConfig *config,
                    AioContext *home, void *state, GError **error)
{
    JobConfig job = {.id = config->id,
                     .home = home,
                     .manual_finalize = config->manual_finalize,
                     .manual_dismiss = config->manual_dismiss,
                     .speed = config->speed,
                     .txn = config->txn};
    bj->job = job_new(driver, &job, state, error);
    if (bj->job == NULL) {
        return false;
    }
    bj->on_source_error = config->on_source_error;
    bj->on_target_error = config->on_target_error;
    bj->edges = g_ptr_array_new();
    bj->patience_ns = BLOCK_JOB_PATIENCE_NS;
    return true;
}

void block_job_clear(BlockJob *bj)
{
    if (bj->edges->len > 0) {
        bug_abort("job '%s' is freed while it uses nodes", job_id(bj->job));
    }
    g_ptr_array_unref(bj->edges);
}

/* ---- nodes ---- */

BlockEdge *block_job_co_add_node(BlockJob *bj, BlockNode *n, unsigned uses, unsigned shares,
                                 GError **error)
{
    if (!block_node_check_no_filter(n, error)) {
        return NULL;
    }
    g_autofree char *user = g_strdup_printf("job '%s'", job_id(bj->job));
    BlockEdge *e = block_user_co_new(n, user, uses, shares, error);
    if (e != NULL) {
        g_ptr_array_add(bj->edges, e);
    }
    return e;
}

/* The edge of a format that resizes the node, also through filters; NULL: there is none. */
static RUNS_IN_MAIN const BlockEdge *block_job_find_resizer(const BlockNode *n)
{
    const BlockEdge *found = NULL;
    for (unsigned i = 0; i < n->parents->len && found == NULL; i++) {
        const BlockEdge *e = n->parents->pdata[i];
        if (e->parent != NULL && e->parent->drv->is_filter) {
            found = block_job_find_resizer(e->parent);
        } else if (e->parent != NULL && (e->uses & BLOCK_USE_RESIZE) != 0) {
            found = e;
        }
    }
    return found;
}

bool block_job_check_fixed_size(const BlockNode *source, GError **error)
{
    const BlockEdge *e = block_job_find_resizer(source);
    if (e != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "node '%s' is resized by %s, which a job that copies it does not allow",
                    source->name, e->user);
    }
    return e == NULL;
}

BlockGraphChange *block_job_co_begin_change(BlockJob *bj, BlockNode *const *nodes, unsigned count,
                                            GError **error)
{
    BlockGraphChange *change = block_graph_co_try_begin(nodes, count, bj->patience_ns, error);
    if (change == NULL) {
        bj->patience_ns = MIN(bj->patience_ns * 2, BLOCK_JOB_PATIENCE_MAX_NS);
    }
    return change;
}

bool block_job_co_make_read_only(BlockJob *bj, BlockNode *n)
{
    bool ok = block_node_co_try_make_read_only(n, bj->patience_ns);
    if (!ok) {
        bj->patience_ns = MIN(bj->patience_ns * 2, BLOCK_JOB_PATIENCE_MAX_NS);
    }
    return ok;
}

static void block_job_end_later(void *opaque)
{
    BlockJob *bj = opaque;
    int64_t pause_ns = BLOCK_JOB_PATIENCE_NS;
    bool ended = false;
    enter_main();
    enter_coroutine();
    while (!ended) {
        co_sleep_ns(pause_ns);
        job_co_operation_begin();
        ended = bj->co_try_end(bj);
        job_co_operation_end();
        pause_ns = MIN(pause_ns * 2, BLOCK_JOB_PAUSE_MAX_NS);
    }
    job_unref(bj->job);
}

void block_job_co_end(BlockJob *bj, bool (*co_try_end)(BlockJob *bj))
{
    bj->patience_ns = BLOCK_JOB_PATIENCE_MAX_NS; /* slow storage does not delay the end */
    if (co_try_end(bj)) {
        return;
    }
    bj->patience_ns = BLOCK_JOB_PATIENCE_NS;
    log_warn("job '%s' has ended; its nodes stay in use until what is in flight there has ended",
             job_id(bj->job));
    bj->co_try_end = co_try_end;
    job_ref(bj->job);
    co_start(aio_context_current(), block_job_end_later, bj);
}

BlockEdge *block_job_take_node(BlockJob *bj, BlockEdge *e)
{
    g_ptr_array_remove(bj->edges, e);
    return e;
}

void block_job_co_remove_nodes(BlockJob *bj)
{
    while (bj->edges->len > 0) {
        block_user_co_free(g_ptr_array_steal_index(bj->edges, bj->edges->len - 1));
    }
}

void block_job_filter_child_changed(BlockNode *n)
{
    block_filter_child_changed(n);
    n->caps.grows = false;
}

/* ---- errors ---- */

JobErrorAction block_job_error_action(const BlockJob *bj, int ret, bool is_read)
{
    switch (is_read ? bj->on_source_error : bj->on_target_error) {
    case BLOCK_ON_ERROR_REPORT:
        return JOB_ON_ERROR_REPORT;
    case BLOCK_ON_ERROR_IGNORE:
        return JOB_ON_ERROR_IGNORE;
    case BLOCK_ON_ERROR_STOP:
        return JOB_ON_ERROR_STOP;
    case BLOCK_ON_ERROR_ENOSPC:
    case BLOCK_ON_ERROR_AUTO:
        break;
    }
    return ret == -ENOSPC ? JOB_ON_ERROR_STOP : JOB_ON_ERROR_REPORT;
}

bool block_job_co_error(BlockJob *bj, int ret, bool is_read)
{
    JobIoError e = {.is_read = is_read,
                    .no_space = ret == -ENOSPC,
                    .action = block_job_error_action(bj, ret, is_read)};
    return job_co_io_error(bj->job, &e) &&
           (e.action != JOB_ON_ERROR_IGNORE || job_co_sleep_ns(bj->job, BLOCK_JOB_RETRY_NS));
}

/* ---- speed ---- */

static RUNS_IN_IOTHREAD int64_t block_job_cost_ns(const BlockJob *bj, uint64_t bytes)
{
    uint64_t speed = job_speed(bj->job);
    double ns = speed == 0 ? 0 : (double)bytes / (double)speed * BLOCK_JOB_NS_PER_S;
    return (int64_t)MIN(ns, (double)(INT64_MAX / 4));
}

void block_job_account(BlockJob *bj, uint64_t bytes)
{
    int64_t now = aio_now_ns(aio_context_current());
    int64_t cost = block_job_cost_ns(bj, bytes);
    if (cost > 0) {
        bj->next_ns = MAX(bj->next_ns, now) + cost;
    }
}

void block_job_refund(BlockJob *bj, uint64_t bytes)
{
    bj->next_ns -= block_job_cost_ns(bj, bytes);
}

int64_t block_job_next_ns(BlockJob *bj)
{
    uint64_t speed = job_speed(bj->job);
    if (speed != bj->speed) {
        bj->speed = speed;
        bj->next_ns = 0;
    }
    return bj->next_ns;
}
