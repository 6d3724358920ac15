/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that the registers of BootState refer to: a GDT, and identity-mapped page tables of the
 * first 4 GiB. */
#include <string.h>
#include "vmm/boot/boot_int.h"

#define BOOT_CODE_SELECTOR 0x10
#define BOOT_DATA_SELECTOR 0x18
#define GDT_CODE64 UINT64_C(0x00af9b000000ffff)
#define GDT_CODE32 UINT64_C(0x00cf9b000000ffff)
#define GDT_DATA UINT64_C(0x00cf93000000ffff)

bool boot_place_gdt(BootSpace *space, bool long_mode, BootState *state, GError **error)
{
    const uint64_t gdt[] = {0, 0, long_mode ? GDT_CODE64 : GDT_CODE32, GDT_DATA};
    void *host = boot_space_place_data(space, sizeof(gdt), &state->gdt_base, error);
    if (host == NULL) {
        return false;
    }
    memcpy(host, gdt, sizeof(gdt));
    state->gdt_limit = sizeof(gdt) - 1;
    state->code_selector = BOOT_CODE_SELECTOR;
    state->data_selector = BOOT_DATA_SELECTOR;
    return true;
}

#define PTE_PRESENT_WRITE UINT64_C(0x3)
#define PTE_LARGE UINT64_C(0x80)
#define PAGE_ENTRIES 512
#define MAPPED_GIB 4
#define LARGE_PAGE_SHIFT 21

/* One PML4, one PDPT, four page directories of 2 MiB pages: some processors lack 1 GiB pages. */
bool boot_place_identity_map(BootSpace *space, BootState *state, GError **error)
{
    const unsigned pages = 2 + MAPPED_GIB;
    uint64_t *table = boot_space_place_data(space, pages * 4096, &state->cr3, error);
    if (table == NULL) {
        return false;
    }
    uint64_t *pdpt = table + PAGE_ENTRIES;
    uint64_t *directories = pdpt + PAGE_ENTRIES;
    table[0] = (state->cr3 + 4096) | PTE_PRESENT_WRITE;
    for (unsigned i = 0; i < MAPPED_GIB; i++) {
        pdpt[i] = (state->cr3 + (2 + i) * 4096) | PTE_PRESENT_WRITE;
    }
    for (uint64_t i = 0; i < MAPPED_GIB * PAGE_ENTRIES; i++) {
        directories[i] = (i << LARGE_PAGE_SHIFT) | PTE_PRESENT_WRITE | PTE_LARGE;
    }
    return true;
}
