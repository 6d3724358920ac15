/* SPDX-License-Identifier: Apache-2.0 */
#include "block/core/dirty_bitmap.h"
#include <errno.h>
#include <string.h>

/* ---- bits ---- */

static void bitmap_count(BlockDirtyBitmap *b, int64_t change)
{
    uint64_t set = atomic_load_explicit(&b->set, memory_order_relaxed);
    atomic_store_explicit(&b->set, set + (uint64_t)change, memory_order_relaxed);
}

/* Sets bits first to last. */
static void bitmap_set_bits(BlockDirtyBitmap *b, uint64_t first, uint64_t last)
{
    int64_t more = 0;
    for (uint64_t word = first / BITMAP_WORD; word <= last / BITMAP_WORD; word++) {
        uint64_t mask = UINT64_MAX;
        if (word == first / BITMAP_WORD) {
            mask &= UINT64_MAX << first % BITMAP_WORD;
        }
        if (word == last / BITMAP_WORD) {
            mask &= UINT64_MAX >> (BITMAP_WORD - 1 - last % BITMAP_WORD);
        }
        more += __builtin_popcountll(mask & ~b->words[word]);
        b->words[word] |= mask;
    }
    bitmap_count(b, more);
}

void bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes)
{
    if (offset < b->size && bytes > 0) {
        uint64_t end = MIN(bytes, b->size - offset) + offset;
        bitmap_set_bits(b, offset >> b->shift, (end - 1) >> b->shift);
        b->changed = true;
    }
}

void bitmap_resize(BlockDirtyBitmap *b, uint64_t size)
{
    uint64_t bits = bitmap_bits(size, b->shift);
    size_t before = bitmap_words(bitmap_bits(b->size, b->shift)), words = bitmap_words(bits);
    for (size_t i = words; i < before; i++) {
        bitmap_count(b, -__builtin_popcountll(b->words[i]));
    }
    if (words != before) {
        b->words = g_renew(uint64_t, b->words, words);
    }
    if (words > before) {
        memset(b->words + before, 0, (words - before) * sizeof(uint64_t));
    } else if (bits % BITMAP_WORD != 0) {
        uint64_t beyond = b->words[words - 1] & (UINT64_MAX << bits % BITMAP_WORD);
        bitmap_count(b, -__builtin_popcountll(beyond));
        b->words[words - 1] ^= beyond;
    }
    b->size = size;
    b->changed = true;
}

/* The bits of all bitmaps of a node of @size bytes. */
static uint64_t bitmap_total(const BlockNode *n, uint64_t size)
{
    uint64_t total = 0;
    for (const BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        uint64_t bits = b->inconsistent ? 0 : bitmap_bits(size, b->shift);
        total += b->successor != NULL ? 2 * bits : bits;
    }
    return total;
}

bool bitmap_init_bits(BlockDirtyBitmap *b, uint64_t size)
{
    uint64_t bits = bitmap_bits(size, b->shift);
    if (bits > BLOCK_BITMAP_BITS_MAX) {
        return false;
    }
    b->words = g_try_new0(uint64_t, MAX(bitmap_words(bits), 1));
    b->size = size;
    b->changed = true;
    return b->words != NULL;
}

void bitmap_unlink(BlockNode *n, BlockDirtyBitmap *b)
{
    BlockDirtyBitmap **link = &n->bitmaps;
    while (*link != b) {
        link = &(*link)->next;
    }
    *link = b->next;
    b->next = NULL;
    block_lanes_recheck();
}

void bitmap_co_append(BlockNode *n, BlockDirtyBitmap *b)
{
    block_node_co_shut_lanes(n); /* they set no bits */
    BlockDirtyBitmap **link = &n->bitmaps;
    while (*link != NULL) {
        link = &(*link)->next;
    }
    *link = b;
}

/* ---- the node's requests ---- */

void node_bitmaps_set(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    for (BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        if (atomic_load_explicit(&b->enabled, memory_order_relaxed)) {
            bitmap_set(b->successor != NULL ? b->successor : b, offset, bytes);
            b->changed = true;
        }
    }
}

