/* SPDX-License-Identifier: Apache-2.0 */
/* Users of a dirty bitmap, who read its bits. */
#include "block/core/dirty_bitmap.h"

BlockDirtyBitmap *block_dirty_bitmap_use(BlockNode *n, const char *name, GError **error)
{
    BlockDirtyBitmap *b = bitmap_find_for(n, name, BITMAP_FOR_BITS, error);
    if (b != NULL) {
        b->users++;
    }
    return b;
}

void block_dirty_bitmap_unuse(BlockDirtyBitmap *b)
{
    if (b->users == 0) {
        bug_abort("bitmap '%s' loses a user that it does not have", b->name);
    }
    b->users--;
}

bool block_dirty_bitmap_enabled(const BlockDirtyBitmap *b)
{
    return atomic_load_explicit(&b->enabled, memory_order_relaxed);
}

/* The first bit from @first on, below @end, that is not @value; @end: there is none. */
static uint64_t bitmap_find_change(const BlockDirtyBitmap *b, uint64_t first, uint64_t end,
                                   bool value)
{
    for (uint64_t i = first; i < end; i = (i / BITMAP_WORD + 1) * BITMAP_WORD) {
        uint64_t word = value ? ~b->words[i / BITMAP_WORD] : b->words[i / BITMAP_WORD];
        word &= UINT64_MAX << i % BITMAP_WORD;
        if (word != 0) {
            uint64_t found = i / BITMAP_WORD * BITMAP_WORD + (unsigned)__builtin_ctzll(word);
            return MIN(found, end);
        }
    }
    return end;
}

uint64_t block_dirty_bitmap_run(const BlockDirtyBitmap *b, uint64_t offset, uint64_t bytes,
                                bool *dirty)
{
    *dirty = false;
    if (offset >= b->size || bytes == 0) {
        return bytes;
    }
    uint64_t wanted_end = offset + MIN(bytes, b->size - offset), bit = offset >> b->shift;
    *dirty = (b->words[bit / BITMAP_WORD] >> bit % BITMAP_WORD & 1) != 0;
    uint64_t change = bitmap_find_change(b, bit, ((wanted_end - 1) >> b->shift) + 1, *dirty);
    uint64_t end = MIN(change << b->shift, wanted_end);
    return end == b->size && !*dirty ? bytes : end - offset;
}
