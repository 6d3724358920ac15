/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations on internal snapshots: the order in which main calls the driver.
 *
 *   create   begin | drained section: switch           | step, step, ...
 *   apply    begin | drained section: switch, step, step, ...
 *   delete   begin | switch                            | step, step, ...
 *
 * A backend of the operation's own keeps the node open and in its home: it is refused to delete, move
 * or reopen the node without it. Its use of the node refuses jobs, external snapshots and other
 * changes of the graph there. Each step is counted at the node, so a drained section of others
 * waits for one step at most, and the next step waits for the end of the section.
 */
#include <errno.h>
#include "block/core/backend_int.h"
#include "block/core/node_int.h"
#include "block/graph.h"
#include "block/trace_events.h"

#define SNAPSHOT_STEPS 4u /* of the driver, in one turn of the home */

struct BlockSnapshotRun {
    BlockNode *node;
    BlockSnapshotOp op;
    BlockBackend *own; /* the operation's backend */
    BlockEdge *use;    /* refuses jobs and changes of the graph here */
    const char *what;
    int ret;      /* above 0: there is more to do (BlockSnapshotStep) */
    bool drained; /* a section of the caller covers the node */
    bool switched;
    _Atomic bool cancelled;
    bool undoes; /* home: the driver knows it */
};

/* ---- calls of the driver, in the home ---- */

static void snapshot_begin_at_home(void *opaque)
{
    BlockSnapshotRun *s = opaque;
    BlockNode *n = s->node;
    enter_coroutine();
    enter_iothread(n->home);
    block_node_co_begin(n);
    s->ret = n->drv->snapshots->co_begin(n, &s->op, &s->what);
    block_node_end(n);
}

static void snapshot_switch_at_home(void *opaque)
{
    BlockSnapshotRun *s = opaque;
    BlockNode *n = s->node;
    enter_coroutine();
    enter_iothread(n->home);
    block_node_begin(n);
    s->ret = n->drv->snapshots->co_switch(n, &s->what);
    block_node_end(n);
}

static void snapshot_step_at_home(void *opaque)
{
    BlockSnapshotRun *s = opaque;
    BlockNode *n = s->node;
    unsigned steps = 0;
    enter_coroutine();
    enter_iothread(n->home);
    if (s->drained) {
        block_node_begin(n);
    } else {
        block_node_co_begin(n);
    }
    if (atomic_load(&s->cancelled) && !s->undoes) {
        s->undoes = true;
        s->ret = n->drv->snapshots->co_cancel(n);
    }
    while (s->ret > 0 && steps < SNAPSHOT_STEPS && (steps == 0 || s->drained || n->quiesced == 0)) {
        s->ret = n->drv->snapshots->co_step(n, &s->op, &s->what);
        steps = s->ret == BLOCK_SNAPSHOT_RAISED ? SNAPSHOT_STEPS : steps + 1;
    }
    if (s->ret == 0 && s->op.kind == BLOCK_SNAPSHOT_APPLY) {
        atomic_store(&n->size, s->op.size);
    }
    block_node_end(n);
}

static coroutine_fn RUNS_IN_MAIN void snapshot_co_steps(BlockSnapshotRun *s)
{
    while (s->ret > 0) {
        co_call_in(s->node->home, snapshot_step_at_home, s);
    }
}

BlockNode *block_snapshot_node(const BlockSnapshotRun *s)
{
    return s->node;
}

BlockSnapshotInfo block_snapshot_info_now(const char *name)
{
    int64_t now_us = g_get_real_time();
    return (BlockSnapshotInfo){
        .name = (char *)(uintptr_t)name,
        .date_s = (uint32_t)(now_us / G_USEC_PER_SEC),
        .date_ns = (uint32_t)(now_us % G_USEC_PER_SEC) * 1000,
        .icount = UINT64_MAX,
    };
}

/* ---- in main ---- */

static coroutine_fn RUNS_IN_MAIN void snapshot_co_run_drained(BlockSnapshotRun *s)
{
    unsigned count;
    bool apply = s->op.kind == BLOCK_SNAPSHOT_APPLY;
    g_autofree BlockBackend **list = blk_list_of(s->node, &count);
    int64_t begin_ns = aio_now_ns(s->node->home);
    BlockSection *section = block_nodes_co_drained_begin(&s->node, 1);
    co_call_in(s->node->home, snapshot_switch_at_home, s);
    if (apply) {
        s->drained = true;
        snapshot_co_steps(s);
        s->drained = false;
    }
    block_nodes_co_drained_end(section);
    trace_block_snapshot_freeze(s->node->name, aio_now_ns(s->node->home) - begin_ns);
    for (unsigned i = 0; apply && s->ret == 0 && i < count; i++) {
        if (list[i]->notify.resized != NULL) {
            list[i]->notify.resized(list[i]->notify.opaque);
        }
    }
}

