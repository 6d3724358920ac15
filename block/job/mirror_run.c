/* SPDX-License-Identifier: Apache-2.0 */
/* Mirror: the data step. */
#include <errno.h>
#include "block/job/mirror_int.h"
#include "util/loop/sched_point.h"

static coroutine_fn RUNS_IN_IOTHREAD int mirror_co_scan(MirrorJob *m)
{
    if (m->commit) {
        return block_copy_co_scan(m->copy, 0, m->depth);
    }
    switch (m->sync) {
    case BLOCK_MIRROR_TOP:
        return block_copy_co_scan(m->copy, 0, 1);
    case BLOCK_MIRROR_FULL:
        block_copy_mark(m->copy, 0, block_node_size(m->source));
        return 0;
    case BLOCK_MIRROR_NONE:
    case BLOCK_MIRROR_INCREMENTAL: /* its bits were taken when the filter was inserted */
        return 0;
    }
    return 0;
}

/* Whether the user waits for the end of READY, or the job ends by itself. */
static RUNS_IN_IOTHREAD bool mirror_should_end(const MirrorJob *m)
{
    return m->finish || m->keep_chain || job_should_complete(m->bj.job);
}

/* Whether the job ends now: the target is up to date, and stays so as far as it answers. */
static RUNS_IN_IOTHREAD bool mirror_may_end(const MirrorJob *m)
{
    if (!mirror_should_end(m)) {
        return false;
    }
    SP("mirror.may_end", m);
    if (!mirror_filter_active(m->filter)) {
        mirror_filter_set_active(m->filter, true);
        return false; /* what passed the filter before is marked by then */
    }
    return !block_copy_busy(m->copy);
}

/* READY, if the job has that phase: copies what guests change. Returns when the job ends. */
static coroutine_fn RUNS_IN_IOTHREAD int mirror_co_follow(MirrorJob *m, bool *is_read)
{
    for (;;) {
        m->synced = m->synced && !block_copy_busy(m->copy);
        int ret = block_copy_co_run(m->copy, is_read);
        m->synced = ret == 0 && mirror_filter_active(m->filter);
        if (ret < 0 || mirror_may_end(m)) {
            return ret;
        }
        if (!mirror_should_end(m)) {
            SP("mirror.idle", m);
            job_co_wait(m->bj.job, INT64_MAX);
        }
    }
}

int mirror_co_run(Job *job, GError **error)
{
    MirrorJob *m = job_state(job);
    bool is_read;
    enter_coroutine();
    enter_iothread(m->source->home);
    int ret = mirror_co_scan(m);
    if (m->keep_chain) {
        block_copy_hurry(m->copy); /* the user waits for the end from the beginning */
    }
    if (ret == 0) {
        ret = block_copy_co_run(m->copy, &is_read);
    }
    if (ret == 0) {
        ret = block_copy_co_flush_by_policy(m->copy);
    }
    if (ret == 0 && !m->keep_chain) {
        job_co_ready(job);
        SP("mirror.ready", m);
    }
    if (ret == 0) {
        ret = mirror_co_follow(m, &is_read);
    }
    if (ret == 0) {
        ret = block_copy_co_flush_by_policy(m->copy);
    }
    SP("mirror.run_done", m);
    return ret;
}
