/* SPDX-License-Identifier: Apache-2.0 */
/* Backends: life cycle and size. Their requests are in backend_request.c. */
#include <errno.h>
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/dirty_bitmap.h"
#include "block/core/node_int.h"
#include "util/loop/held.h"

static GPtrArray *backends; /* main; NULL when there is none */

/* ---- life cycle ---- */

BlockBackend *blk_find(const char *name)
{
    for (unsigned i = 0; backends != NULL && i < backends->len; i++) {
        BlockBackend *blk = g_ptr_array_index(backends, i);
        if (blk->is_drive && strcmp(blk->name, name) == 0) {
            return blk;
        }
    }
    return NULL;
}

BlockBackend **blk_list(unsigned *count)
{
    *count = backends != NULL ? backends->len : 0;
    BlockBackend **list = g_new0(BlockBackend *, *count + 1);
    for (unsigned i = 0; i < *count; i++) {
        list[i] = g_ptr_array_index(backends, i);
    }
    return list;
}

BlockBackend **blk_list_drives(unsigned *count)
{
    unsigned all;
    BlockBackend **list = blk_list(&all);
    *count = 0;
    for (unsigned i = 0; i < all; i++) {
        if (list[i]->is_drive) {
            list[(*count)++] = list[i];
        }
    }
    return list;
}

BlockBackend *blk_co_new_for(const char *user, const char *reads, BlockNode *root, bool writable,
                             GError **error)
{
    block_node_co_pass_gate(root);
    g_autofree char *who = g_strdup(user);
    BlockBackend *blk = g_new0(BlockBackend, 1);
    BlockEdge like = {.node = root, .blk = blk, .user = who, .reads = reads};
    block_edge_set_uses(&like, writable);
    blk->edge = block_edge_new(&like, error);
    if (blk->edge == NULL) {
        g_free(blk);
        return NULL;
    }
    blk->root = root;
    blk->home = root->home;
    blk->name = g_strdup(user);
    blk->writable = writable;
    atomic_init(&blk->write_cache, true);
    blk->queued_tail = &blk->queued;
    blk_note_size(blk);
    if (backends == NULL) {
        backends = g_ptr_array_new();
    }
    g_ptr_array_add(backends, blk);
    return blk;
}

BlockBackend *blk_co_new(const char *name, BlockNode *root, bool writable, GError **error)
{
    block_node_co_pass_gate(root); /* before the check, since it may wait */
    if (blk_find(name) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "a drive named '%s' exists already",
                    name);
        return NULL;
    }
    g_autofree char *who = g_strdup_printf("drive '%s'", name);
    BlockBackend *blk = blk_co_new_for(who, "read-only=on", root, writable, error);
    if (blk != NULL) {
        g_free(blk->name);
        blk->name = g_strdup(name);
        blk->is_drive = true;
    }
    return blk;
}

bool blk_is_drive(const BlockBackend *blk)
{
    return blk->is_drive;
}

typedef struct BlkRetire {
    BlockBackend *blk;
    GPtrArray *nodes;
} BlkRetire;

static void blk_retire_at_home(void *opaque)
{
    const BlkRetire *retire = opaque;
    BlockBackend *blk = retire->blk;
    enter_coroutine();
    enter_iothread(blk->home);
    if (!blk_drain_retire(blk, retire->nodes) || blk->macros != NULL || blk_in_flight(blk) != 0) {
        bug_abort("backend '%s' is freed while it is in use", blk->name);
    }
    blk_throttle_retire(blk);
    if (blk->lanes != NULL) {
        lanes_retire(blk->lanes);
    }
}

void blk_co_free(BlockBackend *blk)
{
    if (blk == NULL) {
        return;
    }
    if (blk->sections != 0) {
        bug_abort("backend '%s' is freed inside a drained section", blk->name);
    }
    blk->retiring = true;
    co_drained_begin(&blk, 1); /* this section never ends */
    BlkRetire retire = {.blk = blk, .nodes = block_node_tree(blk->root)};
    co_call_in(blk->home, blk_retire_at_home, &retire);
    g_ptr_array_unref(retire.nodes);
    lanes_co_free(blk->own_lanes);
    held_pop(RANK_DRAINED, blk);
    g_ptr_array_remove(backends, blk);
    if (backends->len == 0) {
        g_clear_pointer(&backends, g_ptr_array_unref);
    }
    block_edge_co_free(blk->edge);
    if (blk->throttle_group != NULL) {
        throttle_group_unref(blk->throttle_group);
    }
    blk_account_clear(&blk->account);
    g_free(blk->name);
    g_free(blk);
}

