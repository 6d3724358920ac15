/* SPDX-License-Identifier: Apache-2.0 */
/* Loading and storing of dirty bitmaps, for drivers. */
#include <endian.h>
#include <string.h>
#include "block/core/dirty_bitmap.h"

#define STORE_WORD_BYTES 8u

/* ---- loading ---- */

BlockDirtyBitmap *block_bitmap_restore(BlockNode *n, const BlockStoredBitmap *stored, uint64_t size)
{
    BlockDirtyBitmap *b = g_new0(BlockDirtyBitmap, 1);
    b->name = g_strdup(stored->name);
    b->shift = stored->granularity_bits;
    b->persistent = true;
    b->inconsistent = stored->inconsistent;
    atomic_store(&b->enabled, stored->enabled && !stored->inconsistent);
    if (!b->inconsistent && !bitmap_init_bits(b, size)) {
        bitmap_free(b);
        return NULL;
    }
    b->changed = false;
    BlockDirtyBitmap *last =
        n->bitmap_names->len > 0 ? n->bitmap_names->pdata[n->bitmap_names->len - 1] : NULL;
    *(last != NULL ? &last->next : &n->bitmaps) = b; /* there can be 65535 */
    g_ptr_array_add(n->bitmap_names, b);
    return b;
}

void block_bitmap_drop(BlockNode *n)
{
    n->bitmaps = NULL;
    for (unsigned i = 0; i < n->bitmap_names->len; i++) {
        bitmap_free(n->bitmap_names->pdata[i]);
    }
    g_ptr_array_set_size(n->bitmap_names, 0);
}

static uint64_t store_bits(const BlockDirtyBitmap *b)
{
    return b->inconsistent ? 0 : bitmap_bits(b->size, b->shift);
}

/* The bits of the word at @index that exist. */
static uint64_t store_mask(const BlockDirtyBitmap *b, uint64_t index)
{
    uint64_t bits = store_bits(b), first = index * BITMAP_WORD;
    if (first >= bits) {
        return 0;
    }
    return bits - first >= BITMAP_WORD ? UINT64_MAX : ~(UINT64_MAX << (bits - first));
}

static void store_add_word(BlockDirtyBitmap *b, uint64_t index, uint64_t word)
{
    word &= store_mask(b, index);
    if (word != 0) {
        uint64_t set = atomic_load_explicit(&b->set, memory_order_relaxed);
        set += (uint64_t)__builtin_popcountll(word & ~b->words[index]);
        b->words[index] |= word;
        atomic_store_explicit(&b->set, set, memory_order_relaxed);
    }
}

void block_bitmap_load(BlockDirtyBitmap *b, uint64_t offset, const uint8_t *bytes, uint64_t length)
{
    g_assert(offset % STORE_WORD_BYTES == 0);
    for (uint64_t at = 0; at < length; at += STORE_WORD_BYTES) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, MIN(length - at, STORE_WORD_BYTES));
        store_add_word(b, (offset + at) / STORE_WORD_BYTES, le64toh(word));
    }
}

void block_bitmap_load_ones(BlockDirtyBitmap *b, uint64_t offset, uint64_t length)
{
    uint64_t words = bitmap_words(store_bits(b));
    uint64_t end = MIN((offset + length) / STORE_WORD_BYTES, words);
    g_assert((offset | length) % STORE_WORD_BYTES == 0);
    for (uint64_t i = offset / STORE_WORD_BYTES; i < end; i++) {
        store_add_word(b, i, UINT64_MAX);
    }
}

/* ---- storing ---- */

BlockDirtyBitmap *block_bitmap_next(const BlockNode *n, const BlockDirtyBitmap *b)
{
    BlockDirtyBitmap *next = b != NULL ? b->next : n->bitmaps;
    while (next != NULL && !next->persistent) {
        next = next->next;
    }
    return next;
}

BlockStoredBitmap block_bitmap_describe(const BlockDirtyBitmap *b)
{
    return (BlockStoredBitmap){
        .name = b->name,
        .granularity_bits = b->shift,
        .enabled = atomic_load_explicit(&b->enabled, memory_order_relaxed),
        .inconsistent = b->inconsistent,
    };
}

uint64_t block_bitmap_bytes(const BlockDirtyBitmap *b)
{
    return (store_bits(b) + 7) / 8;
}

static uint64_t store_word(const BlockDirtyBitmap *b, uint64_t index)
{
    return b->words[index] | (b->successor != NULL ? b->successor->words[index] : 0);
}

BlockBitmapBits block_bitmap_look(const BlockDirtyBitmap *b, uint64_t offset, uint64_t length)
{
    uint64_t end = (offset + length) / STORE_WORD_BYTES, words = bitmap_words(store_bits(b));
    bool clear = true, ones = end <= words;
    g_assert((offset | length) % STORE_WORD_BYTES == 0);
    for (uint64_t i = offset / STORE_WORD_BYTES; i < MIN(end, words) && (clear || ones); i++) {
        uint64_t word = store_word(b, i);
        clear = clear && word == 0;
        ones = ones && word == UINT64_MAX;
    }
    return clear ? BLOCK_BITMAP_CLEAR : ones ? BLOCK_BITMAP_ONES : BLOCK_BITMAP_MIXED;
}

void block_bitmap_save(const BlockDirtyBitmap *b, uint64_t offset, uint8_t *bytes, uint64_t length)
{
    uint64_t words = bitmap_words(store_bits(b));
    g_assert((offset | length) % STORE_WORD_BYTES == 0);
    for (uint64_t at = 0; at < length; at += STORE_WORD_BYTES) {
        uint64_t index = (offset + at) / STORE_WORD_BYTES;
        uint64_t word = index < words ? htole64(store_word(b, index)) : 0;
        memcpy(bytes + at, &word, sizeof(word));
    }
}

bool block_bitmap_changed(const BlockDirtyBitmap *b)
{
    return b->changed;
}

void block_bitmap_note_stored(BlockDirtyBitmap *b)
{
    b->changed = false;
}
