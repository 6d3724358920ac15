/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/backup_filter.h"

#include <errno.h>
#include "block/drivers.h"
#include "block/graph.h"
#include "block/job/backup_overlay.h"
#include "util/loop/sched_point.h"

const char *const block_on_cbw_error_names[] = {"break-guest-write", "break-snapshot", NULL};

#define CBW_NS_PER_S INT64_C(1000000000)

typedef struct BackupFilter {
    BlockCopy *copy; /* NULL: detached */
    BlockOnCbwError on_error;
} BackupFilter;

/* Copies what a request is about to change. 0: the request goes on; else it fails. */
static coroutine_fn RUNS_IN_IOTHREAD int backup_before_change(const BlockNode *n, uint64_t offset,
                                                              uint64_t bytes)
{
    const BackupFilter *f = n->state;
    SP("backup.before_change", n);
    int ret = f->copy != NULL ? block_copy_co_save(f->copy, offset, bytes) : 0;
    if (ret == 0 || ret == -ECANCELED) { /* the job ends: nobody needs the old data */
        return 0;
    }
    if (f->on_error == BLOCK_CBW_BREAK_SNAPSHOT) {
        block_copy_break(f->copy, ret);
        return 0;
    }
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_pwritev(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes, const struct iovec *iov,
                                                           unsigned niov, unsigned flags)
{
    int ret = backup_before_change(n, offset, bytes);
    return ret < 0 ? ret : block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
}

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_pwrite_compressed(BlockNode *n, uint64_t offset,
                                                                     uint64_t bytes,
                                                                     const struct iovec *iov,
                                                                     unsigned niov)
{
    int ret = backup_before_change(n, offset, bytes);
    return ret < 0 ? ret
                   : block_node_co_pwritev(n->file, offset, bytes, iov, niov, BLOCK_REQ_COMPRESSED);
}

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_discard(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes)
{
    int ret = backup_before_change(n, offset, bytes);
    return ret < 0 ? ret : block_node_co_discard(n->file, offset, bytes);
}

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                                uint64_t bytes, unsigned flags)
{
    int ret = backup_before_change(n, offset, bytes);
    return ret < 0 ? ret : block_node_co_write_zeroes(n->file, offset, bytes, flags);
}

/* Neither a drained section nor the stop of a device waits for a target that hangs. */
static void backup_lift(BlockNode *n, bool on)
{
    BackupFilter *f = n->state;
    enter_iothread(n->home);
    if (f->copy != NULL) {
        block_copy_lift(f->copy, on);
    }
}

#define BACKUP_FILTER_OPS                                                                          \
    .name = "copy-before-write", .help = "filter that copies to a target what is about to change", \
    .is_filter = true, .shows_file = true, .child_changed = block_job_filter_child_changed,        \
    .co_preadv = block_filter_co_preadv, .co_pwritev = backup_co_pwritev,                          \
    .co_pwrite_compressed = backup_co_pwrite_compressed, .co_discard = backup_co_discard,          \
    .co_write_zeroes = backup_co_write_zeroes, .co_block_status = block_filter_co_block_status,    \
    .lift = backup_lift

static const BlockDriver backup_filter_driver = {BACKUP_FILTER_OPS, .hides_changes = true};

BlockNode *backup_filter_new(const char *name, const BlockNode *source, BlockCopy *copy,
                             BlockOnCbwError on_error, GError **error)
{
    BackupFilter *f = g_new0(BackupFilter, 1);
    f->copy = copy;
    f->on_error = on_error;
    BlockNodeCreate how = {.drv = &backup_filter_driver,
                           .name = name,
                           .home = source->home,
                           .flags = source->flags,
                           .state = f};
    BlockNode *n = block_node_create(&how, error);
    if (n == NULL) {
        g_free(f);
    }
    return n;
}

void backup_filter_co_detach(BlockNode *n)
{
    BackupFilter *f = n->state;
    block_copy_co_detach(&f->copy);
}

/* ---- the driver for users ---- */

typedef struct CbwState {
    BackupFilter f; /* first */
    BackupOverlay overlay;
    /* options */
    int on_error; /* BlockOnCbwError */
    uint32_t timeout_s;
    char *bitmap_node, *bitmap_name; /* NULL: everything is copied */
} CbwState;