int node_bitmaps_can_resize(const BlockNode *n, uint64_t size)
{
    for (const BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        if (b->inconsistent) {
            return -ENOTSUP;
        }
        if (bitmap_bits(size, b->shift) > BLOCK_BITMAP_BITS_MAX) {
            return -EFBIG;
        }
    }
    return bitmap_total(n, size) > BLOCK_BITMAPS_BITS_MAX ? -EFBIG : 0;
}

void node_bitmaps_resize(BlockNode *n, uint64_t size)
{
    for (BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        if (!b->inconsistent && b->size != size) {
            bitmap_resize(b, size);
            if (b->successor != NULL) {
                bitmap_resize(b->successor, size);
            }
        }
    }
}

/* ---- names ---- */

BlockDirtyBitmap *bitmap_find(const BlockNode *n, const char *name, GError **error)
{
    for (unsigned i = 0; i < n->bitmap_names->len; i++) {
        BlockDirtyBitmap *b = n->bitmap_names->pdata[i];
        if (strcmp(b->name, name) == 0) {
            return b;
        }
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Dirty bitmap '%s' not found", name);
    return NULL;
}

BlockDirtyBitmap *bitmap_find_for(const BlockNode *n, const char *name, unsigned use,
                                  GError **error)
{
    BlockDirtyBitmap *b = bitmap_find(n, name, error);
    if (b == NULL) {
        return NULL;
    }
    if (b->busy || b->users > 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                    "Bitmap '%s' is currently in use by another operation and cannot be used",
                    name);
        return NULL;
    }
    if ((use & BITMAP_FOR_CHANGE) != 0 && b->persistent && n->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Bitmap '%s' is readonly and cannot be modified", name);
        return NULL;
    }
    if ((use & BITMAP_FOR_BITS) != 0 && b->inconsistent) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Bitmap '%s' is inconsistent and cannot be used", name);
        return NULL;
    }
    return b;
}

/* ---- adding and removing ---- */

static RUNS_IN_MAIN bool bitmap_check_name(const BlockNode *n, const char *name, GError **error)
{
    if (bitmap_find(n, name, NULL) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "Bitmap already exists: %s", name);
        return false;
    }
    if (strlen(name) > BLOCK_BITMAP_NAME_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Bitmap name too long: %zu characters, at most %u are allowed", strlen(name),
                    BLOCK_BITMAP_NAME_MAX);
        return false;
    }
    return true;
}

static RUNS_IN_MAIN bool bitmap_check_persistent(const BlockNode *n, const char *name,
                                                 uint32_t granularity, GError **error)
{
    if (n->drv->bitmaps == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't store persistent bitmaps to %s: Operation not supported", n->name);
        return false;
    }
    if (n->flags.read_only) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Can't make bitmap '%s' persistent in '%s': Block node is read-only", name,
                    n->name);
        return false;
    }
    return n->drv->bitmaps->can_store(n, name, granularity, error);
}

/* The refusals come in QEMU's order. */
static RUNS_IN_MAIN bool bitmap_check_new(const BlockNode *n, const char *name,
                                          uint32_t granularity, bool persistent, GError **error)
{
    if (name[0] == '\0') {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Bitmap name cannot be empty");
        return false;
    }
    if (granularity < 512 || (granularity & (granularity - 1)) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Granularity must be power of 2 and at least 512");
        return false;
    }
    return (!persistent || bitmap_check_persistent(n, name, granularity, error)) &&
           bitmap_check_name(n, name, error);
}

static coroutine_fn RUNS_IN_IOTHREAD void bitmap_co_begin(BlockNode *n, bool drained)
{
    if (drained) {
        block_node_begin(n);
    } else {
        block_node_co_begin(n);
    }
}

int bitmap_co_begin_change(BlockNode *n, const BlockDirtyBitmap *b, bool drained)
{
    if (!b->persistent || n->flags.read_only) {
        return 0;
    }
    bitmap_co_begin(n, drained);
    int ret = n->drv->bitmaps->co_change(n);
    block_node_end(n);
    return ret;
}

void bitmap_change_failed(const BlockNode *n, int ret, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                "node '%s': the bitmaps in its image cannot be marked as out of date: %s", n->name,
                g_strerror(-ret));
}

