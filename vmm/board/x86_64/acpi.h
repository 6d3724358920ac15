/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables of the lean q35: RSDP, XSDT, RSDT, FADT, FACS, DSDT (dsdt.asl, compiled at build),
 * SSDT (values known only at start), MADT, MCFG, and an SSDT for vmgenid. ACPI 6.3.
 *
 * For guests that boot without firmware they are written to the fixed areas of layout.h, which the
 * memory map describes as ACPI data and ACPI NVS. Firmware reads them from fw_cfg, with the
 * commands that place them.
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
    uint8_t last_bus;                     /* Linux probes all 32 slots of every bus up to it */
    bool has_com1, has_com2, has_pvpanic; /* devices the DSDT shows only when present */
    bool has_vmgenid;                     /* adds its SSDT */
} AcpiConfig;

/* The names of the files. */
#define ACPI_FILE_LOADER "etc/table-loader"
#define ACPI_FILE_RSDP "etc/acpi/rsdp"
#define ACPI_FILE_TABLES "etc/acpi/tables"

typedef struct AcpiFiles {
    GBytes *loader, *rsdp, *tables;
} AcpiFiles;

/* Builds the files for firmware; the caller owns the references. Their sizes do not depend on the
 * PCI windows. */
void x86_acpi_build_files(const AcpiConfig *config, AcpiFiles *files) ANY_THREAD;

/* Writes the tables into @ram; *@rsdp_gpa receives the RSDP's address. Repeated at every reset.
 * The guest must not run. The board places the page of the generation id at X86_VMGENID_PAGE.
 * False + error when they do not fit (thousands of processors). */
bool x86_acpi_write(const AcpiConfig *config, GuestRam *ram, uint64_t *rsdp_gpa, GError **error)
    ANY_THREAD;

#endif
