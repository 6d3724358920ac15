/* SPDX-License-Identifier: Apache-2.0 */
/* The state machine of operations on snapshots: qcow2_snap.h. */
#include <errno.h>
#include "block/qcow2/qcow2_int.h"

/* ---- clusters that are the active image's own ---- */

void qcow2_snap_allocated(BlockNode *n, uint64_t cluster, uint64_t count)
{
    const Qcow2State *s = n->state;
    GArray *fresh = s->snap.fresh;
    if (fresh == NULL) {
        return;
    }
    uint64_t words = (cluster + count - 1) / 64 + 1;
    if (words > fresh->len) {
        g_array_set_size(fresh, (guint)words); /* filled with zeroes */
    }
    for (uint64_t c = cluster; c < cluster + count; c++) {
        g_array_index(fresh, uint64_t, c / 64) |= (uint64_t)1 << (c % 64);
    }
}

bool qcow2_owns(const BlockNode *n, uint64_t entry)
{
    const Qcow2State *s = n->state;
    const GArray *fresh = s->snap.fresh;
    uint64_t cluster = (entry & QCOW2_OFFSET_MASK) >> s->header.cluster_bits;
    if (fresh == NULL || (entry & QCOW2_ENTRY_COPIED) == 0) {
        return (entry & QCOW2_ENTRY_COPIED) != 0;
    }
    return cluster / 64 < fresh->len &&
           (g_array_index(fresh, uint64_t, cluster / 64) >> (cluster % 64) & 1) != 0;
}

/* ---- ends ---- */

static RUNS_IN_IOTHREAD void step_clear(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    if (p->area != NULL) {
        p->area->sealed = true;
        qcow2_area_unref(p->area);
    }
    qcow2_walk_clear(&p->walk);
    qcow2_snapshot_clear(&p->target);
    g_clear_pointer(&p->fresh, g_array_unref);
    *p = (Qcow2Snap){0};
}

void qcow2_snap_cancel(BlockNode *n)
{
    Qcow2State *s = n->state;
    if (s->snap.state != QCOW2_SNAP_IDLE) {
        step_clear(n);
        s->snap.cancelled = true; /* until the next step, which is the operation's last one */
    }
}

/* The disk gets all counts and flags, which match now, and then loses the dirty bit. After an error
 * the bit stays until the image is completed on disk. */
static coroutine_fn RUNS_IN_IOTHREAD void step_end_dirty(BlockNode *n)
{
    const Qcow2State *s = n->state;
    const Qcow2Writer *w = &s->w;
    bool dirty = (s->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY) != 0;
    if (dirty && w->begun && !w->lazy && !w->flags_wrong && qcow2_co_flush(n) == 0 && !w->corrupt) {
        qcow2_co_clear_dirty(n);
    }
}

static coroutine_fn RUNS_IN_IOTHREAD void step_drop_fresh(BlockNode *n)
{
    Qcow2State *s = n->state;
    qcow2_co_flags_begin(&s->w);
    g_clear_pointer(&s->snap.fresh, g_array_unref);
    qcow2_flags_end(&s->w);
    qcow2_free_start(n); /* what was held back */
}

static coroutine_fn RUNS_IN_IOTHREAD int step_end(BlockNode *n, int ret)
{
    Qcow2State *s = n->state;
    bool completed = s->snap.cancelled;
    step_drop_fresh(n);
    step_clear(n);
    if (!completed) {
        step_end_dirty(n);
    }
    return ret;
}

/* Names the operation that has failed with @ret, which it returns. */
static int step_say(BlockSnapshotKind kind, int ret, const char **what)
{
    if (ret < 0 && kind == BLOCK_SNAPSHOT_APPLY) {
        *what = "Failed to load snapshot";
    }
    return ret;
}

/* ---- begin and switch ---- */

static RUNS_IN_IOTHREAD int step_check(const BlockNode *n, const BlockSnapshotOp *op,
                                       const char **what)
{
    const Qcow2State *s = n->state;
    if (!qcow2_has_data_file(&s->header)) {
        return 0;
    }
    if (op->info != NULL && op->info->vm_state_size > 0) {
        *what = "the image has a data file, which snapshots do not cover";
    }
    bool missing =
        op->kind == BLOCK_SNAPSHOT_DELETE && qcow2_snapshot_find(s, op->id, op->name) == NULL;
    return missing ? -ENOENT : -ENOTSUP; /* snapshots do not cover the data file */
}

