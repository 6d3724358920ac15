/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of the lean q35's guest-physical and port space. Any thread; pure functions and
 * constants.
 *
 *   0x0000000000  RAM (0xe0000-0xfffff: ACPI and SMBIOS tables; with firmware 0xa0000-0xbffff is empty, and
 *                 0xc0000-0xfffff is what the PAM registers say, see vmm/board/x86_64/shadow.h)
 *   0x00b0000000  ECAM, 256 MiB: RAM below 4 GiB ends here at the latest (2.75 GiB)
 *   0x00c0000000  PCI MMIO, 32-bit window
 *   0x00fec00000  IOAPIC
 *   0x00fee00000  local APICs, MSI
 *   0x00feffc000  identity map page and TSS that KVM needs on Intel
 *   0x00ff000000  ROM, up to 16 MiB, ends at 4 GiB
 *   0x0100000000  RAM above the hole
 *   1 GiB-aligned PCI MMIO, 64-bit window, up to the guest's last physical address
 */
#ifndef SKIFF_VMM_ARCH_X86_64_LAYOUT_H
#define SKIFF_VMM_ARCH_X86_64_LAYOUT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/pci/pci.h"

#define X86_KIB UINT64_C(0x400)
#define X86_MIB UINT64_C(0x100000)
#define X86_GIB UINT64_C(0x40000000)
#define X86_4GIB UINT64_C(0x100000000)
#define X86_PAGE_SIZE UINT64_C(0x1000)

/* ---- memory ---- */
#define X86_LOW_RAM_MAX UINT64_C(0xb0000000) /* RAM below 4 GiB ends here at the latest */
#define X86_RAM_MIN (2 * X86_MIB)
#define X86_ECAM_BASE UINT64_C(0xb0000000)
#define X86_ECAM_SIZE UINT64_C(0x10000000)
#define X86_MMIO32_BASE UINT64_C(0xc0000000)
#define X86_MMIO32_SIZE UINT64_C(0x3ec00000) /* to 0xfebfffff */
#define X86_IOAPIC_BASE UINT64_C(0xfec00000)
#define X86_LAPIC_BASE UINT64_C(0xfee00000)
#define X86_KVM_IDENTITY_MAP_GPA UINT64_C(0xfeffc000) /* one page */
#define X86_KVM_TSS_GPA UINT64_C(0xfeffd000)          /* three pages */
#define X86_ROM_MAX_SIZE (16 * X86_MIB)
#define X86_ROM_SHADOW_SIZE UINT64_C(0x20000) /* the ROM's last bytes again, up to 1 MiB */
/* HyperTransport uses 0xfd00000000-0xffffffffff on AMD hosts; nothing is placed there. */
#define X86_GPA_LIMIT UINT64_C(0xfd00000000)

/* Direct kernel boot: no firmware uses the first MiB, so ACPI tables and boot data are placed
 * there. */
#define X86_BOOT_DATA_BASE UINT64_C(0x1000)  /* boot_params, page tables, GDT, command line, ... */
#define X86_BDA_EBDA_SEGMENT UINT64_C(0x40e) /* BIOS data area: 16 bits each */
#define X86_BDA_MEMORY_SIZE UINT64_C(0x413)  /* KiB below the EBDA */
#define X86_EBDA_BASE UINT64_C(0x9fc00)      /* 0x9fc00-0xdffff is not RAM for the guest */
#define X86_BASE_MEMORY_END UINT64_C(0xa0000)
/* RSDP (guests also find it by scanning), then the tables */
#define X86_ACPI_BASE UINT64_C(0xe0000)
#define X86_ACPI_SIZE UINT64_C(0xf000)
#define X86_ACPI_NVS_BASE UINT64_C(0xef000) /* FACS, the VM generation id */
#define X86_ACPI_NVS_SIZE UINT64_C(0x1000)
#define X86_VMGENID_PAGE UINT64_C(0xef100)    /* only its first 56 bytes exist */
#define X86_SYSTEM_ROM_BASE UINT64_C(0xf0000) /* every PC operating system leaves it unused */
/* In the system ROM, after its code: guests search it for the entry point, which the tables
 * follow. */
