/* SPDX-License-Identifier: Apache-2.0 */
/* Backends: life cycle, and the border that every request crosses. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "block/core/backend_int.h"
#include "block/core/dirty_bitmap.h"
#include "block/core/node_int.h"
#include "block/trace_events.h"
#include "util/loop/held.h"
#include "util/loop/sched_point.h"

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
    return block_align_up(block_node_size(blk->root), BLOCK_SECTOR_SIZE);
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

/* ---- begin and end of a request ---- */

static coroutine_fn RUNS_IN_IOTHREAD int blk_co_queue(BlockBackend *blk, BlkRequest *r)
{
    if (blk->hurries && !r->unlimited) {
        return BLK_NOT_STARTED;
    }
    trace_block_request_queue(blk->name, r->op);
    WaitRecord record;
    r->wait = &record;
    r->token = co_arm();
    r->next = NULL;
    *blk->queued_tail = r;
    blk->queued_tail = &r->next;
    wait_begin_at(&record, &blk->drainer, "the end of a drained section");
    co_wait(r->token);
    wait_end(&record);
    return r->result;
}

static RUNS_IN_IOTHREAD bool blk_in_own_macro(const BlockBackend *blk)
{
    for (const BlkMacro *m = blk->macros; m != NULL; m = m->next) {
        if (m->owner == co_self()) {
            return true;
        }
    }
    return false;
}

/* Counts the request, or queues it until the section ends, which counts it. 0, or BLK_NOT_STARTED
 * and the request is not counted. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_co_admit(BlockBackend *blk, BlkRequest *r)
{
    assert_home(blk->home);
    r->owner = co_self();
    if (__builtin_expect(blk->quiesced > 0, 0) && !blk_in_own_macro(blk)) {
        return blk_co_queue(blk, r);
    }
    blk_count_in(blk);
    return 0;
}

/* Waits until the limits of the backend allow a read or write. A part of a macro operation, which is
 * in flight already, is charged only. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_co_throttle(BlockBackend *blk, BlkRequest *r)
{
    bool is_write = r->account == BLK_OP_WRITE;
    if (r->bytes == 0 || (!is_write && r->account != BLK_OP_READ)) {
        return 0;
    }
    if (blk_in_own_macro(blk)) {
        throttle_member_charge(blk->throttle, is_write, r->bytes);
        return 0;
    }
    r->start_ns = aio_batch_now_ns(blk->home); /* the wait counts as time of the request */
    trace_block_request_throttle(blk->name, r->op, r->offset, r->bytes);
    return throttle_member_co_wait(blk->throttle, is_write, r->bytes);
}

/* 0, or BLK_NOT_STARTED, and then the request must not be ended. */
static coroutine_fn RUNS_IN_IOTHREAD int blk_request_co_begin(BlockBackend *blk, BlkRequest *r)
{
    int ret = __builtin_expect(blk->throttle != NULL, 0) ? blk_co_throttle(blk, r) : 0;
    if (ret == 0) {
        ret = blk_co_admit(blk, r);
    }
    if (ret < 0) {
        return ret;
    }
    r->next = blk->requests;
    r->link = &blk->requests;
    if (r->next != NULL) {
        r->next->link = &r->next;
    }
    blk->requests = r;
    if (r->start_ns == 0) {
        r->start_ns = aio_batch_now_ns(blk->home);
    }
    trace_block_request_begin(blk->name, r->op, r->offset, r->bytes, blk_in_flight(blk));
    return 0;
}

static RUNS_IN_IOTHREAD int blk_request_end(BlockBackend *blk, BlkRequest *r, int ret)
{
    SP("block.request_end", blk);
    assert_home(blk->home);
    if (r->owner != co_self() || r->link == NULL || ret > 0) {
        bug_abort("backend '%s': a %s ends a second time, elsewhere, or with %d", blk->name, r->op,
                  ret);
    }
    *r->link = r->next;
    if (r->next != NULL) {
        r->next->link = r->link;
    }
    r->link = NULL;
    if (r->account != BLK_OP_COUNT) {
        blk_account_end(&blk->account, r->account, r->offset, r->bytes, r->start_ns,
                        aio_batch_now_ns(blk->home), ret);
    }
    trace_block_request_end(blk->name, r->op, r->offset, ret);
    blk_count_out(blk);
    return ret;
}

