/* SPDX-License-Identifier: Apache-2.0 */
/* The file driver: reopening a file with other options, and moving it to another iothread. */
#include <unistd.h>
#include <string.h>
#include "block/file/driver_file.h"
#include "block/file/file_opener.h"
#include "util/fdset.h"

/* Whether a new descriptor is needed. */
static bool reopen_needs_fd(const BlockNode *n, const BlockReopen *r)
{
    const FileState *old = n->state, *new = r->state;
    return n->flags.read_only != r->flags.read_only ||
           n->flags.cache_direct != r->flags.cache_direct ||
           n->flags.force_share != r->flags.force_share || old->locking != new->locking;
}

typedef struct FileReopen {
    BlockNode *node;
    BlockReopen *r;
    bool committed;
    GError *error;
} FileReopen;

/* Removes the locks that the preparation added to the old descriptor, which stays. */
static RUNS_IN_WORKER void reopen_forget_locks(const BlockNode *n, const BlockReopen *r)
{
    const FileState *old = n->state;
    FileLockMode old_mode = file_lock_mode(old, &n->flags);
    FileLockMode mode = file_lock_mode(r->state, &r->flags);
    file_lock_forget(old->fd, &old_mode, &mode);
}

static int reopen_open_work(void *opaque)
{
    FileReopen *f = opaque;
    enter_worker();
    BlockReopen *r = f->r;
    FileState *new = r->state;
    /* A temporary node for this function only: the real one serves queries meanwhile. */
    BlockNode as_asked = *f->node;
    as_asked.state = new;
    as_asked.flags = r->flags;
    as_asked.limits = r->limits;
    new->replaces = f->node;
    bool ok = file_open(&as_asked, &f->error);
    new->replaces = NULL;
    if (!ok) {
        return -1;
    }
    r->flags = as_asked.flags;
    r->limits = as_asked.limits;
    if (!new->is_device) { /* a node may cover only a part of a device */
        r->size = block_node_size(&as_asked);
    }
    return 0;
}

static int reopen_close_work(void *opaque)
{
    const FileReopen *f = opaque;
    enter_worker();
    const FileState *left = f->r->state;
    if (left->fd >= 0) {
        if (!f->committed) {
            reopen_forget_locks(f->node, f->r);
        }
        close(left->fd);
    }
    return 0;
}

static coroutine_fn RUNS_IN_MAIN bool reopen_co_open_fd(BlockNode *n, BlockReopen *r,
                                                        GError **error)
{
    FileReopen f = {.node = n, .r = r};
    FileState *new = r->state;
    new->fd = -1;
    if (!reopen_needs_fd(n, r)) {
        return true;
    }
    if (fdset_is_path(new->filename)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "'%s': a descriptor passed by a client keeps its properties: read-only, "
                    "cache.direct, force-share and locking cannot change",
                    new->filename);
        return false;
    }
    r->limits.request_alignment = r->limits.memory_alignment = 1;
    int ret;
    if (!file_co_run_opener(new->filename, reopen_open_work, &f, &ret, error)) {
        return false;
    }
    if (ret != 0) {
        new->fd = -1;
        g_propagate_error(error, f.error);
        return false;
    }
    return true;
}

bool file_co_reopen_prepare(BlockNode *n, BlockReopen *r, GError **error)
{
    const FileState *old = n->state;
    FileState *new = r->state;
    new->fd = -1;
    co_queue_init(&new->sync_waiters);
    if (strcmp(old->filename, new->filename) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Cannot change the option 'filename' of node '%s'", n->name);
        return false;
    }
    if (!file_check_engine(new, r->flags.cache_direct, error)) {
        return false;
    }
    new->engine = block_co_engine_get(n->home, (BlockEngineKind) new->aio, error);
    if (new->engine == NULL) {
        return false;
    }
    if (!reopen_co_open_fd(n, r, error)) {
        block_co_engine_put(new->engine);
        return false;
    }
    return true;
}

void file_reopen_commit(BlockNode *n, BlockReopen *r)
{
    FileState *old = n->state, *new = r->state;
    if (new->fd < 0) {
        new->fd = old->fd;
        new->is_device = old->is_device;
        old->fd = -1;
    }
    new->no_punch_hole = old->no_punch_hole;
    new->no_zero_range = old->no_zero_range;
    new->flush_error = old->flush_error; /* the pages are still lost */
    n->state = new;
    r->state = old;
}

void file_co_reopen_clean(BlockNode *n, BlockReopen *r, bool committed)
{
    FileReopen f = {.node = n, .r = r, .committed = committed};
    FileState *left = r->state;
    block_co_engine_put(left->engine);
    co_run_in_lane(&left->lane, reopen_close_work, &f);
}

bool file_co_move_prepare(BlockNode *n, AioContext *home, void **state, GError **error)
{
    const FileState *s = n->state;
    *state = block_co_engine_get(home, (BlockEngineKind)s->aio, error);
    return *state != NULL;
}

void file_co_move_finish(BlockNode *n, void *state, bool committed)
{
    FileState *s = n->state;
    BlockEngine *left = state;
    if (committed) {
        left = s->engine;
        s->engine = state;
    }
    block_co_engine_put(left);
}
