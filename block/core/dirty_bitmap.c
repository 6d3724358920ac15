/* SPDX-License-Identifier: Apache-2.0 */
#include "block/core/dirty_bitmap.h"
#include <string.h>

struct BlockDirtyBitmap {
    /* config */
    char *name;
    unsigned shift; /* a bit stands for 1 << shift bytes */
    _Atomic bool enabled;
    /* runtime, in the node's home */
    uint64_t size; /* bytes of the node that have a bit */
    uint64_t *words;
    _Atomic uint64_t set; /* bits; read by main too */
    BlockDirtyBitmap *next;
};

#define BITMAP_WORD 64u

/* ---- bits ---- */

static uint64_t bitmap_bits(uint64_t size, unsigned shift)
{
    return (size >> shift) + ((size & (((uint64_t)1 << shift) - 1)) != 0);
}

static size_t bitmap_words(uint64_t bits)
{
    return (size_t)((bits + BITMAP_WORD - 1) / BITMAP_WORD);
}

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

static void bitmap_set(BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes)
{
    if (offset < b->size && bytes > 0) {
        uint64_t end = MIN(bytes, b->size - offset) + offset;
        bitmap_set_bits(b, offset >> b->shift, (end - 1) >> b->shift);
    }
}

static void bitmap_resize(BlockDirtyBitmap *b, uint64_t size)
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
}

/* ---- the node's requests ---- */

void node_bitmaps_set(BlockNode *n, uint64_t offset, uint64_t bytes)
{
    for (BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        if (atomic_load_explicit(&b->enabled, memory_order_relaxed)) {
            bitmap_set(b, offset, bytes);
        }
    }
}

bool node_bitmaps_can_resize(const BlockNode *n, uint64_t size)
{
    for (const BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        if (bitmap_bits(size, b->shift) > BLOCK_BITMAP_BITS_MAX) {
            return false;
        }
    }
    return true;
}

void node_bitmaps_resize(BlockNode *n, uint64_t size)
{
    for (BlockDirtyBitmap *b = n->bitmaps; b != NULL; b = b->next) {
        bitmap_resize(b, size);
    }
}

/* ---- names ---- */

static RUNS_IN_MAIN BlockDirtyBitmap *bitmap_find(const BlockNode *n, const char *name,
                                                  GError **error)
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

static RUNS_IN_MAIN bool bitmap_check_new(const BlockNode *n, const char *name,
                                          uint32_t granularity, GError **error)
{
    if (name[0] == '\0') {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "Bitmap name cannot be empty");
    } else if (strlen(name) > BLOCK_BITMAP_NAME_MAX) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Bitmap name too long: %zu characters, at most %u are allowed", strlen(name),
                    BLOCK_BITMAP_NAME_MAX);
    } else if (bitmap_find(n, name, NULL) != NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE, "Bitmap already exists: %s", name);
    } else if (granularity < 512 || (granularity & (granularity - 1)) != 0) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Granularity must be power of 2 and at least 512");
    } else {
        return true;
    }
    return false;
}

static void bitmap_free(BlockDirtyBitmap *b)
{
    g_free(b->words);
    g_free(b->name);
    g_free(b);
}

typedef struct BitmapCall {
    BlockNode *node;
    BlockDirtyBitmap *bitmap;
    bool ok;
} BitmapCall;

static void bitmap_add_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    BlockDirtyBitmap *b = call->bitmap;
    enter_coroutine();
    enter_iothread(call->node->home);
    uint64_t size = block_node_size(call->node);
    if (bitmap_bits(size, b->shift) > BLOCK_BITMAP_BITS_MAX) {
        return;
    }
    bitmap_resize(b, size);
    b->next = call->node->bitmaps;
    call->node->bitmaps = b;
    call->ok = true;
}

bool block_dirty_bitmap_co_add(BlockNode *n, const char *name, uint32_t granularity, bool enabled,
                               GError **error)
{
    granularity = granularity == 0 ? BLOCK_BITMAP_GRANULARITY_DEFAULT : granularity;
    if (!bitmap_check_new(n, name, granularity, error)) {
        return false;
    }
    BlockDirtyBitmap *b = g_new0(BlockDirtyBitmap, 1);
    BitmapCall call = {.node = n, .bitmap = b};
    b->name = g_strdup(name);
    b->shift = (unsigned)__builtin_ctz(granularity);
    atomic_store(&b->enabled, enabled);
    g_ptr_array_add(n->bitmap_names, b);
    co_call_in(n->home, bitmap_add_at_home, &call);
    if (!call.ok) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                    "Granularity %u is too fine for a node of %" G_GUINT64_FORMAT " bytes",
                    granularity, block_node_size(n));
        g_ptr_array_remove(n->bitmap_names, b);
        bitmap_free(b);
    }
    return call.ok;
}

static void bitmap_remove_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->node->home);
    BlockDirtyBitmap **link = &call->node->bitmaps;
    while (*link != call->bitmap) {
        link = &(*link)->next;
    }
    *link = call->bitmap->next;
}