void bitmap_free(BlockDirtyBitmap *b)
{
    if (b->successor != NULL) {
        bitmap_free(b->successor);
    }
    g_free(b->words);
    g_free(b->name);
    g_free(b);
}

typedef struct BitmapCall {
    BlockNode *node;
    BlockDirtyBitmap *bitmap;
    BlockBitmapUndo *undo; /* NULL: no drained section covers the node */
    int ret;
} BitmapCall;

static void bitmap_add_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    BlockNode *n = call->node;
    BlockDirtyBitmap *b = call->bitmap;
    enter_coroutine();
    enter_iothread(n->home);
    call->ret = bitmap_co_begin_change(n, b, call->undo != NULL);
    uint64_t size = block_node_size(n), total = bitmap_total(n, size);
    bool fits = total + bitmap_bits(size, b->shift) <= BLOCK_BITMAPS_BITS_MAX;
    if (call->ret == 0 && (!fits || !bitmap_init_bits(b, size))) {
        call->ret = -EFBIG;
    }
    if (call->ret == 0) {
        bitmap_co_append(n, b);
    }
}

static RUNS_IN_MAIN uint32_t bitmap_default_granularity(BlockNode *n)
{
    const BlockImageInfo *info = block_node_image_info(n);
    uint64_t cluster = info != NULL ? info->cluster_size : 0;
    return cluster == 0 ? BLOCK_BITMAP_GRANULARITY_DEFAULT
                        : (uint32_t)CLAMP(cluster, BLOCK_BITMAP_GRANULARITY_MIN_DEFAULT,
                                          BLOCK_BITMAP_GRANULARITY_DEFAULT);
}

bool bitmap_co_add(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
{
    BlockNode *n = op->node;
    bool persistent = (op->flags & BLOCK_BITMAP_PERSISTENT) != 0;
    uint32_t granularity = op->granularity == 0 ? bitmap_default_granularity(n) : op->granularity;
    if (!bitmap_check_new(n, op->name, granularity, persistent, error)) {
        return false;
    }
    BlockDirtyBitmap *b = g_new0(BlockDirtyBitmap, 1);
    BitmapCall call = {.node = n, .bitmap = b, .undo = undo};
    b->name = g_strdup(op->name);
    b->shift = (unsigned)__builtin_ctz(granularity);
    b->persistent = persistent;
    atomic_store(&b->enabled, (op->flags & BLOCK_BITMAP_DISABLED) == 0);
    g_ptr_array_add(n->bitmap_names, b);
    co_call_in(n->home, bitmap_add_at_home, &call);
    if (call.ret == 0) {
        if (undo != NULL) {
            undo->bitmap = b;
        }
        return true;
    }
    if (call.ret == -EFBIG) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Granularity %u is too fine for a node of %" G_GUINT64_FORMAT " bytes",
                    granularity, block_node_size(n));
    } else {
        bitmap_change_failed(n, call.ret, error);
    }
    g_ptr_array_remove(n->bitmap_names, b);
    bitmap_free(b);
    return false;
}

static void bitmap_remove_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    BlockNode *n = call->node;
    enter_coroutine();
    enter_iothread(n->home);
    if (call->bitmap->persistent) {
        bitmap_co_begin(n, call->undo != NULL);
        call->ret = n->drv->bitmaps->co_remove(n, call->bitmap->name);
        block_node_end(n);
    }
    if (call->ret < 0) {
        return;
    }
    bitmap_unlink(n, call->bitmap);
}

bool bitmap_co_remove(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
{
    BlockNode *n = op->node;
    BitmapCall call = {.node = n, .undo = undo};
    call.bitmap = bitmap_find_for(n, op->name, BITMAP_FOR_CHANGE, error);
    if (call.bitmap == NULL) {
        return false;
    }
    co_call_in(n->home, bitmap_remove_at_home, &call);
    if (call.ret < 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPEN,
                    "Failed to remove bitmap '%s' from the image of node '%s': %s", op->name,
                    n->name, g_strerror(-call.ret));
        return false;
    }
    if (undo != NULL) {
        undo->bitmap = call.bitmap;
        g_ptr_array_find(n->bitmap_names, call.bitmap, &undo->place);
        g_ptr_array_remove(n->bitmap_names, call.bitmap);
        return true;
    }
    g_ptr_array_remove(n->bitmap_names, call.bitmap);
    bitmap_free(call.bitmap);
    return true;
}

