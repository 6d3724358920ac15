/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The data of a BIOS in the first MiB, for kernels that read it or return to real mode.
 *
 *   0x00000  interrupt vectors of real mode: each points to one of the handlers below
 *   0x0040e  segment of the EBDA (16 bits)
 *   0x00413  KiB of memory below the EBDA (16 bits); kernels place real-mode code below that
 *   0x9fc00  EBDA: its own size in KiB
 *   0xf0000  handlers: they acknowledge a hardware interrupt and return
 */
#include <string.h>
#include "vmm/boot/boot_int.h"
#include "vmm/arch/x86_64/layout.h"

#define BIOS_SEGMENT (X86_SYSTEM_ROM_BASE >> 4)
#define BIOS_VECTORS 256
#define BIOS_MASTER_VECTOR 0x08 /* IRQ 0-7 */
#define BIOS_SLAVE_VECTOR 0x70  /* IRQ 8-15 */
#define BIOS_IRQS 8

enum { /* offsets in the segment */
       HANDLER_NOTHING = 0x00,
       HANDLER_MASTER = 0x10,
       HANDLER_SLAVE = 0x20,
};

/* iret */
static const uint8_t bios_nothing[] = {0xcf};
/* push %ax; mov $0x20, %al; out %al, $0x20; pop %ax; iret */
static const uint8_t bios_master[] = {0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf};
/* push %ax; mov $0x20, %al; out %al, $0xa0; out %al, $0x20; pop %ax; iret */
static const uint8_t bios_slave[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf};

static uint16_t bios_handler_of(unsigned vector)
{
    if (vector - BIOS_MASTER_VECTOR < BIOS_IRQS) {
        return HANDLER_MASTER;
    }
    return vector - BIOS_SLAVE_VECTOR < BIOS_IRQS ? HANDLER_SLAVE : HANDLER_NOTHING;
}

static void bios_put(GuestRam *ram, uint64_t gpa, const void *data, size_t size)
{
    memcpy(guest_ram_map(ram, gpa, size, true), data, size);
}

static void bios_put_u16(GuestRam *ram, uint64_t gpa, uint64_t value)
{
    uint16_t word = (uint16_t)value;
    bios_put(ram, gpa, &word, sizeof(word));
}

void boot_place_bios_data(GuestRam *ram)
{
    for (unsigned vector = 0; vector < BIOS_VECTORS; vector++) {
        bios_put_u16(ram, 4 * vector, bios_handler_of(vector));
        bios_put_u16(ram, 4 * vector + 2, BIOS_SEGMENT);
    }
    bios_put(ram, X86_SYSTEM_ROM_BASE + HANDLER_NOTHING, bios_nothing, sizeof(bios_nothing));
    bios_put(ram, X86_SYSTEM_ROM_BASE + HANDLER_MASTER, bios_master, sizeof(bios_master));
    bios_put(ram, X86_SYSTEM_ROM_BASE + HANDLER_SLAVE, bios_slave, sizeof(bios_slave));
    bios_put_u16(ram, X86_BDA_EBDA_SEGMENT, X86_EBDA_BASE >> 4);
    bios_put_u16(ram, X86_BDA_MEMORY_SIZE, X86_EBDA_BASE / X86_KIB);
    bios_put_u16(ram, X86_EBDA_BASE, (X86_BASE_MEMORY_END - X86_EBDA_BASE) / X86_KIB);
}
