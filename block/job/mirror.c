/* SPDX-License-Identifier: Apache-2.0 */
/* Mirror: start and verbs. */
#include <errno.h>
#include "block/job/mirror_int.h"
#include "util/loop/sched_point.h"

const char *const block_bitmap_mode_names[] = {"on-success", "never", "always", NULL};

/* ---- checks ---- */

static bool mirror_refuse(GError **error, const char *why)
{
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, why);
    return false;
}

/* A node can be replaced if it shows what the source shows: the source, or one below its filters. */
static RUNS_IN_MAIN bool mirror_check_replaces(const BlockMirrorConfig *c, GError **error)
{
    const BlockNode *n = c->source;
    while (n != c->replaces && n->drv->is_filter && n->file != NULL) {
        n = n->file;
    }
    if (n != c->replaces) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Cannot replace '%s' by a node mirrored from '%s', because it cannot be "
                    "guaranteed that doing so would not lead to an abrupt change of visible data",
                    c->replaces->name, c->source->name);
    }
    return n == c->replaces;
}

/* The next image below: the backing node, or what a filter shows. */
static BlockNode *mirror_next(const BlockNode *n)
{
    return n->drv->is_filter ? n->file : n->backing;
}

/* Backing nodes between @n and @base; 0: it is not below. */
static unsigned mirror_depth(const BlockNode *n, const BlockNode *base)
{
    unsigned depth = 0;
    for (; n != NULL && n != base; n = mirror_next(n)) {
        depth += !n->drv->is_filter;
    }
    return n != NULL ? depth : 0;
}

static RUNS_IN_MAIN bool mirror_check(const BlockMirrorConfig *c, GError **error)
{
    uint32_t g = c->granularity;
    if (g != 0 && (g < 512 || g > (64u << 20) || (g & (g - 1)) != 0)) {
        return mirror_refuse(error, g < 512 || g > (64u << 20)
                                        ? "Parameter 'granularity' expects a value in range "
                                          "[512B, 64MB]"
                                        : "Parameter 'granularity' expects a power of 2");
    }
    if (c->source == c->target) {
        return mirror_refuse(error, "Can't mirror node into itself");
    }
    if (c->commit) {
        return mirror_depth(c->source, c->target) > 0 ||
               mirror_refuse(error, "The base is not an image below the top");
    }
    if (block_node_reaches(c->target, c->source)) {
        return mirror_refuse(error, "The source is part of the target");
    }
    if (block_node_size(c->source) != block_node_size(c->target)) {
        return mirror_refuse(error, "Source and target image have different sizes");
    }
    return c->replaces == NULL || mirror_check_replaces(c, error);
}

/* A target that does not get everything has whole clusters or its old ones. */
static RUNS_IN_MAIN uint32_t mirror_granularity(const BlockMirrorConfig *c)
{
    const BlockImageInfo *info = block_node_image_info(c->target);
    uint64_t cluster = info != NULL ? info->cluster_size : 0;
    uint64_t granularity = c->granularity;
    if (granularity == 0) {
        granularity = cluster == 0 ? BLOCK_BITMAP_GRANULARITY_DEFAULT
                                   : CLAMP(cluster, BLOCK_BITMAP_GRANULARITY_MIN_DEFAULT,
                                           BLOCK_BITMAP_GRANULARITY_DEFAULT);
    }
    return (uint32_t)(c->sync == BLOCK_MIRROR_FULL && !c->commit ? granularity
                                                                 : MAX(granularity, cluster));
}

/* ---- start ---- */