void blk_co_macro_begin(BlockBackend *blk, BlkMacro *macro)
{
    BlkRequest r = {.op = "macro", .unlimited = true};
    blk_co_admit(blk, &r);
    *macro = (BlkMacro){.owner = co_self(), .next = blk->macros, .link = &blk->macros};
    if (macro->next != NULL) {
        macro->next->link = &macro->next;
    }
    blk->macros = macro;
}

void blk_macro_end(BlockBackend *blk, BlkMacro *macro)
{
    assert_home(blk->home);
    if (macro->owner != co_self() || macro->link == NULL) {
        bug_abort("backend '%s': a macro operation ends that is not its coroutine's", blk->name);
    }
    *macro->link = macro->next;
    if (macro->next != NULL) {
        macro->next->link = macro->link;
    }
    macro->link = NULL;
    blk_count_out(blk);
}

/* ---- requests ---- */

/* Returns 0, or the error of an invalid request. Reads the size while the request is in flight,
 * because a drained section may have changed it. */
static int blk_check(const BlockBackend *blk, uint64_t offset, uint64_t bytes, bool changes)
{
    uint64_t size = blk_size(blk);
    if (offset > size || bytes > size - offset) {
        return -EINVAL;
    }
    return changes && !blk->writable ? -EPERM : 0;
}

/* A flag that the operation does not support is the caller's bug. */
static void blk_check_flags(const BlockBackend *blk, const BlkRequest *r, unsigned honoured,
                            unsigned flags)
{
    if ((flags & ~honoured) != 0) {
        bug_abort("backend '%s': a %s honours flags %#x, not %#x", blk->name, r->op, honoured,
                  flags);
    }
}

static unsigned blk_write_flags(const BlockBackend *blk, unsigned flags)
{
    return blk_write_cache(blk) ? flags : flags | BLOCK_REQ_FUA;
}

int blk_co_preadv(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                  unsigned niov, unsigned flags)
{
    assert(iov_size(iov, niov) == bytes);
    BlkRequest r = {.op = "read", .account = BLK_OP_READ, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, 0, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, false);
    if (ret == 0) {
        ret = block_node_co_preadv(blk->root, offset, bytes, iov, niov);
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_pwritev(BlockBackend *blk, uint64_t offset, uint64_t bytes, const struct iovec *iov,
                   unsigned niov, unsigned flags)
{
    assert(iov_size(iov, niov) == bytes);
    BlkRequest r = {.op = "write", .account = BLK_OP_WRITE, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, BLOCK_REQ_FUA | BLOCK_REQ_COMPRESSED, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret =
            block_node_co_pwritev(blk->root, offset, bytes, iov, niov, blk_write_flags(blk, flags));
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_flush(BlockBackend *blk)
{
    BlkRequest r = {.op = "flush", .account = BLK_OP_FLUSH};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk->writable ? block_node_co_flush(blk->root) : 0;
    return blk_request_end(blk, &r, ret);
}

int blk_co_discard(BlockBackend *blk, uint64_t offset, uint64_t bytes)
{
    BlkRequest r = {.op = "discard", .account = BLK_OP_UNMAP, .offset = offset, .bytes = bytes};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret = block_node_co_discard(blk->root, offset, bytes);
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_write_zeroes(BlockBackend *blk, uint64_t offset, uint64_t bytes, unsigned flags)
{
    BlkRequest r = {
        .op = "write-zeroes", .account = BLK_OP_WRITE, .offset = offset, .bytes = bytes};
    blk_check_flags(blk, &r, BLOCK_REQ_FUA | BLOCK_REQ_MAY_UNMAP | BLOCK_REQ_NO_FALLBACK, flags);
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, true);
    if (ret == 0) {
        ret = block_node_co_write_zeroes(blk->root, offset, bytes, blk_write_flags(blk, flags));
    }
    return blk_request_end(blk, &r, ret);
}

int blk_co_block_status(BlockBackend *blk, uint64_t offset, uint64_t bytes, bool precise,
                        BlockStatus *status)
{
    BlkRequest r = {
        .op = "block-status", .account = BLK_OP_COUNT, .offset = offset, .bytes = bytes};
    int ret = blk_request_co_begin(blk, &r);
    if (ret < 0) {
        return ret;
    }
    ret = blk_check(blk, offset, bytes, false);
    if (ret == 0) {
        ret = block_node_co_block_status(blk->root, offset, bytes, precise, status);
    }
    return blk_request_end(blk, &r, ret);
}

/* ---- resizing ---- */

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