#define X86_SMBIOS_BASE UINT64_C(0xf1000)
#define X86_SMBIOS_SIZE UINT64_C(0xf000)

/* ---- ports ---- */
#define X86_PORT_KBD 0x60      /* i8042 data; command/status 0x64: reset pulse only */
#define X86_PORT_RTC 0x70      /* CMOS index and data */
#define X86_PORT_SMI_CMD 0xb2  /* ACPI enable/disable */
#define X86_PORT_DEBUGCON 0xe9 /* as Bochs; -debugcon's default */
#define X86_PORT_COM2 0x2f8
#define X86_PORT_COM1 0x3f8
#define X86_PORT_DEBUG_EXIT 0x501 /* default iobase of isa-debug-exit */
#define X86_PORT_PVPANIC 0x505
#define X86_PORT_FW_CFG 0x510 /* selector, data 0x511, DMA 0x514-0x51b */
#define X86_PORT_PM 0x600     /* ICH9 PMBASE */
#define X86_PORT_PM_SIZE 0x80
#define X86_PORT_HOTPLUG 0xcc0    /* PCI hotplug registers, 16 ports */
#define X86_PORT_PCI_CONFIG 0xcf8 /* address; data 0xcfc; byte 0xcf9 is the reset register */
#define X86_PORT_RESET 0xcf9

/* Blocks within PMBASE. ICH9 datasheet §13.8.3. */
#define X86_PM1_EVENT (X86_PORT_PM + 0x00)   /* 4 bytes: status, enable */
#define X86_PM1_CONTROL (X86_PORT_PM + 0x04) /* 2 bytes */
#define X86_PM_TIMER (X86_PORT_PM + 0x08)    /* 4 bytes, 3.579545 MHz */
#define X86_GPE0 (X86_PORT_PM + 0x20)        /* 16 bytes: 8 status, 8 enable */
#define X86_GPE0_SIZE 16
#define X86_SMI_ACPI_ENABLE 2 /* values written to the SMI command port */
#define X86_SMI_ACPI_DISABLE 3
#define X86_S5_SLEEP_TYPE 0  /* SLP_TYP of soft-off in PM1_CNT, as in the DSDT's _S5 */
#define X86_RESET_VALUE 0x06 /* to X86_PORT_RESET: full reset */

/* ---- interrupts: global system interrupts; ISA IRQ 0 is GSI 2, the others are equal ---- */
#define X86_GSI_TIMER 2
#define X86_GSI_COM2 3
#define X86_GSI_COM1 4
#define X86_GSI_RTC 8
#define X86_GSI_SCI 9
#define X86_GSI_PCI_BASE 16 /* PCI INTx: 16-23, one per IrqGate of the bus */
#define X86_GSI_COUNT 24    /* IOAPIC pins */

typedef struct X86RamRange {
    uint64_t gpa;
    uint64_t size;
    uint64_t offset; /* into the machine's RAM */
} X86RamRange;

#define X86_MAX_RAM_RANGES 2

typedef struct X86Layout {
    X86RamRange ram[X86_MAX_RAM_RANGES]; /* sorted by gpa */
    unsigned ram_count;
    PciWindows windows; /* mmio64_size 0: no room for it */
} X86Layout;

/*
 * Lays out @ram_size bytes of RAM for a guest with @phys_bits of physical address. False + error
 * when the size is not a multiple of 4 KiB, too small, or does not fit the addresses.
 */
bool x86_layout_compute(uint64_t ram_size, unsigned phys_bits, X86Layout *layout, GError **error)
    ANY_THREAD;
/* Extends the 64-bit window to the guest's last physical address: firmware places BARs where it
 * likes. */
void x86_layout_open_mmio64(X86Layout *layout, unsigned phys_bits) ANY_THREAD;

#endif