/* Commit: the images above the target, which change their meaning, and the target have no other user. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_use_chain(MirrorJob *m, GError **error)
{
    bool ok = true;
    for (BlockNode *n = mirror_next(m->source); ok && n != m->target; n = mirror_next(n)) {
        ok = block_job_co_add_node(&m->bj, n, BLOCK_USE_READ | BLOCK_USE_GRAPH, 0, error) != NULL;
    }
    return ok;
}

/* The uses of the nodes, in which conflicts with others show. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_use_nodes(MirrorJob *m, GError **error)
{
    BlockJob *bj = &m->bj;
    unsigned others = BLOCK_USE_ALL & ~(unsigned)(BLOCK_USE_GRAPH);
    if (!block_job_check_fixed_size(m->source, error) ||
        block_job_co_add_node(bj, m->source, BLOCK_USE_READ | BLOCK_USE_GRAPH, others, error) ==
            NULL ||
        (m->commit && !mirror_co_use_chain(m, error))) {
        return false;
    }
    m->target_edge =
        block_job_co_add_node(bj, m->target, mirror_target_uses(m), mirror_target_shares(m), error);
    return m->target_edge != NULL &&
           (m->replaces == NULL ||
            block_job_co_add_node(bj, m->replaces, BLOCK_USE_GRAPH, others, error) != NULL);
}

/* The user waits for the end: from now on guests' writes wait for the target. */
static void mirror_outpaced(void *opaque)
{
    const MirrorJob *m = opaque;
    enter_iothread(m->source->home);
    mirror_filter_set_active(m->filter, true);
}

static coroutine_fn RUNS_IN_MAIN bool mirror_co_make_copy(MirrorJob *m, const BlockMirrorConfig *c,
                                                          GError **error)
{
    uint32_t granularity = mirror_granularity(c);
    BlockCopyConfig copy = {.source = m->source,
                            .target = m->target,
                            .todo = block_bitmap_new(block_node_size(m->source), granularity),
                            .memory = c->buf_size,
                            .unmap = c->unmap,
                            .whole_units = c->commit || c->sync != BLOCK_MIRROR_FULL,
                            .target_is_zero = c->target_is_zero};
    if (copy.todo == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Granularity %u is too fine for a node of %" G_GUINT64_FORMAT " bytes",
                    granularity, block_node_size(m->source));
        return false;
    }
    m->copy = block_copy_new(&m->bj, &copy);
    block_copy_set_outpaced(m->copy, mirror_outpaced, m);
    m->filter = mirror_filter_new(c->filter_name, m->source, m->copy, c->write_blocking, error);
    return m->filter != NULL;
}

typedef struct MirrorResize {
    MirrorJob *m;
    int ret;
} MirrorResize;

static void mirror_resize_at_home(void *opaque)
{
    MirrorResize *r = opaque;
    enter_coroutine();
    enter_iothread(r->m->source->home);
    r->ret = block_node_co_truncate(r->m->target, block_node_size(r->m->source));
}

/* Commit: the target gets the size of the source. It is drained. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_resize_target(MirrorJob *m, GError **error)
{
    MirrorResize r = {.m = m};
    uint64_t size = block_node_size(m->source), has = block_node_size(m->target);
    if (has == size || (m->keep_chain && has > size)) {
        return true;
    }
    co_call_in(m->source->home, mirror_resize_at_home, &r);
    if (r.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s', the base, cannot get the size of '%s': %s", m->target->name,
                    m->source->name, g_strerror(-r.ret));
    }
    return r.ret == 0;
}

static coroutine_fn RUNS_IN_MAIN bool mirror_co_begin_bitmap(MirrorJob *m, const char *bitmap,
                                                             GError **error)
{
    bool changes = m->bitmap_mode != BLOCK_BITMAP_NEVER;
    bool ok = bitmap == NULL || block_dirty_bitmap_co_begin_job(m->source, bitmap, changes,
                                                                block_copy_todo(m->copy), error);
    m->bitmap = ok ? g_strdup(bitmap) : NULL;
    return ok;
}

/* In one drained section: the filter comes, and the bits of the bitmap are taken. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_insert_filter(MirrorJob *m, const char *bitmap,
                                                              GError **error)
{
    m->change = block_graph_co_begin((BlockNode *[]){m->source, m->filter}, 2, error);
    if (m->change == NULL) {
        return false;
    }
    bool ok = mirror_co_begin_bitmap(m, bitmap, error);
    if (ok) {
        SP("mirror.insert", m);
        m->inserted = block_graph_insert_filter(m->change, m->filter, m->source, error) &&
                      block_graph_commit(m->change, error);
        ok = m->inserted;
    }
    if (ok && m->commit) {
        ok = mirror_co_use_nodes(m, error) && mirror_co_resize_target(m, error);
    }
    block_copy_set_target_edge(m->copy, m->target_edge);
    block_graph_co_end(m->change);
    m->change = NULL;
    return ok;
}

static RUNS_IN_MAIN MirrorJob *mirror_new(const BlockMirrorConfig *c)
{
    MirrorJob *m = g_new0(MirrorJob, 1);
    m->sync = c->sync;
    m->commit = c->commit;
    m->keep_chain = c->keep_chain;
    m->depth = c->commit ? mirror_depth(c->source, c->target) : 0;
    m->target_read_only = block_node_read_only(c->target);
    m->bitmap_mode = c->bitmap_mode;
    m->source = c->source;
    m->target = c->target;
    m->replaces = c->replaces != c->source ? c->replaces : NULL;
    m->backing = c->backing;
    BlockNode *nodes[] = {m->source, m->target, m->replaces, m->backing};
    for (unsigned i = 0; i < G_N_ELEMENTS(nodes); i++) {
        if (nodes[i] != NULL) {
            block_node_ref(nodes[i]);
        }
    }
    return m;
}

/* The job exists. */
static coroutine_fn RUNS_IN_MAIN bool mirror_co_set_up(MirrorJob *m, const BlockMirrorConfig *c,
                                                       GError **error)
{
    Job *job = m->bj.job;
    job_ref(job);
    bool ok = (m->commit ? block_node_co_set_read_only(m->target, false, error)
                         : mirror_co_use_nodes(m, error)) &&
              mirror_co_make_copy(m, c, error) && mirror_co_insert_filter(m, c->bitmap, error);
    if (ok) {
        job_start(job);
    } else {
        mirror_co_end(m);
        m->released = true; /* a cancel meanwhile has started the job's end */
        job_abandon(job);
    }
    job_unref(job);
    return ok;
}