bool block_dirty_bitmap_co_remove(BlockNode *n, const char *name, GError **error)
{
    BitmapCall call = {.node = n, .bitmap = bitmap_find(n, name, error)};
    if (call.bitmap == NULL) {
        return false;
    }
    co_call_in(n->home, bitmap_remove_at_home, &call);
    g_ptr_array_remove(n->bitmap_names, call.bitmap);
    bitmap_free(call.bitmap);
    return true;
}

static void bitmap_clear_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    BlockDirtyBitmap *b = call->bitmap;
    enter_coroutine();
    enter_iothread(call->node->home);
    memset(b->words, 0, bitmap_words(bitmap_bits(b->size, b->shift)) * sizeof(uint64_t));
    atomic_store_explicit(&b->set, 0, memory_order_relaxed);
}

bool block_dirty_bitmap_co_clear(BlockNode *n, const char *name, GError **error)
{
    BitmapCall call = {.node = n, .bitmap = bitmap_find(n, name, error)};
    if (call.bitmap != NULL) {
        co_call_in(n->home, bitmap_clear_at_home, &call);
    }
    return call.bitmap != NULL;
}

static void bitmap_nothing_at_home(void *opaque)
{
    BitmapCall *call = opaque;
    enter_coroutine();
    enter_iothread(call->node->home);
}

bool block_dirty_bitmap_co_set_enabled(BlockNode *n, const char *name, bool enabled, GError **error)
{
    BitmapCall call = {.node = n, .bitmap = bitmap_find(n, name, error)};
    if (call.bitmap == NULL) {
        return false;
    }
    atomic_store_explicit(&call.bitmap->enabled, enabled, memory_order_relaxed);
    co_call_in(n->home, bitmap_nothing_at_home, &call); /* what ends after this has seen it */
    return true;
}

/* ---- merging ---- */

typedef struct BitmapMerge {
    BlockNode *node; /* in whose home a step runs */
    BlockDirtyBitmap *from, *to;
    bool ok;
} BitmapMerge;

/* Sets in @to, which belongs to nobody else, what is set in @from. */
static void bitmap_add_bits(BlockDirtyBitmap *to, const BlockDirtyBitmap *from)
{
    size_t words = bitmap_words(bitmap_bits(from->size, from->shift));
    for (size_t i = 0; i < words; i++) {
        for (uint64_t rest = from->words[i]; rest != 0; rest &= rest - 1) {
            uint64_t bit = i * BITMAP_WORD + (unsigned)__builtin_ctzll(rest);
            bitmap_set(to, bit << from->shift, (uint64_t)1 << from->shift);
        }
    }
}

static void bitmap_merge_at_home(void *opaque)
{
    BitmapMerge *m = opaque;
    enter_coroutine();
    enter_iothread(m->node->home);
    m->ok = m->from->size == m->to->size;
    if (m->ok) {
        bitmap_add_bits(m->to, m->from);
    }
}

static void bitmap_size_at_home(void *opaque)
{
    BitmapMerge *m = opaque;
    enter_coroutine();
    enter_iothread(m->node->home);
    bitmap_resize(m->to, m->from->size);
}

/* Collects the sources' bits in @sum, which has the size of the target. */
static coroutine_fn RUNS_IN_MAIN bool bitmap_co_collect(BlockDirtyBitmap *sum,
                                                        const BlockDirtyBitmapRef *sources,
                                                        unsigned count, GError **error)
{
    for (unsigned i = 0; i < count; i++) {
        BlockNode *n = sources[i].node;
        BitmapMerge m = {.node = n, .from = bitmap_find(n, sources[i].name, error), .to = sum};
        if (m.from == NULL) {
            return false;
        }
        co_call_in(n->home, bitmap_merge_at_home, &m);
        if (!m.ok) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                        "Bitmaps are of different sizes (destination size is %" G_GUINT64_FORMAT
                        ", source '%s' of node '%s' has another) and can't be merged",
                        sum->size, sources[i].name, n->name);
            return false;
        }
    }
    return true;
}

bool block_dirty_bitmap_co_merge(BlockDirtyBitmapRef target, const BlockDirtyBitmapRef *sources,
                                 unsigned count, GError **error)
{
    BlockDirtyBitmap sum = {0}, *b = bitmap_find(target.node, target.name, error);
    if (b == NULL) {
        return false;
    }
    sum.shift = b->shift;
    BitmapMerge m = {.node = target.node, .from = b, .to = &sum};
    co_call_in(target.node->home, bitmap_size_at_home, &m);
    bool ok = bitmap_co_collect(&sum, sources, count, error);
    if (ok) {
        m = (BitmapMerge){.node = target.node, .from = &sum, .to = b};
        co_call_in(target.node->home, bitmap_merge_at_home, &m);
        ok = m.ok;
        if (!ok) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IN_USE,
                        "node '%s' was resized while its bitmap was merged", target.node->name);
        }
    }
    g_free(sum.words);
    return ok;
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
    };
}

void node_bitmaps_free(BlockNode *n)
{
    for (unsigned i = 0; i < n->bitmap_names->len; i++) {
        bitmap_free(n->bitmap_names->pdata[i]);
    }
    g_ptr_array_unref(n->bitmap_names);
}