/* ---- clearing, enabling ---- */

static void bitmap_clear_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    BlockDirtyBitmap *b = call->bitmap;
    enter_coroutine();
    enter_iothread(call->node->home);
    call->ret = bitmap_co_begin_change(call->node, b, call->undo != NULL);
    if (call->ret == 0 && call->undo != NULL && !bitmap_save_bits(b, call->undo)) {
        call->ret = -ENOMEM;
    }
    if (call->ret == 0) {
        memset(b->words, 0, bitmap_words(bitmap_bits(b->size, b->shift)) * sizeof(uint64_t));
        atomic_store_explicit(&b->set, 0, memory_order_relaxed);
        b->changed = true;
    }
}

bool bitmap_co_clear(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
{
    BlockNode *n = op->node;
    BitmapCall call = {.node = n, .undo = undo};
    call.bitmap = bitmap_find_for(n, op->name, BITMAP_FOR_CHANGE | BITMAP_FOR_BITS, error);
    if (call.bitmap == NULL) {
        return false;
    }
    co_call_in(n->home, bitmap_clear_at_home, &call);
    if (call.ret < 0) {
        bitmap_change_failed(n, call.ret, error);
    } else if (undo != NULL) {
        undo->bitmap = call.bitmap;
    }
    return call.ret == 0;
}

static void bitmap_begin_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->node->home);
    call->ret = bitmap_co_begin_change(call->node, call->bitmap, call->undo != NULL);
}

static void bitmap_nothing_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->node->home);
}

bool bitmap_co_set_enabled(const BlockBitmapOp *op, BlockBitmapUndo *undo, GError **error)
{
    BlockNode *n = op->node;
    BitmapCall call = {.node = n, .undo = undo};
    call.bitmap = bitmap_find_for(n, op->name, BITMAP_FOR_BITS, error);
    if (call.bitmap == NULL) {
        return false;
    }
    co_call_in(n->home, bitmap_begin_at_home, &call);
    if (call.ret < 0) {
        bitmap_change_failed(n, call.ret, error);
        return false;
    }
    if (undo != NULL) {
        undo->bitmap = call.bitmap;
        undo->enabled = atomic_load(&call.bitmap->enabled);
    }
    atomic_store_explicit(&call.bitmap->enabled, op->kind == BLOCK_BITMAP_ENABLE,
                          memory_order_relaxed);
    co_call_in(n->home, bitmap_nothing_at_home, &call); /* what ends after this has seen it */
    return true;
}

/* ---- queries, closing ---- */

unsigned block_dirty_bitmap_count(const BlockNode *n)
{
    return n->bitmap_names->len;
}

void block_dirty_bitmap_info(const BlockNode *n, unsigned i, BlockDirtyBitmapInfo *info)
{
    const BlockDirtyBitmap *b = n->bitmap_names->pdata[i];
    *info = (BlockDirtyBitmapInfo){
        .name = b->name,
        .granularity = (uint32_t)1 << b->shift,
        .dirty_bytes = atomic_load_explicit(&b->set, memory_order_relaxed) << b->shift,
        .recording = atomic_load_explicit(&b->enabled, memory_order_relaxed),
        .persistent = b->persistent,
        .inconsistent = b->inconsistent,
        .busy = b->busy || b->users > 0,
    };
}

bool block_node_can_store_bitmaps(const BlockNode *n)
{
    return n->drv->bitmaps != NULL && n->drv->bitmaps->supports(n);
}

bool node_bitmaps_check_resize(const BlockNode *n, GError **error)
{
    for (unsigned i = 0; i < n->bitmap_names->len; i++) {
        const BlockDirtyBitmap *b = n->bitmap_names->pdata[i];
        if (b->inconsistent && bitmap_find_for(n, b->name, BITMAP_FOR_BITS, error) == NULL) {
            return false;
        }
    }
    return true;
}

void node_bitmaps_free(BlockNode *n)
{
    for (unsigned i = 0; i < n->bitmap_names->len; i++) {
        bitmap_free(n->bitmap_names->pdata[i]);
    }
    g_ptr_array_unref(n->bitmap_names);
}