Job *block_mirror_co_start(const BlockMirrorConfig *c, GError **error)
{
    if (!mirror_check(c, error)) {
        return NULL;
    }
    MirrorJob *m = mirror_new(c);
    const JobDriver *driver = c->commit ? &block_commit_active_driver : &block_mirror_driver;
    if (!block_co_move_held(m->target, m->source->home, 1, error) ||
        !block_job_init(&m->bj, driver, &c->job, m->source->home, m, error)) {
        mirror_co_unref_nodes(m);
        g_free(m);
        return NULL;
    }
    Job *job = m->bj.job;
    return mirror_co_set_up(m, c, error) ? job : NULL;
}

/* ---- verbs ---- */

static bool mirror_cancel(Job *job, bool force)
{
    MirrorJob *m = job_state(job);
    enter_main();
    JobStatus status = job_status(job);
    if (m->committed) {
        return false;
    }
    if (!force && (status == JOB_STATUS_READY || status == JOB_STATUS_STANDBY)) {
        m->finish = true;
        block_copy_hurry(m->copy);
        return false;
    }
    block_copy_abandon(m->copy);
    return true;
}

static void mirror_free(void *state)
{
    MirrorJob *m = state;
    enter_main();
    block_job_clear(&m->bj);
    g_free(m);
}

#define MIRROR_DRIVER(name)                                                                        \
    {                                                                                              \
        .type = name, .is_block_job = true, .can_complete = true, .co_run = mirror_co_run,         \
        .co_prepare = mirror_co_prepare, .co_clean = mirror_co_clean, .cancel = mirror_cancel,     \
        .free = mirror_free,                                                                       \
    }

const JobDriver block_mirror_driver = MIRROR_DRIVER("mirror");
const JobDriver block_commit_active_driver = MIRROR_DRIVER("commit");

bool block_mirror_write_blocking(const Job *job)
{
    const MirrorJob *m = job_state(job);
    return mirror_filter_active(m->filter);
}

static void mirror_apply_write_blocking(Job *job)
{
    enter_main();
    mirror_filter_set_active(((const MirrorJob *)job_state(job))->filter, true);
}

bool block_mirror_set_write_blocking(Job *job, GError **error)
{
    return job_change(job, mirror_apply_write_blocking, error);
}

bool block_mirror_actively_synced(const Job *job)
{
    return ((const MirrorJob *)job_state(job))->synced;
}
