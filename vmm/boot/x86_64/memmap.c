/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map of directly booted kernels: layout.h as E820 entries. */
#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

typedef struct MemmapBuilder {
    X86MemmapEntry *map;
    unsigned count;
} MemmapBuilder;

static void memmap_add(MemmapBuilder *b, uint64_t gpa, uint64_t end, uint32_t type)
{
    if (gpa >= end) {
        return;
    }
    g_assert(b->count < X86_MEMMAP_MAX);
    b->map[b->count++] = (X86MemmapEntry){.gpa = gpa, .size = end - gpa, .type = type};
}

/* The RAM block at 0, with the holes of the first MiB. */
static void memmap_add_first_mib(MemmapBuilder *b, uint64_t end)
{
    memmap_add(b, 0, X86_EBDA_BASE, X86_MEMMAP_RAM);
    memmap_add(b, X86_EBDA_BASE, X86_BASE_MEMORY_END, X86_MEMMAP_RESERVED);
    memmap_add(b, X86_ACPI_BASE, X86_ACPI_BASE + X86_ACPI_SIZE, X86_MEMMAP_ACPI);
    memmap_add(b, X86_ACPI_NVS_BASE, X86_ACPI_NVS_BASE + X86_ACPI_NVS_SIZE, X86_MEMMAP_NVS);
    memmap_add(b, X86_SYSTEM_ROM_BASE, X86_MIB, X86_MEMMAP_RESERVED);
    memmap_add(b, X86_MIB, end, X86_MEMMAP_RAM);
}

static void memmap_add_ram(MemmapBuilder *b, const GuestRam *ram, uint64_t from, uint64_t to)
{
    for (unsigned i = 0; i < ram->count; i++) {
        const RamBlock *block = &ram->blocks[i];
        if (block->read_only || block->gpa < from || block->gpa >= to) {
            continue;
        }
        if (block->gpa == 0) {
            memmap_add_first_mib(b, block->size);
        } else {
            memmap_add(b, block->gpa, block->gpa + block->size, X86_MEMMAP_RAM);
        }
    }
}

unsigned x86_memmap_build(const GuestRam *ram, X86MemmapEntry map[X86_MEMMAP_MAX])
{
    MemmapBuilder b = {.map = map};
    memmap_add_ram(&b, ram, 0, X86_4GIB);
    memmap_add(&b, X86_ECAM_BASE, X86_ECAM_BASE + X86_ECAM_SIZE, X86_MEMMAP_RESERVED);
    /* On Intel hosts KVM uses pages here. */
    memmap_add(&b, X86_KVM_IDENTITY_MAP_GPA, X86_4GIB - X86_ROM_MAX_SIZE, X86_MEMMAP_RESERVED);
    memmap_add_ram(&b, ram, X86_4GIB, UINT64_MAX);
    return b.count;
}
