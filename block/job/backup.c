/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/backup.h"

#include <errno.h>
#include "block/graph.h"
#include "block/job/backup_overlay.h"
#include "util/loop/sched_point.h"

#define BACKUP_CLUSTER 65536u
#define BACKUP_NS_PER_S INT64_C(1000000000)
#define BACKUP_SCAN_MAX ((uint64_t)1 << 30) /* bytes of one look */

struct BlockBackup {
    BlockJob bj; /* first */
    /* links: references */
    BlockNode *source, *target, *filter;
    BlockCopy *copy;

    /* config */
    BlockBackupSync sync;
    char *bitmap; /* NULL: none */
    BlockBackupBitmapMode bitmap_mode;

    /* main */
    BackupOverlay overlay;
    bool busy;     /* the bitmap is */
    bool inserted; /* the filter is in the graph */
    bool released; /* the creation has failed, or the job has ended */
};

/* ---- the data step ---- */

/* Clears the bits of one range if the source does not hold it itself. Returns its length. A guest that
 * has changed the range meanwhile has had it copied: its bits are clear. */
static coroutine_fn RUNS_IN_IOTHREAD uint64_t backup_co_look(BlockBackup *b, uint64_t at,
                                                             uint64_t size)
{
    BlockStatus s;
    BlockDirtyBitmap *todo = block_copy_todo(b->copy);
    uint64_t unit = block_bitmap_granularity(todo);
    int ret = block_copy_co_status(b->copy, at, MIN(size - at, BACKUP_SCAN_MAX), false, &s);
    if (ret < 0 || s.bytes == 0) { /* unknown: the copy reports what is wrong */
        return MIN(size - at, unit);
    }
    if ((s.flags & BLOCK_STATUS_ALLOCATED) != 0 && s.depth == 0) {
        return s.bytes;
    }
    if (at + s.bytes < size && s.bytes >= unit) {
        s.bytes = block_align_down(at + s.bytes, unit) - at; /* whole clusters */
    }
    if (at + s.bytes == size || s.bytes % unit == 0) {
        block_bitmap_clear(todo, at, s.bytes);
        return s.bytes;
    }
    return MIN(size - at, unit); /* a part of the cluster is held or may be */
}

/* Leaves out what the source does not hold itself. */
static coroutine_fn RUNS_IN_IOTHREAD int backup_co_scan(BlockBackup *b)
{
    uint64_t size = block_bitmap_size(block_copy_todo(b->copy));
    uint64_t unit = block_bitmap_granularity(block_copy_todo(b->copy));
    for (uint64_t at = 0; at < size;) {
        if (!job_co_pause_point(b->bj.job)) {
            return -ECANCELED;
        }
        SP("backup.scan", b);
        at = block_align_up(at + backup_co_look(b, at, size), unit);
        co_yield_turn();
    }
    return 0;
}

/* sync=none: the filter does the work until the job is cancelled. */
static coroutine_fn RUNS_IN_IOTHREAD int backup_co_stand_by(const BlockBackup *b)
{
    while (job_co_pause_point(b->bj.job)) {
        int ret = block_copy_broken(b->copy);
        if (ret < 0) {
            return ret;
        }
        job_co_wait(b->bj.job, INT64_MAX);
    }
    return -ECANCELED;
}

static int backup_co_run(Job *job, GError **error)
{
    BlockBackup *b = job_state(job);
    bool is_read;
    enter_coroutine();
    enter_iothread(b->source->home);
    if (b->sync == BLOCK_BACKUP_NONE) {
        return backup_co_stand_by(b);
    }
    int ret = b->sync == BLOCK_BACKUP_TOP ? backup_co_scan(b) : 0;
    if (ret == 0) {
        ret = block_copy_co_run(b->copy, &is_read);
    }
    if (ret == 0) {
        ret = block_copy_co_flush_by_policy(b->copy);
    }
    int broken = block_copy_broken(b->copy);
    return broken < 0 && !job_is_cancelled(job) ? broken : ret;
}

/* ---- the end ---- */

/* In a drained section, or when the filter was never inserted. */
static coroutine_fn RUNS_IN_MAIN void backup_co_end_bitmap(BlockBackup *b, bool success)
{
    bool kept = b->bitmap_mode == BLOCK_BACKUP_NEVER ||
                (b->bitmap_mode == BLOCK_BACKUP_ON_SUCCESS && !success);
    if (b->busy) {
        block_dirty_bitmap_co_end_job(b->source, b->bitmap, kept,
                                      kept || success ? NULL : block_copy_todo(b->copy));
        b->busy = false;
    }
}

