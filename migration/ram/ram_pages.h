/* SPDX-License-Identifier: Apache-2.0 */
/* A set of pages of guest RAM: a bit for each page of each block, as the page maps of ram_image.h have them. The
 * owner is whoever may use it at the moment; nothing is shared. */
#ifndef SKIFF_MIGRATION_RAM_RAM_PAGES_H
#define SKIFF_MIGRATION_RAM_RAM_PAGES_H

#include "hw/core/ram.h"

typedef struct RamPages {
    uint64_t
        *maps[GUEST_RAM_MAX_BLOCKS]; /* lowest bit first, little-endian words, padded to 4 KiB */
} RamPages;

/* Bytes of the map of a block of @size bytes. */
uint64_t ram_pages_map_bytes(uint64_t size) ANY_THREAD;
/* Adds the empty map of block @block, of @size bytes. -ENOMEM. */
int ram_pages_add(RamPages *p, unsigned block, uint64_t size) ANY_THREAD;
void ram_pages_free(RamPages *p) ANY_THREAD;
/* Moves the bits of @ram's dirty memory, which is logged, into the set, which has maps for its blocks. Returns the
 * number of pages in the set. */
uint64_t ram_pages_take_dirty(RamPages *p, const GuestRam *ram) ANY_THREAD;
/* Empties the set. */
void ram_pages_clear(RamPages *p, const GuestRam *ram) ANY_THREAD;

static inline bool ram_map_test(const uint64_t *map, uint64_t page)
{
    return (GUINT64_FROM_LE(map[page / 64]) >> (page % 64) & 1) != 0;
}

static inline void ram_map_set(uint64_t *map, uint64_t page)
{
    map[page / 64] |= GUINT64_TO_LE(UINT64_C(1) << (page % 64));
}

static inline void ram_map_clear(uint64_t *map, uint64_t page)
{
    map[page / 64] &= ~GUINT64_TO_LE(UINT64_C(1) << (page % 64));
}

/* The end of the run of pages, of @pages, that begins at @first: those whose bits are equal. */
static inline uint32_t ram_map_run_end(const uint64_t *map, uint32_t pages, uint32_t first)
{
    uint32_t end = first + 1;
    while (end < pages && ram_map_test(map, end) == ram_map_test(map, first)) {
        end++;
    }
    return end;
}

/* Copies whole pages of guest memory that others may write at that time: each byte is one that was there. */
void ram_copy_live(void *to, const void *from, size_t len) ANY_THREAD;

#endif