static const OptSpec cbw_options[] = {
    OPT_SPEC(CbwState, "on-cbw-error", OPT_ENUM, on_error,
             .help = "what fails if old data cannot be copied: the write, or the copy",
             .def = "break-guest-write", .names = block_on_cbw_error_names),
    OPT_SPEC(CbwState, "cbw-timeout", OPT_U32, timeout_s,
             .help = "seconds after which a copy has failed; 0: none", .def = "0", .max = 86400),
    OPT_SPEC(CbwState, "bitmap.node", OPT_STRING, bitmap_node,
             .help = "a node with a dirty bitmap of what is to be copied; default: everything"),
    OPT_SPEC(CbwState, "bitmap.name", OPT_STRING, bitmap_name, .help = "that bitmap"),
    {0},
};
static const char *const cbw_children[] = {"target", NULL};

static bool cbw_refuse(const BlockNode *n, GError **error, const char *why)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "node '%s': %s", n->name, why);
    return false;
}

/* Sets the bits of what is to be copied. */
static coroutine_fn RUNS_IN_MAIN bool cbw_co_take_bits(const BlockNode *n, BlockDirtyBitmap *todo,
                                                       GError **error)
{
    const CbwState *s = n->state;
    if (s->bitmap_name == NULL && s->bitmap_node == NULL) {
        block_bitmap_set(todo, 0, block_bitmap_size(todo));
        return true;
    }
    BlockNode *of = s->bitmap_node != NULL ? block_node_find(s->bitmap_node) : NULL;
    if (of == NULL || s->bitmap_name == NULL) {
        return cbw_refuse(n, error, "bitmap.node and bitmap.name must name a bitmap of a node");
    }
    if (block_node_size(of) != block_node_size(n->file)) {
        return cbw_refuse(n, error, "the node of the bitmap has another size");
    }
    block_node_ref(of); /* no operation lock is held */
    bool ok = block_dirty_bitmap_co_begin_job(of, s->bitmap_name, false, todo, error);
    if (ok) {
        block_dirty_bitmap_co_end_job(of, s->bitmap_name, true, NULL);
    }
    block_co_unref(of);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool cbw_co_make_copy(BlockNode *n, BlockNode *target,
                                                       GError **error)
{
    CbwState *s = n->state;
    const BlockImageInfo *info = block_node_image_info(target);
    uint32_t cluster = info != NULL ? (uint32_t)info->cluster_size : 0;
    BlockDirtyBitmap *todo =
        block_bitmap_new(block_node_size(n->file), MAX(cluster, BLOCK_BITMAP_GRANULARITY_DEFAULT));
    if (todo == NULL) {
        return cbw_refuse(n, error, "the file is too large");
    }
    if (!cbw_co_take_bits(n, todo, error)) {
        block_bitmap_free(todo);
        return false;
    }
    BlockCopyConfig config = {.source = n->file,
                              .target = target,
                              .todo = todo,
                              .unmap = true,
                              .save_timeout_ns = (int64_t)s->timeout_s * CBW_NS_PER_S};
    s->f.copy = block_copy_new(NULL, &config);
    s->f.on_error = (BlockOnCbwError)s->on_error;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool cbw_co_open(BlockNode *n, GError **error)
{
    CbwState *s = n->state;
    if (!block_node_co_open_child(n, "target", BLOCK_ROLE_DATA, NULL, error)) {
        return false;
    }
    BlockNode *target = block_node_child(n, "target");
    if (target == NULL) {
        return cbw_refuse(n, error, "driver=copy-before-write needs target=NODE or target.driver=");
    }
    if (block_node_size(target) != block_node_size(n->file)) {
        return cbw_refuse(n, error, "file and target have different sizes");
    }
    if (!cbw_co_make_copy(n, target, error)) {
        return false;
    }
    backup_overlay_co_keep(&s->overlay, target, n->file);
    block_job_filter_child_changed(n);
    return true;
}

static coroutine_fn RUNS_IN_MAIN void cbw_co_close(BlockNode *n)
{
    CbwState *s = n->state;
    backup_overlay_co_unkeep(&s->overlay);
    block_copy_co_free(g_steal_pointer(&s->f.copy));
}

/* The copy belongs to the home of the nodes. */
static coroutine_fn RUNS_IN_MAIN bool cbw_co_move_prepare(BlockNode *n, AioContext *home,
                                                          void **state, GError **error)
{
    *state = NULL;
    return true;
}

static coroutine_fn RUNS_IN_MAIN void cbw_co_move_finish(BlockNode *n, void *state, bool committed)
{
    if (committed) {
        block_copy_set_home(((CbwState *)n->state)->f.copy, n->home);
    }
}

const BlockDriver block_driver_copy_before_write = {
    BACKUP_FILTER_OPS,
    .state_size = sizeof(CbwState),
    .options = cbw_options,
    .has_file = true,
    .children = cbw_children,
    .co_open = cbw_co_open,
    .co_close = cbw_co_close,
    .co_move_prepare = cbw_co_move_prepare,
    .co_move_finish = cbw_co_move_finish,
};
