/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The page tables of a process, as the kernel shows them: which pages of private memory are there, without touching one.
 *
 * The address space is locked for the time of a call, some microseconds for each MiB of small pages: callers ask for
 * little at a time, since main waits for that lock with each mapping that it makes.
 *
 * Sources: Documentation/admin-guide/mm/pagemap.rst (the ioctl PAGEMAP_SCAN is of Linux 6.7).
 */
#ifndef SKIFF_MIGRATION_RAM_RAM_PAGEMAP_H
#define SKIFF_MIGRATION_RAM_RAM_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include "util/loop/thread.h"

/* Of the kernel's interface (linux/fs.h since Linux 6.7). */
#define RAM_PAGEMAP_PRESENT (UINT64_C(1) << 3)
#define RAM_PAGEMAP_SWAPPED (UINT64_C(1) << 4) /* all entries that are neither present nor empty */
#define RAM_PAGEMAP_ZERO (UINT64_C(1) << 5)    /* the kernel's page of zeroes */
#define RAM_PAGEMAP_HUGE (UINT64_C(1) << 6)

typedef struct RamPagemapRegion {
    uint64_t begin, end, categories;
} RamPagemapRegion;

typedef struct RamPagemapScan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} RamPagemapScan;

#define RAM_PAGEMAP_SCAN _IOWR('f', 16, RamPagemapScan)

/* The page tables of process @pid, a child; 0: of this process. A descriptor, or -1: /proc is not there, is of other
 * processes, or does not permit it. */
int ram_pagemap_open(int pid) ANY_THREAD;
/* PAGEMAP_SCAN: the number of regions, or -1 and errno. */
int ram_pagemap_scan(int pagemap, RamPagemapScan *scan) ANY_THREAD;
/* Sets the bit of each of @pages pages from @at on, a page's begin, that has neither memory nor an entry of another kind (swap,
 * migration, a marker); with @zero_pages also if it is the kernel's page of zeroes, where that can be known. Clears the others. Bit 0
 * of @bits, as of a page map (ram_pages.h), is the page at @at; whole words are written. 0 or -errno; then all are clear. */
int ram_pagemap_find_empty(int pagemap, const void *at, uint64_t pages, bool zero_pages,
                           uint64_t *bits) ANY_THREAD;

#endif