void blk_set_notify(BlockBackend *blk, const BlkNotify *notify)
{
    static const BlkNotify none;
    if (blk->sections == 0 && blk->notify.quiesce != NULL) {
        bug_abort("backend '%s': its notify functions change outside a drained section", blk->name);
    }
    blk->notify = notify != NULL ? *notify : none;
}

void blk_set_owner(BlockBackend *blk, const void *owner)
{
    blk->owner = owner;
}

const void *blk_owner(const BlockBackend *blk)
{
    return blk->owner;
}

const char *blk_name(const BlockBackend *blk)
{
    return blk->name;
}

AioContext *blk_home(const BlockBackend *blk)
{
    return blk->home;
}

BlockNode *blk_root(const BlockBackend *blk)
{
    return blk->root;
}

bool blk_read_only(const BlockBackend *blk)
{
    return !blk->writable;
}

uint64_t blk_size(const BlockBackend *blk)
{
    return atomic_load_explicit(&blk->size, memory_order_relaxed);
}

void blk_note_size(BlockBackend *blk)
{
    uint64_t size = block_align_up(block_node_size(blk->root), BLOCK_SECTOR_SIZE);
    atomic_store_explicit(&blk->size, size, memory_order_relaxed);
}

void blk_note_sizes(const BlockNode *root)
{
    unsigned count;
    g_autofree BlockBackend **blks = blk_list_of(root, &count);
    for (unsigned i = 0; i < count; i++) {
        blk_note_size(blks[i]);
    }
}

BlockLimits blk_limits(const BlockBackend *blk)
{
    BlockLimits limits = blk->root->limits;
    if (!blk->root->flags.discard_unmap || blk->root->drv->co_discard == NULL) {
        limits.max_discard = 0;
    }
    return limits;
}

void blk_set_write_cache(BlockBackend *blk, bool on)
{
    atomic_store_explicit(&blk->write_cache, on, memory_order_relaxed);
}

bool blk_write_cache(const BlockBackend *blk)
{
    return atomic_load_explicit(&blk->write_cache, memory_order_relaxed);
}

typedef struct BlkTruncate {
    BlockBackend *blk;
    uint64_t size;
    int ret;
} BlkTruncate;

static void blk_truncate_at_home(void *opaque)
{
    BlkTruncate *t = opaque;
    enter_coroutine();
    enter_iothread(t->blk->home);
    t->ret = block_node_co_truncate(t->blk->root, t->size);
}

/* All backends of @root: an array to be freed with g_free(). */
BlockBackend **blk_list_of(const BlockNode *root, unsigned *count)
{
    unsigned all;
    BlockBackend **list = blk_list(&all);
    *count = 0;
    for (unsigned i = 0; i < all; i++) {
        if (list[i]->root == root) {
            list[(*count)++] = list[i];
        }
    }
    return list;
}

static coroutine_fn RUNS_IN_MAIN void blk_co_truncate_drained(BlkTruncate *t)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_of(t->blk->root, &count);
    co_drained_begin(list, count);
    co_call_in(t->blk->home, blk_truncate_at_home, t);
    co_drained_end(list, count);
    for (unsigned i = 0; t->ret == 0 && i < count; i++) {
        if (list[i]->notify.resized != NULL) {
            list[i]->notify.resized(list[i]->notify.opaque);
        }
    }
}

int blk_co_truncate(BlockBackend *blk, uint64_t size, GError **error)
{
    BlkTruncate t = {.blk = blk, .size = size};
    bool aligned = block_is_aligned(size, BLOCK_SECTOR_SIZE);
    if (!node_bitmaps_check_resize(blk->root, error)) {
        return -ENOTSUP;
    }
    if (!blk->writable) {
        t.ret = -EPERM;
    } else if (!aligned) {
        t.ret = -EINVAL;
    } else {
        blk_co_truncate_drained(&t);
    }
    if (t.ret < 0) {
        const char *why = !aligned            ? "the size must be a multiple of 512"
                          : t.ret == -ENOTSUP ? "its driver cannot resize"
                                              : g_strerror(-t.ret);
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "node '%s' cannot be resized to %" G_GUINT64_FORMAT " bytes: %s",
                    block_node_name(blk->root), size, why);
    }
    return t.ret;
}
