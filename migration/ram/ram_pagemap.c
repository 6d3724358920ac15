/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "migration/ram/ram_pages.h"

#define PAGEMAP_REGIONS 256u
/* An entry of the file. */
#define PAGEMAP_ENTRIES 512u
#define PAGEMAP_ENTRY_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_ENTRY_PRESENT (UINT64_C(1) << 63)

int ram_pagemap_open(int pid)
{
    char path[sizeof("/proc/-2147483648/pagemap")] = "/proc/self/pagemap";
    char self[16] = "";
    if (pid != 0) {
        if (readlink("/proc/self", self, sizeof(self) - 1) < 0 || atoi(self) != getpid()) {
            return -1; /* a container may see the host's processes */
        }
        g_snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
    }
    return open(path, O_RDONLY | O_CLOEXEC);
}

int ram_pagemap_scan(int pagemap, RamPagemapScan *scan)
{
    scan->size = sizeof(*scan);
    return ioctl(pagemap, RAM_PAGEMAP_SCAN, scan);
}

static void pagemap_set(uint64_t *bits, uint64_t first, uint64_t end)
{
    for (uint64_t page = first; page < end;) {
        if (page % 64 == 0 && end - page >= 64) {
            bits[page / 64] = UINT64_MAX;
            page += 64;
        } else {
            ram_map_set(bits, page++);
        }
    }
}

/* What the kernel does not report is not empty: it may not have looked. */
static int pagemap_find_by_scan(int pagemap, uint64_t at, uint64_t pages, bool zero_pages,
                                uint64_t *bits)
{
    RamPagemapRegion regions[PAGEMAP_REGIONS];
    uint64_t next = at, end = at + pages * GUEST_RAM_PAGE;
    const uint64_t not_there = RAM_PAGEMAP_PRESENT | RAM_PAGEMAP_SWAPPED;
    while (next < end) {
        RamPagemapScan scan = {.start = next,
                               .end = end,
                               .vec = (uintptr_t)regions,
                               .vec_len = PAGEMAP_REGIONS,
                               .category_inverted = not_there,
                               .category_mask = zero_pages ? RAM_PAGEMAP_SWAPPED : not_there,
                               .category_anyof_mask =
                                   zero_pages ? RAM_PAGEMAP_PRESENT | RAM_PAGEMAP_ZERO : 0,
                               .return_mask = RAM_PAGEMAP_HUGE};
        int count = ram_pagemap_scan(pagemap, &scan);
        if (count < 0) {
            return -errno;
        }
        for (int i = 0; i < count; i++) {
            pagemap_set(bits, (regions[i].begin - at) / GUEST_RAM_PAGE,
                        (regions[i].end - at) / GUEST_RAM_PAGE);
        }
        if (scan.walk_end <= next) {
            return -EIO;
        }
        next = scan.walk_end;
    }
    return 0;
}

static int pagemap_find_by_read(int pagemap, uint64_t at, uint64_t pages, uint64_t *bits)
{
    uint64_t entries[PAGEMAP_ENTRIES];
    for (uint64_t page = 0; page < pages;) {
        size_t want = MIN(pages - page, PAGEMAP_ENTRIES) * sizeof(entries[0]);
        off_t from = (off_t)((at / GUEST_RAM_PAGE + page) * sizeof(entries[0]));
        ssize_t got = pread(pagemap, entries, want, from);
        if (got < (ssize_t)sizeof(entries[0])) {
            return got < 0 ? -errno : -ESRCH;
        }
        for (size_t i = 0; i < (size_t)got / sizeof(entries[0]); i++, page++) {
            if ((entries[i] & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) == 0) {
                ram_map_set(bits, page);
            }
        }
    }
    return 0;
}

int ram_pagemap_find_empty(int pagemap, const void *at, uint64_t pages, bool zero_pages,
                           uint64_t *bits)
{
    size_t bytes = (pages + 63) / 64 * sizeof(bits[0]);
    memset(bits, 0, bytes);
    if (sysconf(_SC_PAGESIZE) != GUEST_RAM_PAGE || (uintptr_t)at % GUEST_RAM_PAGE != 0) {
        return -EINVAL;
    }
    int ret = pagemap_find_by_scan(pagemap, (uintptr_t)at, pages, zero_pages, bits);
    if (ret == -ENOTTY) {
        ret = pagemap_find_by_read(pagemap, (uintptr_t)at, pages, bits);
    }
    if (ret != 0) {
        memset(bits, 0, bytes);
    }
    return ret;
}