static coroutine_fn RUNS_IN_IOTHREAD int step_begin(BlockNode *n, const BlockSnapshotOp *op,
                                                    const char **what)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    int ret = step_check(n, op, what);
    if (ret == 0) {
        ret = qcow2_co_begin_change(n);
    }
    if (ret < 0) {
        return step_say(op->kind, ret, what);
    }
    *p = (Qcow2Snap){.state = QCOW2_SNAP_READY, .kind = op->kind};
    switch (op->kind) {
    case BLOCK_SNAPSHOT_CREATE:
        ret = qcow2_co_create_begin(n, op, what);
        break;
    case BLOCK_SNAPSHOT_APPLY:
        ret = qcow2_co_apply_begin(n, op);
        break;
    case BLOCK_SNAPSHOT_DELETE:
        ret = qcow2_co_delete_begin(n, op, what);
        break;
    }
    ret = qcow2_co_save_corrupt(n, ret < 0 ? step_end(n, ret) : 0);
    return step_say(op->kind, ret, what);
}

static coroutine_fn RUNS_IN_IOTHREAD int step_switch(BlockNode *n, const char **what)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    BlockSnapshotKind kind = p->kind;
    int ret = 0;
    if (p->cancelled) {
        return step_end(n, -ECANCELED);
    }
    switch (kind) {
    case BLOCK_SNAPSHOT_CREATE:
        qcow2_create_switch(n);
        p->state = QCOW2_SNAP_RAISING;
        break;
    case BLOCK_SNAPSHOT_APPLY:
        ret = qcow2_co_apply_switch(n);
        p->state = QCOW2_SNAP_RAISING;
        break;
    case BLOCK_SNAPSHOT_DELETE:
        p->state = QCOW2_SNAP_LOWERING;
        break;
    }
    return ret < 0 ? step_say(kind, step_end(n, qcow2_co_save_corrupt(n, ret)), what) : 1;
}

/* ---- steps ---- */

/* From now on the walk lowers what it has raised. */
static RUNS_IN_IOTHREAD int step_undo(BlockNode *n, int error)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    p->state = QCOW2_SNAP_UNDOING;
    p->error = error;
    p->undo_index = p->walk.index;
    p->undo_slice = p->walk.slice;
    p->walk.index = 0;
    p->walk.slice = 0;
    if (p->walk.flags == QCOW2_WALK_TABLES) { /* only the active image needs right flags */
        p->walk.flags = QCOW2_WALK_NONE;
    }
    return 1;
}

/* Before the first count of a cluster of the active image changes. */
static coroutine_fn RUNS_IN_IOTHREAD int step_mark(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    bool changes = p->walk.flags == QCOW2_WALK_ACTIVE;
    int ret = !changes || p->marked ? 0 : qcow2_co_set_dirty(n);
    p->marked = changes && ret == 0;
    return ret;
}

/* All counts are raised, and all flags are right: the active image does not need `fresh` any more. */
static coroutine_fn RUNS_IN_IOTHREAD int step_raised(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    p->state = QCOW2_SNAP_STORING;
    if (p->kind != BLOCK_SNAPSHOT_CREATE) {
        return BLOCK_SNAPSHOT_MORE;
    }
    step_drop_fresh(n);
    if (p->area != NULL) { /* the store can be a long time off */
        step_end_dirty(n);
        p->marked = false;
    }
    return BLOCK_SNAPSHOT_RAISED;
}

static coroutine_fn RUNS_IN_IOTHREAD int step_raise(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    if (qcow2_walk_ended(&p->walk)) {
        return step_raised(n);
    }
    int ret = step_mark(n);
    if (ret == 0) {
        ret = qcow2_co_walk(n, &p->walk, 1);
    }
    return ret < 0 ? step_undo(n, ret) : BLOCK_SNAPSHOT_MORE;
}

static coroutine_fn RUNS_IN_IOTHREAD int step_store(BlockNode *n, BlockSnapshotOp *op)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    bool unsure = false;
    if (p->area != NULL) {
        qcow2_co_area_seal(p->area);
    }
    int ret = p->kind == BLOCK_SNAPSHOT_CREATE ? qcow2_co_create_store(n, &unsure)
                                               : qcow2_co_apply_store(n, &unsure);
    if (ret < 0) {
        return unsure ? step_end(n, ret) : step_undo(n, ret);
    }
    if (p->kind == BLOCK_SNAPSHOT_CREATE) {
        return step_end(n, 0);
    }
    op->size = block_align_down(s->header.size, BLOCK_SECTOR_SIZE);
    p->state = QCOW2_SNAP_LOWERING;
    return 1;
}

