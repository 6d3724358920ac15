/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of the lean q35 for guests that boot without firmware: RSDP, XSDT, FADT, FACS, DSDT
 * (dsdt.asl, compiled at build), SSDT (values known only at start), MADT, MCFG. ACPI 6.3.
 *
 * They are written to the fixed areas of layout.h, which the memory map describes as ACPI data and
 * ACPI NVS. Any thread; the guest must not run.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_ACPI_H
#define SKIFF_VMM_BOARD_X86_64_ACPI_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/ram.h"
#include "hw/pci/pci.h"

typedef struct AcpiConfig {
    const uint32_t *apic_ids; /* of each processor, first the boot processor */
    unsigned cpu_count;
    PciWindows windows;
    bool has_com1, has_com2, has_pvpanic; /* devices the DSDT shows only when present */
} AcpiConfig;

/* Writes the tables into @ram; *@rsdp_gpa receives the RSDP's address. Repeated at every reset.
 * False + error when they do not fit (thousands of processors). */
bool x86_acpi_write(const AcpiConfig *config, GuestRam *ram, uint64_t *rsdp_gpa, GError **error)
    ANY_THREAD;

#endif