/* Takes the filter out of the graph and ends the use of the bitmap. False: not now. */
static coroutine_fn RUNS_IN_MAIN bool backup_co_remove_filter(BlockBackup *b, bool success)
{
    g_autoptr(GError) error = NULL;
    BlockGraphChange *change = block_job_co_begin_change(&b->bj, &b->filter, 1, &error);
    if (change == NULL) {
        return false;
    }
    b->inserted = !block_graph_remove_filter(change, b->filter, &error) ||
                  !block_graph_commit(change, &error);
    if (!b->inserted) {
        backup_co_end_bitmap(b, success);
        backup_filter_co_detach(b->filter);
        backup_overlay_co_unkeep(&b->overlay);
    }
    block_graph_co_end(change);
    return !b->inserted;
}

static coroutine_fn RUNS_IN_MAIN void backup_co_release(BlockBackup *b)
{
    if (b->filter != NULL && !b->inserted) {
        backup_filter_co_detach(b->filter); /* it can be that it never was in the graph */
    }
    if (b->copy != NULL) {
        block_copy_co_free(b->copy); /* takes the use of the target */
    }
    block_job_co_remove_nodes(&b->bj);
    BlockNode *nodes[] = {b->filter, b->target, b->source};
    for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
        if (nodes[i] != NULL) {
            block_co_unref(nodes[i]);
        }
    }
}

static bool backup_co_try_end(BlockJob *bj)
{
    BlockBackup *b = (BlockBackup *)bj;
    enter_main();
    enter_coroutine();
    if (b->inserted && !backup_co_remove_filter(b, job_error_text(bj->job) == NULL)) {
        return false;
    }
    backup_co_release(b);
    return true;
}

static void backup_nothing_at_home(void *opaque)
{
    const BlockBackup *b = opaque;
    enter_coroutine();
    enter_iothread(b->source->home);
}

static void backup_co_clean(Job *job)
{
    BlockBackup *b = job_state(job);
    enter_main();
    enter_coroutine();
    bool success = job_error_text(job) == NULL;
    if (b->released) {
        return;
    }
    if (!success) {
        block_copy_abandon(b->copy); /* guests' requests go on before they are drained */
        co_call_in(b->source->home, backup_nothing_at_home, b); /* what is left is known then */
    }
    SP("backup.clean", b);
    b->released = true;
    block_job_co_end(&b->bj, backup_co_try_end);
}

static bool backup_cancel(Job *job, bool force)
{
    const BlockBackup *b = job_state(job);
    enter_main();
    if (b->copy != NULL && !b->released) {
        block_copy_abandon(b->copy);
    }
    return true;
}

static void backup_free(void *state)
{
    BlockBackup *b = state;
    enter_main();
    block_job_clear(&b->bj);
    g_free(b->bitmap);
    g_free(b);
}

static const JobDriver backup_driver = {
    .type = "backup",
    .is_block_job = true,
    .co_run = backup_co_run,
    .co_clean = backup_co_clean,
    .cancel = backup_cancel,
    .free = backup_free,
};

/* ---- creation ---- */

static bool backup_refuse(GError **error, const char *why)
{
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, why);
    return false;
}

static RUNS_IN_MAIN uint32_t backup_granularity(const BlockNode *target)
{
    const BlockImageInfo *info = block_node_image_info((BlockNode *)(uintptr_t)target);
    return MAX(info != NULL ? (uint32_t)info->cluster_size : 0, BACKUP_CLUSTER);
}

static RUNS_IN_MAIN bool backup_check(const BlockBackupConfig *c, GError **error)
{
    uint64_t size = block_node_size(c->source), other = block_node_size(c->target);
    if (c->source == c->target) {
        return backup_refuse(error, "Source and target cannot be the same");
    }
    if (c->compress && !block_node_can_compress(c->target)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Compression is not supported for this drive %s", block_node_name(c->target));
        return false;
    }
    if (size != other) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Source and target image have different sizes (%" G_GUINT64_FORMAT
                    " and %" G_GUINT64_FORMAT " bytes)",
                    size, other);
        return false;
    }
    if (c->max_chunk > 0 && c->max_chunk < backup_granularity(c->target)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Required max-chunk (%" G_GUINT64_FORMAT
                    ") is less than backup cluster size (%u)",
                    c->max_chunk, backup_granularity(c->target));
        return false;
    }
    return true;
}

/* The uses of the nodes, in which conflicts with others show. */
static coroutine_fn RUNS_IN_MAIN BlockEdge *backup_co_use_nodes(BlockBackup *b, GError **error)
{
    unsigned others = BLOCK_USE_ALL & ~(unsigned)(BLOCK_USE_GRAPH);
    unsigned writes = BLOCK_USE_READ | BLOCK_USE_WRITE | BLOCK_USE_GRAPH;
    if (!block_job_check_fixed_size(b->source, error) ||
        block_job_co_add_node(&b->bj, b->source, BLOCK_USE_READ | BLOCK_USE_GRAPH, others, error) ==
            NULL) {
        return NULL;
    }
    return block_job_co_add_node(&b->bj, b->target, writes, BLOCK_USE_READ, error);
}

