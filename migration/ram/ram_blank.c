/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_blank.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "migration/ram/ram_pagemap.h"

#define BLANK_RUN 512u /* pages with data that are passed over with one call */

/* The number of pages from @at on, the first of which has data, that have data, too; perhaps there are more. SEEK_HOLE would walk
 * all of the data behind them, for each look again. */
static uint64_t blank_data(const RamBlock *b, uint64_t at, uint64_t end)
{
    unsigned char in_core[BLANK_RUN];
    uint64_t pages = MIN(end - at, BLANK_RUN), count = 1;
    if (mincore(b->host + at * GUEST_RAM_PAGE, pages * GUEST_RAM_PAGE, in_core) == 0) {
        while (count < pages && (in_core[count] & 1) != 0) {
            count++;
        }
    }
    return count;
}

/* A file system that knows no holes has data everywhere. */
static void blank_find_holes(const RamBlock *b, uint64_t first, uint64_t pages, uint64_t *bits)
{
    uint64_t at = first, end = first + pages;
    while (at < end) {
        off_t data = lseek(b->fd, (off_t)(b->fd_offset + at * GUEST_RAM_PAGE), SEEK_DATA);
        if (data < 0 && errno != ENXIO) {
            return;
        }
        uint64_t to = data < 0 ? end : ((uint64_t)data - b->fd_offset) / GUEST_RAM_PAGE;
        for (; at < MIN(to, end); at++) {
            ram_map_set(bits, at - first);
        }
        at += at < end ? blank_data(b, at, end) : 0;
    }
}

static void blank_find_private(const RamBlock *b, int pid, uint64_t first, uint64_t pages,
                               uint64_t *bits)
{
    int pagemap = ram_pagemap_open(pid);
    if (pagemap >= 0) {
        ram_pagemap_find_empty(pagemap, b->host + first * GUEST_RAM_PAGE, pages, true, bits);
        close(pagemap);
    }
}

void ram_blank_find(const RamBlock *b, int pid, uint64_t first, uint64_t pages, uint64_t *bits)
{
    memset(bits, 0, (pages + 63) / 64 * sizeof(bits[0]));
    if (b->fd >= 0) {
        blank_find_holes(b, first, pages, bits);
    } else if (!b->of_file) {
        blank_find_private(b, pid, first, pages, bits);
    }
}

uint64_t ram_blank_count(const uint64_t *bits, uint64_t pages)
{
    uint64_t count = 0;
    for (uint64_t i = 0; i < (pages + 63) / 64; i++) {
        count += (unsigned)__builtin_popcountll(bits[i]);
    }
    return count;
}
