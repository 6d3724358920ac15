/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts the ACPI tables into guest RAM.
 *
 *   X86_ACPI_BASE      RSDP, in 64 bytes
 *                      the other tables
 *   X86_ACPI_NVS_BASE  FACS
 */
#include <inttypes.h>
#include <string.h>

#include "util/opts/opts.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/board/x86_64/acpi_int.h"

#define ACPI_TABLES_BASE (X86_ACPI_BASE + 64)

static uint64_t acpi_address(AcpiTarget target, uint64_t offset)
{
    if (target == ACPI_TARGET_VMGENID) {
        return X86_VMGENID_PAGE + offset;
    }
    return offset == ACPI_FACS_OFFSET ? X86_ACPI_NVS_BASE : ACPI_TABLES_BASE + offset;
}

static void acpi_set_link(uint8_t *data, const AcpiLink *link)
{
    uint64_t value = 0;
    memcpy(&value, data + link->at, link->size);
    value = GUINT64_TO_LE(acpi_address(link->target, GUINT64_FROM_LE(value)));
    memcpy(data + link->at, &value, link->size);
}

static void acpi_set_sum(uint8_t *data, const AcpiSum *sum)
{
    uint8_t total = 0;
    for (guint i = 0; i < sum->size; i++) {
        total = (uint8_t)(total + data[sum->start + i]);
    }
    data[sum->at] = (uint8_t)-total;
}

static void acpi_relocate(AcpiTables *t)
{
    static const AcpiLink links[] = {{.at = ACPI_RSDP_RSDT, .size = 4},
                                     {.at = ACPI_RSDP_XSDT, .size = 8}};
    static const AcpiSum sums[] = {{0, ACPI_RSDP_V1_SIZE, ACPI_RSDP_CHECKSUM},
                                   {0, ACPI_RSDP_SIZE, ACPI_RSDP_EXTENDED_CHECKSUM}};
    for (guint i = 0; i < t->links->len; i++) {
        acpi_set_link(t->bytes->data, &g_array_index(t->links, AcpiLink, i));
    }
    for (guint i = 0; i < t->sums->len; i++) {
        acpi_set_sum(t->bytes->data, &g_array_index(t->sums, AcpiSum, i));
    }
    for (guint i = 0; i < G_N_ELEMENTS(links); i++) {
        acpi_set_link(t->rsdp, &links[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(sums); i++) {
        acpi_set_sum(t->rsdp, &sums[i]);
    }
}

bool x86_acpi_write(const AcpiConfig *config, GuestRam *ram, uint64_t *rsdp_gpa, GError **error)
{
    g_autoptr(AcpiTables) t = acpi_tables_new(config);
    if (t->bytes->len > X86_ACPI_BASE + X86_ACPI_SIZE - ACPI_TABLES_BASE) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "the ACPI tables of %u processors need %u KiB, there is room for %" PRIu64
                    "; give fewer with -smp",
                    config->cpu_count, t->bytes->len / 1024, X86_ACPI_SIZE / X86_KIB);
        return false;
    }
    acpi_relocate(t);
    /* A board without RAM there has a bug. */
    bool ok =
        guest_ram_write(ram, X86_ACPI_BASE, t->rsdp, ACPI_RSDP_SIZE) &&
        guest_ram_write(ram, ACPI_TABLES_BASE, t->bytes->data, t->bytes->len) &&
        guest_ram_write(ram, X86_ACPI_NVS_BASE, t->bytes->data + ACPI_FACS_OFFSET, ACPI_FACS_SIZE);
    g_assert(ok);
    *rsdp_gpa = X86_ACPI_BASE;
    return true;
}