static coroutine_fn RUNS_IN_MAIN bool
backup_co_make_copy(BlockBackup *b, const BlockBackupConfig *c, GError **error)
{
    BlockEdge *target_edge = backup_co_use_nodes(b, error);
    if (target_edge == NULL) {
        return false;
    }
    uint32_t granularity = backup_granularity(b->target);
    BlockCopyConfig copy = {.source = b->source,
                            .target = b->target,
                            .target_edge = target_edge,
                            .todo = block_bitmap_new(block_node_size(b->source), granularity),
                            .unmap = true,
                            .compress = c->compress,
                            .save_timeout_ns = (int64_t)c->cbw_timeout_s * BACKUP_NS_PER_S,
                            .max_claims = c->max_workers,
                            .max_chunk = c->max_chunk};
    if (copy.todo == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "node '%s' is too large for a backup",
                    block_node_name(b->source));
        return false;
    }
    b->copy = block_copy_new(&b->bj, &copy);
    b->filter = backup_filter_new(c->filter_name, b->source, b->copy, c->on_cbw_error, error);
    return b->filter != NULL;
}

BlockBackup *block_backup_co_begin(const BlockBackupConfig *c, GError **error)
{
    if (!backup_check(c, error) || !block_co_move(c->target, c->source->home, error)) {
        return NULL;
    }
    BlockBackup *b = g_new0(BlockBackup, 1);
    if (!block_job_init(&b->bj, &backup_driver, &c->job, c->source->home, b, error)) {
        g_free(b);
        return NULL;
    }
    job_ref(b->bj.job); /* until block_backup_co_finish() */
    b->sync = c->sync;
    b->bitmap = g_strdup(c->bitmap);
    b->bitmap_mode = c->bitmap_mode;
    b->source = c->source;
    b->target = c->target;
    block_node_ref(b->source);
    block_node_ref(b->target);
    if (!backup_co_make_copy(b, c, error)) {
        block_backup_co_finish(b, false);
        return NULL;
    }
    return b;
}

/* What has to be copied. Drained. */
static coroutine_fn RUNS_IN_MAIN bool backup_co_take_bits(BlockBackup *b, GError **error)
{
    BlockDirtyBitmap *todo = block_copy_todo(b->copy);
    bool changes = b->bitmap_mode != BLOCK_BACKUP_NEVER;
    if (b->bitmap != NULL) {
        b->busy = block_dirty_bitmap_co_begin_job(b->source, b->bitmap, changes, todo, error);
    }
    if (b->sync != BLOCK_BACKUP_BITMAP) {
        block_bitmap_set(todo, 0, block_bitmap_size(todo));
    }
    return b->bitmap == NULL || b->busy;
}

bool block_backup_co_insert(BlockBackup *b, GError **error)
{
    BlockGraphChange *change =
        block_graph_co_begin((BlockNode *[]){b->source, b->filter}, 2, error);
    if (change == NULL) {
        return false;
    }
    SP("backup.insert", b);
    bool ok = backup_co_take_bits(b, error);
    backup_overlay_co_keep(&b->overlay, b->target, b->source);
    if (ok) {
        ok = block_graph_insert_filter(change, b->filter, b->source, error) &&
             block_graph_commit(change, error);
        b->inserted = ok;
    }
    if (!ok) {
        block_graph_abort(change);
        backup_overlay_co_unkeep(&b->overlay);
        if (b->busy) {
            block_dirty_bitmap_co_end_job(b->source, b->bitmap, true, NULL);
            b->busy = false;
        }
    }
    block_graph_co_end(change);
    return ok;
}

void block_backup_co_remove(BlockBackup *b)
{
    if (b->inserted) {
        b->bitmap_mode = BLOCK_BACKUP_NEVER;
        backup_co_remove_filter(b, false);
    }
}

void block_backup_co_finish(BlockBackup *b, bool start)
{
    Job *job = b->bj.job;
    if (start) {
        job_start(job);
    } else {
        b->released = true;
        block_job_co_end(&b->bj, backup_co_try_end);
        job_abandon(job); /* a cancel meanwhile has started the job's end */
    }
    job_unref(job);
}

bool block_backup_co_start(const BlockBackupConfig *config, GError **error)
{
    BlockBackup *b = block_backup_co_begin(config, error);
    if (b == NULL) {
        return false;
    }
    bool ok = block_backup_co_insert(b, error);
    block_backup_co_finish(b, ok);
    return ok;
}

BlockNode *block_backup_source(const BlockBackup *b)
{
    return b->source;
}