static RUNS_IN_MAIN bool snapshot_has_writer(const BlockNode *n)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_of(n, &count);
    bool found = false;
    for (unsigned i = 0; i < count; i++) {
        found = found || list[i]->writable;
    }
    return found;
}

/* A writer if the node has none, else a reader beside it. */
static coroutine_fn RUNS_IN_MAIN bool snapshot_co_attach(BlockSnapshotRun *s, GError **error)
{
    BlockNode *n = s->node;
    if (block_node_read_only(n)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Block node is read-only");
        return false;
    }
    if (n->snapshotting) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "an operation on its internal snapshots is running");
        return false;
    }
    if (!block_node_check_no_job(n, error)) {
        return false;
    }
    s->own = blk_co_new_for("an operation on internal snapshots", NULL, n, !snapshot_has_writer(n),
                            error); /* refused if a node writes */
    if (s->own == NULL) {
        return false;
    }
    blk_set_stays(s->own);
    s->use =
        block_user_co_new(n, "an operation on internal snapshots", BLOCK_USE_READ | BLOCK_USE_GRAPH,
                          BLOCK_USE_ALL & ~(unsigned)BLOCK_USE_GRAPH, error);
    if (s->use == NULL) {
        blk_co_free(s->own);
        return false;
    }
    /* The driver does it, in short steps. But the requests to a state area may hang. */
    s->use->awaited = s->op.info == NULL || s->op.info->vm_state_size == 0;
    return true;
}

static coroutine_fn RUNS_IN_MAIN void snapshot_co_end_own(BlockSnapshotRun *s)
{
    s->node->snapshotting = false;
    block_user_co_free(s->use);
    blk_co_free(s->own);
}

static void snapshot_fail(const BlockSnapshotRun *s, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s%s%s", s->what != NULL ? s->what : "",
                s->what != NULL ? ": " : "", g_strerror(-s->ret));
}

/* The operation up to the switch. NULL: @error is set. */
static coroutine_fn RUNS_IN_MAIN BlockSnapshotRun *
snapshot_co_prepare(BlockNode *n, const BlockSnapshotOp *op, int *ret, GError **error)
{
    *ret = -ENOTSUP;
    if (n->drv->snapshots == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    op->kind == BLOCK_SNAPSHOT_APPLY ? "Block driver does not support snapshots"
                                                     : "Operation not supported");
        return NULL;
    }
    g_autofree BlockSnapshotRun *s = g_new(BlockSnapshotRun, 1);
    *s = (BlockSnapshotRun){.node = n, .op = *op};
    *ret = -EBUSY;
    if (op->kind == BLOCK_SNAPSHOT_APPLY && n->bitmap_names->len > 0) {
        /* the bitmaps would not have what changes */
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "Device has active dirty bitmaps");
        return NULL;
    }
    if (!snapshot_co_attach(s, error)) {
        return NULL;
    }
    n->snapshotting = true;
    co_call_in(n->home, snapshot_begin_at_home, s);
    *ret = s->ret;
    if (s->ret < 0) {
        snapshot_co_end_own(s);
        snapshot_fail(s, error);
        return NULL;
    }
    return g_steal_pointer(&s);
}

BlockSnapshotRun *block_node_co_snapshot_begin(BlockNode *n, const BlockSnapshotOp *op, int *ret,
                                               GError **error)
{
    g_autofree BlockSnapshotRun *s = snapshot_co_prepare(n, op, ret, error);
    if (s == NULL) {
        return NULL;
    }
    s->switched = true;
    if (op->kind == BLOCK_SNAPSHOT_DELETE) {
        co_call_in(n->home, snapshot_switch_at_home, s);
    } else {
        snapshot_co_run_drained(s);
    }
    *ret = MIN(s->ret, 0);
    if (s->ret < 0) {
        snapshot_co_end_own(s);
        snapshot_fail(s, error);
        return NULL;
    }
    return g_steal_pointer(&s);
}

BlockSnapshotRun *block_node_co_snapshot_prepare(BlockNode *n, const BlockSnapshotInfo *info,
                                                 GError **error)
{
    int ret;
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = info};
    return snapshot_co_prepare(n, &op, &ret, error);
}

BlockSnapshotRun *block_node_co_snapshot_prepare_apply(BlockNode *n, const char *id_or_name,
                                                       GError **error)
{
    int ret;
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_APPLY, .name = id_or_name};
    return snapshot_co_prepare(n, &op, &ret, error);
}

int block_snapshot_co_apply(BlockSnapshotRun *s, GError **error)
{
    BlockNode *n = s->node;
    s->switched = true;
    snapshot_co_run_drained(s);
    int ret = block_snapshot_co_end(s, error);
    blk_note_sizes(n); /* a snapshot has a size of its own */
    return ret;
}

