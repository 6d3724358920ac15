/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/memory.h"
#include "lib/bootinfo.h"
#include "lib/exit.h"
#include "lib/text.h"

#define FOUR_GIB (1ull << 32)
#define GIB_SHIFT 30
#define LARGE_PAGE_SIZE (2ull << 20)
#define TABLE_FLAGS 0x67 /* present, writable, user, accessed, dirty */
#define LARGE_FLAGS 0xe7
#define FALLBACK_RAM_END (16ull << 20) /* without a memory map from the loader */

extern uint64_t boot_pdpt[512];
extern uint8_t image_end[];

static uint64_t free_start, free_end;

/* The end of the free range from @start in a RAM range that ends at @end. */
static uint64_t stretch_end(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < bootinfo.module_count; i++) {
        const BootRange *module = &bootinfo.modules[i];
        if (module->base + module->size > start && module->base < end) {
            end = module->base;
        }
    }
    return end;
}

static void take_stretch(const BootRange *range, uint64_t start)
{
    start = (start + MEMORY_PAGE_SIZE - 1) & -MEMORY_PAGE_SIZE;
    uint64_t end = range->base + range->size;
    end = end > FOUR_GIB ? FOUR_GIB : end;
    if (start < range->base || start >= end) {
        return;
    }
    end = stretch_end(start, end);
    if (end > start && end - start > free_end - free_start) {
        free_start = start;
        free_end = end;
    }
}

/* Behind the image, and in memory that the host may map with huge pages: a VMM may exclude the first
 * 2 MiB, which most guests hardly use. */
static uint64_t lowest(void)
{
    uint64_t end = (uint64_t)image_end;
    return end < LARGE_PAGE_SIZE ? LARGE_PAGE_SIZE : end;
}

/* Picks the largest range above the image without modules. */
static void find_free(void)
{
    BootRange fallback = {1 << 20, FALLBACK_RAM_END - (1 << 20), BOOTINFO_TYPE_RAM};
    const BootRange *ranges = bootinfo.range_count ? bootinfo.ranges : &fallback;
    unsigned count = bootinfo.range_count ? bootinfo.range_count : 1;
    for (unsigned i = 0; i < count; i++) {
        if (ranges[i].type != BOOTINFO_TYPE_RAM) {
            continue;
        }
        uint64_t start = ranges[i].base;
        start = start < lowest() ? lowest() : start;
        take_stretch(&ranges[i], start);
        for (unsigned j = 0; j < bootinfo.module_count; j++) {
            uint64_t after = bootinfo.modules[j].base + bootinfo.modules[j].size;
            if (after > lowest()) {
                take_stretch(&ranges[i], after);
            }
        }
    }
}

void *memory_alloc(size_t size, size_t align)
{
    if (!free_end) {
        find_free();
    }
    uint64_t start = (free_start + align - 1) & -(uint64_t)align;
    if (start > free_end || size > free_end - start) {
        guest_refuse(EXIT_USAGE, "no RAM left for %lu bytes", size);
    }
    free_start = start + size;
    return memset((void *)start, 0, size);
}

uint64_t memory_left(void)
{
    if (!free_end) {
        find_free();
    }
    return free_end - free_start;
}

void memory_map(uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + size;
    for (uint64_t at = gpa & -LARGE_PAGE_SIZE; at < end; at += LARGE_PAGE_SIZE) {
        if (at < FOUR_GIB) {
            continue;
        }
        uint64_t slot = at >> GIB_SHIFT;
        if (slot >= 512) {
            guest_fail("address 0x%lx is beyond what the page tables reach", at);
        }
        if (!boot_pdpt[slot]) {
            void *table = memory_alloc(MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
            boot_pdpt[slot] = (uint64_t)table | TABLE_FLAGS;
        }
        uint64_t *table = (uint64_t *)(boot_pdpt[slot] & -MEMORY_PAGE_SIZE);
        table[at / LARGE_PAGE_SIZE % 512] = at | LARGE_FLAGS;
    }
}
