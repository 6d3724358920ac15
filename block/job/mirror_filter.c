/* SPDX-License-Identifier: Apache-2.0 */
#include "block/job/mirror_filter.h"

#include "block/graph.h"

typedef struct MirrorFilter {
    BlockCopy *copy; /* NULL: detached */
    _Atomic bool active;
} MirrorFilter;

/* The range may have changed, also if the request has failed. */
static coroutine_fn RUNS_IN_IOTHREAD void mirror_after_change(const BlockNode *n, uint64_t offset,
                                                              uint64_t bytes)
{
    MirrorFilter *f = n->state;
    if (f->copy == NULL) {
        return;
    }
    if (f->active && n->lifted == 0) {
        block_copy_co_update(f->copy, offset, bytes);
    } else {
        block_copy_mark(f->copy, offset, bytes);
    }
}

static coroutine_fn RUNS_IN_IOTHREAD int mirror_co_pwritev(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes, const struct iovec *iov,
                                                           unsigned niov, unsigned flags)
{
    int ret = block_node_co_pwritev(n->file, offset, bytes, iov, niov, flags);
    mirror_after_change(n, offset, bytes);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int mirror_co_discard(BlockNode *n, uint64_t offset,
                                                           uint64_t bytes)
{
    int ret = block_node_co_discard(n->file, offset, bytes);
    mirror_after_change(n, offset, bytes);
    return ret;
}

static coroutine_fn RUNS_IN_IOTHREAD int mirror_co_write_zeroes(BlockNode *n, uint64_t offset,
                                                                uint64_t bytes, unsigned flags)
{
    int ret = block_node_co_write_zeroes(n->file, offset, bytes, flags);
    mirror_after_change(n, offset, bytes);
    return ret;
}

/* Neither a drained section nor the stop of a device waits for a target that hangs. */
static void mirror_lift(BlockNode *n, bool on)
{
    MirrorFilter *f = n->state;
    enter_iothread(n->home);
    if (f->copy != NULL) {
        block_copy_lift(f->copy, on);
    }
}

static const BlockDriver mirror_filter_driver = {
    .name = "mirror_top",
    .help = "filter of a mirror job",
    .is_filter = true,
    .hides_changes = true,
    .shows_file = true,
    .child_changed = block_job_filter_child_changed,
    .co_preadv = block_filter_co_preadv,
    .co_pwritev = mirror_co_pwritev,
    .co_discard = mirror_co_discard,
    .co_write_zeroes = mirror_co_write_zeroes,
    .co_block_status = block_filter_co_block_status,
    .lift = mirror_lift,
};

BlockNode *mirror_filter_new(const char *name, const BlockNode *source, BlockCopy *copy,
                             bool active, GError **error)
{
    MirrorFilter *f = g_new0(MirrorFilter, 1);
    f->copy = copy;
    atomic_init(&f->active, active);
    BlockNodeCreate how = {.drv = &mirror_filter_driver,
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

void mirror_filter_set_active(BlockNode *n, bool active)
{
    ((MirrorFilter *)n->state)->active = active;
}

bool mirror_filter_active(const BlockNode *n)
{
    return ((MirrorFilter *)n->state)->active;
}

void mirror_filter_co_detach(BlockNode *n)
{
    MirrorFilter *f = n->state;
    block_copy_co_detach(&f->copy);
}
