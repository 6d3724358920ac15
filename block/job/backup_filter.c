/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/backup_filter.h"

#include <errno.h>
#include "block/graph.h"
#include "util/loop/sched_point.h"

const char *const block_on_cbw_error_names[] = {"break-guest-write", "break-snapshot", NULL};

typedef struct BackupFilter {
    BlockCopy *copy; /* NULL: detached */
    BlockOnCbwError on_error;
} BackupFilter;

static void backup_child_changed(BlockNode *n)
{
    if (n->file == NULL) {
        return; /* the filter leaves the graph */
    }
    n->limits = n->file->limits;
    n->caps = n->file->caps;
    n->caps.grows = false; /* the size is fixed while a job copies the node */
    atomic_store(&n->size, block_node_size(n->file));
}

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

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_preadv(BlockNode *n, uint64_t offset,
                                                          uint64_t bytes, const struct iovec *iov,
                                                          unsigned niov)
{
    return block_node_co_preadv(n->file, offset, bytes, iov, niov);
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

static coroutine_fn RUNS_IN_IOTHREAD int backup_co_block_status(BlockNode *n, uint64_t offset,
                                                                uint64_t bytes, bool precise,
                                                                BlockStatus *status)
{
    *status = (BlockStatus){.bytes = bytes,
                            .flags = BLOCK_STATUS_RAW | BLOCK_STATUS_OFFSET_VALID,
                            .map_node = n->file,
                            .map_offset = offset};
    return 0;
}

static void backup_quiesce(BlockNode *n)
{
    const BackupFilter *f = n->state;
    if (f->copy != NULL) {
        block_copy_release_updates(f->copy);
    }
}

static const BlockDriver backup_filter_driver = {
    .name = "copy-before-write",
    .help = "filter of a backup job",
    .is_filter = true,
    .shows_file = true,
    .hides_changes = true,
    .child_changed = backup_child_changed,
    .co_preadv = backup_co_preadv,
    .co_pwritev = backup_co_pwritev,
    .co_pwrite_compressed = backup_co_pwrite_compressed,
    .co_discard = backup_co_discard,
    .co_write_zeroes = backup_co_write_zeroes,
    .co_block_status = backup_co_block_status,
    .quiesce = backup_quiesce,
};

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

void backup_filter_detach(BlockNode *n)
{
    ((BackupFilter *)n->state)->copy = NULL;
}
