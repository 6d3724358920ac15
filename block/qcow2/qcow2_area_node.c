/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The node of a state area. It lives in the home of the image, which the core makes its child. It is not in
 * the table of drivers: only the block layer creates such nodes.
 */
#include <errno.h>
#include "block/graph.h"
#include "block/qcow2/qcow2_int.h"

typedef struct Qcow2AreaNode {
    Qcow2Area *area; /* referenced */
} Qcow2AreaNode;

/* ---- requests ---- */

static Qcow2Map area_map(const Qcow2Area *a)
{
    return (Qcow2Map){
        .l1 = a->l1, .count = a->count, .tables = (Qcow2Cache *)(uintptr_t)&a->tables};
}

static coroutine_fn RUNS_IN_IOTHREAD int area_co_preadv(BlockNode *n, uint64_t offset,
                                                        uint64_t bytes, const struct iovec *iov,
                                                        unsigned niov)
{
    Qcow2Area *a = ((Qcow2AreaNode *)n->state)->area;
    Qcow2Map m = area_map(a);
    int ret = qcow2_area_begin(a);
    if (ret == 0) {
        ret = qcow2_co_read_map(a->image, &m, offset, bytes, iov, niov);
        qcow2_area_end(a);
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int area_co_pwritev(BlockNode *n, uint64_t offset,
                                                         uint64_t bytes, const struct iovec *iov,
                                                         unsigned niov, unsigned flags)
{
    (void)flags;
    return qcow2_co_area_write(((Qcow2AreaNode *)n->state)->area, offset, bytes, iov, niov);
}

static coroutine_fn RUNS_IN_IOTHREAD int area_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                              uint64_t bytes, unsigned flags)
{
    (void)flags;
    return qcow2_co_area_zero(((Qcow2AreaNode *)n->state)->area, offset, bytes);
}

/* The file's cache is written. Nothing of the area is durable before the snapshot is. */
static coroutine_fn RUNS_IN_IOTHREAD int area_co_flush(BlockNode *n)
{
    const Qcow2AreaNode *node = n->state;
    return block_node_co_flush(node->area->image->file);
}

static coroutine_fn RUNS_IN_IOTHREAD int area_co_block_status(BlockNode *n, uint64_t offset,
                                                              uint64_t bytes, bool precise,
                                                              BlockStatus *status)
{
    Qcow2Area *a = ((Qcow2AreaNode *)n->state)->area;
    Qcow2Map m = area_map(a);
    Qcow2Extent e = {0};
    (void)precise;
    int ret = qcow2_area_begin(a);
    if (ret < 0) {
        return ret;
    }
    ret = qcow2_co_map_in(a->image, &m, offset, bytes, &e);
    qcow2_area_end(a);
    bool zero = e.kind == QCOW2_ZERO || e.kind == QCOW2_UNALLOCATED;
    status->bytes = e.bytes;
    status->flags = zero ? BLOCK_STATUS_ZERO : BLOCK_STATUS_DATA;
    return qcow2_co_save_corrupt(a->image, ret);
}

/* ---- opening and closing ---- */

static void area_close_at_home(void *opaque)
{
    BlockNode *n = opaque;
    enter_coroutine();
    enter_iothread(n->home);
    qcow2_area_unref(((Qcow2AreaNode *)n->state)->area);
}

static coroutine_fn RUNS_IN_MAIN void area_co_close(BlockNode *n)
{
    co_call_in(n->home, area_close_at_home, n);
}

static const BlockDriver qcow2_area_driver = {
    .name = "qcow2-state",
    .help = "the state of a machine in a snapshot of a qcow2 image",
    .state_size = sizeof(Qcow2AreaNode),
    .co_close = area_co_close,
    .co_preadv = area_co_preadv,
    .co_pwritev = area_co_pwritev,
    .co_write_zeroes = area_co_write_zeroes,
    .co_flush = area_co_flush,
    .co_block_status = area_co_block_status,
};

typedef struct AreaOpen {
    BlockNode *image;
    const BlockStateOpen *how;
    Qcow2Area *area;
    GError *error;
} AreaOpen;

static coroutine_fn RUNS_IN_IOTHREAD void area_open_existing(AreaOpen *o)
{
    const Qcow2State *s = o->image->state;
    const Qcow2Snapshot *snap = qcow2_snapshot_find(s, o->how->id, o->how->name);
    if (snap == NULL) {
        g_set_error(&o->error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Can't find snapshot");
        return;
    }
    o->area = qcow2_co_area_open(o->image, snap, &o->error);
}

static void area_open_at_home(void *opaque)
{
    AreaOpen *o = opaque;
    const Qcow2State *s = o->image->state;
    enter_coroutine();
    enter_iothread(o->image->home);
    if (o->how->existing) {
        area_open_existing(o);
        return;
    }
    o->area = s->snap.area;
    if (o->area == NULL || o->area->sealed) {
        o->area = NULL;
        g_set_error(&o->error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "%s: no snapshot with the state of a machine is being created",
                    qcow2_who(o->image));
        return;
    }
    qcow2_area_ref(o->area);
}

static void area_drop_at_home(void *opaque)
{
    AreaOpen *o = opaque;
    enter_coroutine();
    enter_iothread(o->image->home);
    qcow2_area_unref(o->area);
}

BlockNode *qcow2_co_open_state(BlockNode *n, const BlockStateOpen *how, GError **error)
{
    AreaOpen o = {.image = n, .how = how};
    co_call_in(n->home, area_open_at_home, &o);
    if (o.area == NULL) {
        g_propagate_error(error, o.error);
        return NULL;
    }
    Qcow2AreaNode *state = g_new(Qcow2AreaNode, 1);
    state->area = o.area;
    BlockNodeCreate create = {.drv = &qcow2_area_driver,
                              .home = n->home,
                              .flags = {.read_only = how->existing},
                              .state = state};
    BlockNode *node = block_node_create(&create, error);
    if (node == NULL) {
        co_call_in(n->home, area_drop_at_home, &o);
        g_free(state);
        return NULL;
    }
    atomic_store(&node->size, o.area->size);
    return node;
}
