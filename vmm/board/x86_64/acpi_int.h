/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI tables that have no address yet: acpi.c builds them, acpi_place.c and acpi_loader.c give
 * them one. Any thread.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_ACPI_INT_H
#define SKIFF_VMM_BOARD_X86_64_ACPI_INT_H

#include "vmm/board/x86_64/acpi.h"

#define ACPI_RSDP_SIZE 36
/* Offsets in the RSDP. §5.2.5.3. */
#define ACPI_RSDP_CHECKSUM 8
#define ACPI_RSDP_V1_SIZE 20 /* the part that the first checksum covers */
#define ACPI_RSDP_RSDT 16
#define ACPI_RSDP_XSDT 24
#define ACPI_RSDP_EXTENDED_CHECKSUM 32
#define ACPI_FACS_OFFSET 0 /* of the FACS in the tables */
#define ACPI_FACS_SIZE 64

/* What a field of the tables points to. */
typedef enum AcpiTarget {
    ACPI_TARGET_TABLES,
    ACPI_TARGET_VMGENID, /* the page of the VM generation id */
} AcpiTarget;

/* A field that has an offset into its target and must get the address of that offset. */
typedef struct AcpiLink {
    guint at;
    unsigned size; /* 4 or 8 */
    AcpiTarget target;
} AcpiLink;

/* A checksum to be computed after the links are set: with the byte at @at all of them add up to
 * 0. */
typedef struct AcpiSum {
    guint start, size, at;
} AcpiSum;

/* All tables but the RSDP are in `bytes`, which is 64-byte aligned wherever it is placed. */
typedef struct AcpiTables {
    GByteArray *bytes;
    GArray *links; /* AcpiLink, in `bytes` */
    GArray *sums;  /* AcpiSum, in `bytes`; fields are 0 */
    guint rsdt, xsdt;
    uint8_t rsdp[ACPI_RSDP_SIZE]; /* with offsets as addresses, without checksums */
} AcpiTables;

AcpiTables *acpi_tables_new(const AcpiConfig *config) ANY_THREAD;
void acpi_tables_free(AcpiTables *tables) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AcpiTables, acpi_tables_free)

#endif
