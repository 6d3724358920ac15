/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/ram.h"

#include <string.h>

#define RAM_4GIB (UINT64_C(1) << 32)

void guest_ram_add(GuestRam *ram, const RamBlock *block)
{
    g_assert(ram->count < GUEST_RAM_MAX_BLOCKS);
    g_assert(block->size > 0 && block->gpa + (block->size - 1) >= block->gpa);
    unsigned at = ram->count;
    while (at > 0 && ram->blocks[at - 1].gpa > block->gpa) {
        ram->blocks[at] = ram->blocks[at - 1];
        at--;
    }
    ram->blocks[at] = *block;
    ram->count++;
    if (atomic_load(&ram->logging)) {
        guest_ram_log_add(&ram->blocks[at]);
    }
    if (at > 0) {
        g_assert(block->gpa - ram->blocks[at - 1].gpa >= ram->blocks[at - 1].size);
    }
    if (at + 1 < ram->count) {
        g_assert(ram->blocks[at + 1].gpa - block->gpa >= block->size);
    }
}

/* The block that holds @gpa, or NULL. There are few blocks, so a linear search is fast enough. */
static const RamBlock *guest_ram_find(const GuestRam *ram, uint64_t gpa)
{
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        if (gpa >= b->gpa && gpa - b->gpa < b->size) {
            return b;
        }
    }
    return NULL;
}

void *guest_ram_map(const GuestRam *ram, uint64_t gpa, uint64_t len, bool write)
{
    const RamBlock *b = guest_ram_find(ram, gpa);
    if (b == NULL || len == 0 || len > b->size - (gpa - b->gpa) || (write && b->read_only)) {
        return NULL;
    }
    return b->host + (gpa - b->gpa);
}

/* Whether [gpa, gpa+len) is wholly RAM, and writable if @write. */
static bool guest_ram_covers(const GuestRam *ram, uint64_t gpa, uint64_t len, bool write)
{
    while (len > 0) {
        const RamBlock *b = guest_ram_find(ram, gpa);
        if (b == NULL || (write && b->read_only)) {
            return false;
        }
        uint64_t n = MIN(len, b->size - (gpa - b->gpa));
        len -= n;
        if (len > 0 && gpa + n < gpa) {
            return false; /* past the end of the address space */
        }
        gpa += n;
    }
    return true;
}

bool guest_ram_read(const GuestRam *ram, uint64_t gpa, void *buf, uint64_t len)
{
    if (!guest_ram_covers(ram, gpa, len, false)) {
        return false;
    }
    for (uint8_t *to = buf; len > 0;) {
        const RamBlock *b = guest_ram_find(ram, gpa);
        uint64_t n = MIN(len, b->size - (gpa - b->gpa));
        memcpy(to, b->host + (gpa - b->gpa), n);
        to += n;
        gpa += n;
        len -= n;
    }
    return true;
}

bool guest_ram_write(const GuestRam *ram, uint64_t gpa, const void *buf, uint64_t len)
{
    if (!guest_ram_covers(ram, gpa, len, true)) {
        return false;
    }
    for (const uint8_t *from = buf; len > 0;) {
        const RamBlock *b = guest_ram_find(ram, gpa);
        uint64_t n = MIN(len, b->size - (gpa - b->gpa));
        memcpy(b->host + (gpa - b->gpa), from, n);
        guest_ram_mark(ram, gpa, n);
        from += n;
        gpa += n;
        len -= n;
    }
    return true;
}

/* Bytes of RAM whose addresses are in [from, to]. */
static uint64_t guest_ram_bytes(const GuestRam *ram, uint64_t from, uint64_t to)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        uint64_t last = b->gpa + (b->size - 1);
        if (b->read_only || last < from || b->gpa > to) {
            continue;
        }
        bytes += MIN(last, to) - MAX(b->gpa, from) + 1;
    }
    return bytes;
}

uint64_t guest_ram_below_4g(const GuestRam *ram)
{
    return guest_ram_bytes(ram, 0, RAM_4GIB - 1);
}

uint64_t guest_ram_above_4g(const GuestRam *ram)
{
    return guest_ram_bytes(ram, RAM_4GIB, UINT64_MAX);
}
