/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocation of guest RAM. Every range that a loader writes is taken first, so no boot data can
 * overlap the kernel.
 */
#include <inttypes.h>
#include <string.h>

#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

static void boot_space_note(BootSpace *space, uint64_t start, uint64_t end)
{
    BootSpan span = {.start = start, .end = end};
    g_array_append_val(space->taken, span);
}

void boot_space_init(BootSpace *space, GuestRam *ram)
{
    space->ram = ram;
    space->taken = g_array_new(false, false, sizeof(BootSpan));
    boot_space_note(space, 0, X86_BOOT_DATA_BASE);
    boot_space_note(space, X86_EBDA_BASE, X86_MIB);
}

void boot_space_clear(BootSpace *space)
{
    for (unsigned i = 0; i < space->taken->len; i++) { /* loaders write nothing else */
        const BootSpan *span = &g_array_index(space->taken, BootSpan, i);
        guest_ram_mark(space->ram, span->start, span->end - span->start);
    }
    g_array_free(space->taken, true);
}

uint64_t boot_space_low_end(const BootSpace *space)
{
    uint64_t end = 0;
    for (unsigned i = 0; i < space->ram->count; i++) {
        const RamBlock *block = &space->ram->blocks[i];
        if (!block->read_only && block->gpa < X86_4GIB) {
            end = MAX(end, MIN(block->gpa + block->size, X86_4GIB));
        }
    }
    return end;
}

/* The taken span that overlaps [start, end), or NULL. */
static const BootSpan *boot_space_conflict(const BootSpace *space, uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < space->taken->len; i++) {
        const BootSpan *span = &g_array_index(space->taken, BootSpan, i);
        if (start < span->end && span->start < end) {
            return span;
        }
    }
    return NULL;
}

void *boot_space_take(BootSpace *space, uint64_t gpa, uint64_t size)
{
    void *host = gpa < X86_4GIB ? guest_ram_map(space->ram, gpa, size, true) : NULL;
    if (host == NULL || boot_space_conflict(space, gpa, gpa + size) != NULL) {
        return NULL;
    }
    boot_space_note(space, gpa, gpa + size);
    return host;
}

void *boot_space_place_low(BootSpace *space, uint64_t size, uint64_t align, uint64_t min,
                           uint64_t max, uint64_t *gpa)
{
    max = MIN(max, boot_space_low_end(space));
    uint64_t at = (min + align - 1) & ~(align - 1);
    while (at < max && size <= max - at) {
        const BootSpan *span = boot_space_conflict(space, at, at + size);
        if (span == NULL) {
            *gpa = at;
            return boot_space_take(space, at, size);
        }
        at = (span->end + align - 1) & ~(align - 1);
    }
    return NULL;
}

void *boot_space_place_high(BootSpace *space, uint64_t size, uint64_t align, uint64_t min,
                            uint64_t max, uint64_t *gpa)
{
    max = MIN(max, boot_space_low_end(space));
    while (max >= min && size <= max - min) {
        uint64_t at = (max - size) & ~(align - 1);
        if (at < min) {
            return NULL;
        }
        const BootSpan *span = boot_space_conflict(space, at, at + size);
        if (span == NULL) {
            *gpa = at;
            return boot_space_take(space, at, size);
        }
        max = span->start;
    }
    return NULL;
}

void *boot_space_place_data(BootSpace *space, uint64_t size, uint64_t *gpa, GError **error)
{
    void *host =
        boot_space_place_low(space, size, X86_PAGE_SIZE, X86_BOOT_DATA_BASE, X86_4GIB, gpa);
    if (host == NULL) {
        g_set_error(error, BOOT_ERROR, BOOT_ERROR_NO_ROOM,
                    "the kernel leaves no room for %" PRIu64
                    " bytes of boot data in guest RAM; give more with -m",
                    size);
        return NULL;
    }
    return memset(host, 0, size);
}

bool boot_space_place_string(BootSpace *space, const char *text, uint64_t *gpa, GError **error)
{
    size_t size = strlen(text) + 1;
    void *host = boot_space_place_data(space, size, gpa, error);
    if (host == NULL) {
        return false;
    }
    memcpy(host, text, size);
    return true;
}
