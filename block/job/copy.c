/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/copy_int.h"

#include "block/graph.h"
#include "block/throttle.h"
#include "util/loop/sched_point.h"

/* ---- making ---- */

void copy_abandon(BlockCopy *c)
{
    if (c->abandoned) {
        return;
    }
    c->abandoned = true;
    for (const CopyClaim *k = c->claims; k != NULL; k = k->next) {
        block_bitmap_set(c->todo, k->offset, k->bytes);
    }
    SP("copy.abandoned", c);
    c->unthrottled = c->reading > 0; /* until the last of these requests has ended */
    if (c->unthrottled) {
        throttle_lift_nodes(c->source, true);
    }
    c->target_unthrottled = c->target != NULL && c->claims != NULL;
    if (c->target_unthrottled) {
        throttle_lift_nodes(c->target, true);
    }
    copy_release_updates(c);
}

static void copy_abandon_bh(void *opaque)
{
    BlockCopy *c = opaque;
    enter_iothread(c->home);
    copy_abandon(c);
}

static void copy_set_chunks(BlockCopy *c, uint64_t max)
{
    max = MIN(max > 0 ? max : COPY_CHUNK_MAX, c->memory / 4);
    c->chunk_max = MAX(block_align_down(max, c->granularity), c->granularity);
    c->chunk_min = MIN(MAX(COPY_CHUNK_MIN, c->granularity), c->chunk_max);
    c->memory = MAX(c->memory, c->chunk_max);
    c->chunk = c->chunk_min;
}

BlockCopy *block_copy_new(BlockJob *bj, const BlockCopyConfig *config)
{
    BlockCopy *c = g_new0(BlockCopy, 1);
    c->bj = bj;
    c->source = config->source;
    c->target = config->target;
    c->target_edge = config->target_edge;
    c->home = config->source->home;
    c->main_ctx = aio_context_current();
    c->todo = config->todo;
    c->size = block_bitmap_size(c->todo);
    c->granularity = block_bitmap_granularity(c->todo);
    c->memory = config->memory > 0 ? config->memory : COPY_MEMORY_DEFAULT;
    c->unmap = config->unmap;
    c->compress = config->compress;
    c->save_timeout_ns = config->save_timeout_ns;
    c->whole_units = config->whole_units;
    if (config->target_is_zero) {
        c->written = block_bitmap_new(c->size, (uint32_t)c->granularity); /* NULL: it is unknown */
    }
    c->claims_max = config->max_claims > 0 ? config->max_claims : COPY_CLAIMS_MAX;
    copy_set_chunks(c, config->max_chunk);
    co_queue_init(&c->memory_waiters);
    co_queue_init(&c->end_waiters);
    aio_bh_init(&c->abandon_bh, c->home, copy_abandon_bh, c);
    block_node_ref(c->source);
    if (c->target != NULL) {
        c->remote = block_node_is_remote(c->target);
        block_node_ref(c->target);
    }
    return c;
}

void block_copy_set_home(BlockCopy *c, AioContext *home)
{
    c->home = home;
    aio_bh_init(&c->abandon_bh, home, copy_abandon_bh, c);
}

void block_copy_set_target_edge(BlockCopy *c, BlockEdge *e)
{
    c->target_edge = e;
}

void block_copy_hurry(BlockCopy *c)
{
    c->hurried = true;
}

bool copy_is_ending(const BlockCopy *c)
{
    return c->hurried || job_should_complete(c->bj->job);
}

void block_copy_set_outpaced(BlockCopy *c, void (*fn)(void *opaque), void *opaque)
{
    c->outpaced = fn;
    c->outpaced_opaque = opaque;
}

void block_copy_abandon(BlockCopy *c)
{
    aio_bh_schedule(&c->abandon_bh);
}

void block_copy_break(BlockCopy *c, int ret)
{
    if (!c->abandoned) {
        c->broken = ret;
        copy_abandon(c);
        copy_signal(c);
    }
}

int block_copy_broken(const BlockCopy *c)
{
    return c->broken;
}

/* ---- freeing ---- */

typedef struct CopyFree {
    BlockCopy *copy;
    bool orphaned;
} CopyFree;

static void copy_free_at_home(void *opaque)
{
    CopyFree *f = opaque;
    BlockCopy *c = f->copy;
    enter_coroutine();
    enter_iothread(c->home);
    aio_bh_cancel(&c->abandon_bh);
    copy_abandon(c);
    while (c->reading > 0) {
        co_queue_wait(&c->end_waiters, "requests of a job to its source");
    }
    c->orphaned = c->claims != NULL;
    f->orphaned = c->orphaned;
}

static coroutine_fn RUNS_IN_MAIN void copy_co_free_rest(BlockCopy *c)
{
    block_user_co_free(c->target_edge);
    if (c->target != NULL) {
        block_co_unref(c->target);
    }
    block_bitmap_free(c->todo);
    block_bitmap_free(c->written);
    copy_free_spare(c);
    g_free(c);
}

static void copy_orphan_in_main(void *opaque)
{
    enter_coroutine();
    enter_main();
    copy_co_free_rest(opaque);
}

void copy_end_orphan(BlockCopy *c)
{
    co_start(c->main_ctx, copy_orphan_in_main, c);
}

static void copy_detach_at_home(void *opaque)
{
    BlockCopy **link = opaque;
    enter_coroutine();
    enter_iothread((*link)->home);
    *link = NULL;
}

void block_copy_co_detach(BlockCopy **link)
{
    if (*link != NULL) {
        co_call_in((*link)->home, copy_detach_at_home, link);
    }
}

void block_copy_co_free(BlockCopy *c)
{
    CopyFree f = {.copy = c};
    BlockNode *source = c->source;
    if (c->target_edge != NULL) {
        block_job_take_node(c->bj, c->target_edge);
    }
    co_call_in(c->home, copy_free_at_home, &f);
    if (!f.orphaned) {
        copy_co_free_rest(c);
    }
    block_co_unref(source);
}

/* ---- queries ---- */

typedef struct CopyIdle {
    BlockCopy *copy;
    bool target, idle;
    int64_t patience_ns;
} CopyIdle;

static bool copy_is_idle(const CopyIdle *i)
{
    return i->copy->reading == 0 && (!i->target || i->copy->claims == NULL);
}

static void copy_await_idle_at_home(void *opaque)
{
    CopyIdle *i = opaque;
    enter_coroutine();
    enter_iothread(i->copy->home);
    int64_t deadline_ns = aio_now_ns(i->copy->home) + i->patience_ns;
    while (!copy_is_idle(i) &&
           co_queue_wait_until(&i->copy->end_waiters, "requests of a job that ends", deadline_ns)) {
    }
    i->idle = copy_is_idle(i);
}

bool block_copy_co_await_idle(BlockCopy *c, bool target, int64_t patience_ns)
{
    CopyIdle i = {.copy = c, .target = target, .patience_ns = patience_ns};
    co_call_in(c->home, copy_await_idle_at_home, &i);
    return i.idle;
}

BlockDirtyBitmap *block_copy_todo(BlockCopy *c)
{
    return c->todo;
}

bool block_copy_busy(const BlockCopy *c)
{
    return c->claims != NULL || block_bitmap_dirty_bytes(c->todo) > 0;
}

int block_copy_error(const BlockCopy *c)
{
    return c->error;
}