bool block_snapshot_co_switch(BlockSnapshotRun *s, GError **error)
{
    s->switched = true;
    if (atomic_load(&s->cancelled)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN, "%s", g_strerror(ECANCELED));
        return false; /* the run undoes it */
    }
    co_call_in(s->node->home, snapshot_switch_at_home, s);
    if (s->ret < 0) {
        snapshot_fail(s, error);
    }
    return s->ret >= 0;
}

bool block_snapshot_co_run_drained(BlockSnapshotRun *s, GError **error)
{
    s->drained = true;
    snapshot_co_steps(s);
    s->drained = false;
    if (s->ret < 0) {
        snapshot_fail(s, error);
    }
    return s->ret == 0;
}

void block_snapshot_co_run(BlockSnapshotRun *s)
{
    snapshot_co_steps(s);
}

void block_snapshot_co_raise(BlockSnapshotRun *s)
{
    while (s->ret == BLOCK_SNAPSHOT_MORE) {
        co_call_in(s->node->home, snapshot_step_at_home, s);
    }
}

void block_snapshot_cancel(BlockSnapshotRun *s)
{
    if (s->op.kind != BLOCK_SNAPSHOT_CREATE && s->switched) {
        bug_abort("node '%s': only the creation of a snapshot is cancelled", s->node->name);
    }
    atomic_store(&s->cancelled, true);
    if (!s->switched && s->ret == 0) {
        s->ret = BLOCK_SNAPSHOT_MORE; /* the run has something to do */
    }
}

int block_snapshot_co_end(BlockSnapshotRun *s, GError **error)
{
    if (!s->switched && s->ret == 0) { /* only prepared */
        block_snapshot_cancel(s);
        snapshot_co_steps(s);
    }
    int ret = s->ret;
    snapshot_co_end_own(s);
    if (ret < 0) {
        snapshot_fail(s, error);
    }
    g_free(s);
    return ret;
}

/* ---- the state of a machine ---- */

static coroutine_fn RUNS_IN_MAIN BlockNode *
snapshot_co_open_state(BlockNode *n, const BlockStateOpen *how, GError **error)
{
    block_node_co_pass_gate(n);
    if (!block_node_can_snapshot(n) || n->drv->snapshots->co_open_state == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "node '%s': images of driver '%s' cannot have the state of a machine", n->name,
                    n->drv->name);
        return NULL;
    }
    BlockNode *state = n->drv->snapshots->co_open_state(n, how, error);
    if (state == NULL) {
        return NULL;
    }
    BlockEdge like = {.parent = state,
                      .node = n,
                      .name = (char *)(uintptr_t) "image",
                      .user = (char *)(uintptr_t) "the state of a snapshot",
                      .role = BLOCK_ROLE_DATA,
                      .stays = true,
                      .aside = true,
                      .uses = BLOCK_USE_READ,
                      .shares = BLOCK_USE_ALL};
    if (block_edge_new(&like, error) == NULL) {
        block_co_unref(state);
        return NULL;
    }
    return state;
}

BlockNode *block_snapshot_co_open_state(BlockSnapshotRun *s, GError **error)
{
    return snapshot_co_open_state(s->node, &(BlockStateOpen){0}, error);
}

BlockNode *block_node_co_open_snapshot_state(BlockNode *n, const char *id, const char *name,
                                             GError **error)
{
    return snapshot_co_open_state(n, &(BlockStateOpen){.existing = true, .id = id, .name = name},
                                  error);
}

/* ---- the whole ---- */

static coroutine_fn RUNS_IN_MAIN int snapshot_co_do(BlockNode *n, const BlockSnapshotOp *op,
                                                    GError **error)
{
    int ret;
    BlockSnapshotRun *s = block_node_co_snapshot_begin(n, op, &ret, error);
    if (s == NULL) {
        return ret;
    }
    block_snapshot_co_run(s);
    return block_snapshot_co_end(s, error);
}

int block_node_co_snapshot_create(BlockNode *n, const BlockSnapshotInfo *info, GError **error)
{
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_CREATE, .info = info};
    return snapshot_co_do(n, &op, error);
}

int block_node_co_snapshot_apply(BlockNode *n, const char *id_or_name, GError **error)
{
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_APPLY, .name = id_or_name};
    int ret = snapshot_co_do(n, &op, error);
    blk_note_sizes(n); /* a snapshot has a size of its own */
    return ret;
}

int block_node_co_snapshot_delete(BlockNode *n, const char *id, const char *name, GError **error)
{
    BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .id = id, .name = name};
    return snapshot_co_do(n, &op, error);
}

bool block_node_can_snapshot(const BlockNode *n)
{
    return n->drv->snapshots != NULL;
}

/* The formats that have snapshots are those whose metadata is in memory. */
bool blk_defers_metadata(const BlockBackend *blk)
{
    const BlockNode *n = blk_root(blk);
    while (n != NULL && !block_node_can_snapshot(n)) {
        n = n->file;
    }
    return n != NULL;
}
