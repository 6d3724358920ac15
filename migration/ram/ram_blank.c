/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_blank.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "migration/ram/ram_pagemap.h"

/* Pages from byte @from up to @to of the file, which has them from byte @begin on. */
static void blank_set(uint64_t *bits, uint64_t begin, uint64_t from, uint64_t to)
{
    uint64_t page = (from - begin + GUEST_RAM_PAGE - 1) / GUEST_RAM_PAGE;
    for (; page < (to - begin) / GUEST_RAM_PAGE; page++) {
        ram_map_set(bits, page);
    }
}

/* A file system that knows no holes has data everywhere. */
static void blank_find_holes(const RamBlock *b, uint64_t first, uint64_t pages, uint64_t *bits)
{
    uint64_t begin = b->fd_offset + first * GUEST_RAM_PAGE;
    uint64_t end = begin + pages * GUEST_RAM_PAGE, at = begin;
    while (at < end) {
        off_t data = lseek(b->fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno != ENXIO) {
            return;
        }
        uint64_t to = data < 0 ? end : MIN((uint64_t)data, end);
        blank_set(bits, begin, at, to);
        off_t hole = to < end ? lseek(b->fd, (off_t)to, SEEK_HOLE) : (off_t)end;
        if (hole <= (off_t)to) {
            return; /* the end, or an error */
        }
        at = (uint64_t)hole;
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