static coroutine_fn RUNS_IN_IOTHREAD int step_lower(BlockNode *n, const char **what)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    int ret = 0;
    if (!qcow2_walk_ended(&p->walk)) {
        ret = qcow2_co_walk(n, &p->walk, -1);
        if (ret == 0) {
            return 1;
        }
    } else if (p->old_l1_bytes > 0) {
        qcow2_free_later(n, p->old_l1, p->old_l1_bytes, true);
    }
    if (ret == 0) {
        ret = qcow2_co_flush(n);
    }
    if (ret < 0 && p->kind == BLOCK_SNAPSHOT_DELETE) {
        *what = "Failed to free the cluster and L1 table";
    }
    if (ret < 0 && p->kind == BLOCK_SNAPSHOT_APPLY) {
        ret = 0; /* it is applied; what the old disk had leaks */
    }
    return step_end(n, ret);
}

/* The counts of what the disk has are as before: now those of the state area. */
static coroutine_fn RUNS_IN_IOTHREAD int step_undone(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    Qcow2Area *a = p->area;
    if (a == NULL) {
        return step_end(n, p->error);
    }
    qcow2_co_area_seal(a);
    qcow2_walk_clear(&p->walk);
    p->walk = (Qcow2Walk){
        .l1 = g_memdup2(a->l1, a->count * sizeof(uint64_t)),
        .count = a->count,
        .flags = QCOW2_WALK_NONE,
        .tables = &a->tables,
    };
    p->state = QCOW2_SNAP_FREEING;
    return BLOCK_SNAPSHOT_MORE;
}

static coroutine_fn RUNS_IN_IOTHREAD int step_undo_more(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    bool ended = p->walk.index == p->undo_index && p->walk.slice == p->undo_slice;
    int ret = ended || qcow2_walk_ended(&p->walk) ? -1 : step_mark(n);
    if (ret == 0) {
        ret = qcow2_co_walk(n, &p->walk, -1);
    }
    if (ret == 0) {
        return BLOCK_SNAPSHOT_MORE;
    }
    return step_undone(n); /* after an error the rest leaks */
}

static coroutine_fn RUNS_IN_IOTHREAD int step_free(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2Snap *p = &s->snap;
    if (!qcow2_walk_ended(&p->walk) && qcow2_co_walk(n, &p->walk, -1) == 0) {
        return BLOCK_SNAPSHOT_MORE;
    }
    return step_end(n, p->error); /* after an error the rest leaks */
}

static coroutine_fn RUNS_IN_IOTHREAD int step_cancel(BlockNode *n)
{
    Qcow2State *s = n->state;
    Qcow2SnapState state = s->snap.state;
    bool can =
        state == QCOW2_SNAP_READY || state == QCOW2_SNAP_RAISING || state == QCOW2_SNAP_STORING;
    return can ? step_undo(n, -ECANCELED) : BLOCK_SNAPSHOT_MORE;
}

static coroutine_fn RUNS_IN_IOTHREAD int step_step(BlockNode *n, BlockSnapshotOp *op,
                                                   const char **what)
{
    Qcow2State *s = n->state;
    if (s->snap.cancelled) {
        return step_end(n, -ECANCELED);
    }
    int ret = qcow2_co_begin_change(n); /* the image may have been completed on disk */
    if (ret < 0) {
        return step_end(n, ret);
    }
    if (qcow2_cache_filling(&s->l2)) {
        qcow2_co_make_room(n); /* else requests wait for room; an error shows if there is none */
    }
    switch (s->snap.state) {
    case QCOW2_SNAP_RAISING:
        ret = step_raise(n);
        break;
    case QCOW2_SNAP_STORING:
        ret = step_store(n, op);
        break;
    case QCOW2_SNAP_LOWERING:
        ret = step_lower(n, what);
        break;
    case QCOW2_SNAP_UNDOING:
        ret = step_undo_more(n);
        break;
    case QCOW2_SNAP_FREEING:
        ret = step_free(n);
        break;
    case QCOW2_SNAP_IDLE:
    case QCOW2_SNAP_READY:
        g_assert_not_reached();
    }
    return step_say(op->kind, qcow2_co_save_corrupt(n, ret), what);
}

const BlockSnapshotDriver qcow2_snapshot_driver = {
    .co_begin = step_begin,
    .co_switch = step_switch,
    .co_step = step_step,
    .co_cancel = step_cancel,
    .co_open_state = qcow2_co_open_state,
};
