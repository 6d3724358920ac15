/* SPDX-License-Identifier: Apache-2.0 */
#include "migration/ram/ram_pages.h"

#include <errno.h>
#include <string.h>

uint64_t ram_pages_map_bytes(uint64_t size)
{
    uint64_t bytes = (size / GUEST_RAM_PAGE + 7) / 8;
    return (bytes + GUEST_RAM_PAGE - 1) / GUEST_RAM_PAGE * GUEST_RAM_PAGE;
}

int ram_pages_add(RamPages *p, unsigned block, uint64_t size)
{
    p->maps[block] = g_try_malloc0(ram_pages_map_bytes(size));
    return p->maps[block] != NULL ? 0 : -ENOMEM;
}

void ram_pages_free(RamPages *p)
{
    for (unsigned i = 0; i < GUEST_RAM_MAX_BLOCKS; i++) {
        g_clear_pointer(&p->maps[i], g_free);
    }
}

uint64_t ram_pages_take_dirty(RamPages *p, const GuestRam *ram)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *b = &ram->blocks[i];
        for (uint64_t page = 0; page < b->size / GUEST_RAM_PAGE; page += 64) {
            uint64_t bits = 0;
            guest_ram_log_take(b, page, MIN(64, b->size / GUEST_RAM_PAGE - page), &bits);
            p->maps[i][page / 64] |= GUINT64_TO_LE(bits);
            count += (unsigned)__builtin_popcountll(p->maps[i][page / 64]);
        }
    }
    return count;
}

void ram_pages_clear(RamPages *p, const GuestRam *ram)
{
    for (unsigned i = 0; i < ram->count; i++) {
        memset(p->maps[i], 0, ram_pages_map_bytes(ram->blocks[i].size));
    }
}

__attribute__((noinline, no_sanitize("thread"))) void ram_copy_live(void *to, const void *from,
                                                                    size_t len)
{
#ifdef __SANITIZE_THREAD__ /* memcpy() is intercepted */
    for (size_t i = 0; i < len; i += sizeof(uint64_t)) {
        *(volatile uint64_t *)((uint8_t *)to + i) =
            *(const volatile uint64_t *)((const uint8_t *)from + i);
    }
#else
    memcpy(to, from, len);
#endif
}
