/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI 6.3 tables, written byte by byte in the order the specification lists their fields.
 *
 *   X86_ACPI_BASE      RSDP, XSDT -> FADT -> DSDT (and FACS)
 *                              \---> MADT, MCFG, SSDT
 *   X86_ACPI_NVS_BASE  FACS
 */
#include "vmm/board/x86_64/acpi.h"

#include <inttypes.h>
#include <string.h>

#include "dsdt.h"
#include "util/opts/opts.h"
#include "vmm/arch/x86_64/layout.h"

#define ACPI_OEM_ID "SKIFF "
#define ACPI_OEM_TABLE_ID "SKIFFQ35"
#define ACPI_CREATOR "SKIF"
#define ACPI_RSDP_SIZE 36
#define ACPI_FACS_SIZE 64
#define ACPI_HEADER_SIZE 36
#define ACPI_HEADER_CHECKSUM 9
#define ACPI_TABLE_ALIGN 16

/* ---- little-endian bytes ---- */

static void acpi_put(GByteArray *out, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));
        g_byte_array_append(out, &byte, 1);
    }
}

static void acpi_put_text(GByteArray *out, const char *text, unsigned size)
{
    g_byte_array_append(out, (const uint8_t *)text, size);
}

static void acpi_put_zeros(GByteArray *out, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        acpi_put(out, 0, 1);
    }
}

static void acpi_poke(GByteArray *out, guint offset, uint64_t value, unsigned size)
{
    for (unsigned i = 0; i < size; i++) {
        out->data[offset + i] = (uint8_t)(value >> (8 * i));
    }
}

/* All bytes of a table add up to 0. */
static void acpi_set_checksum(GByteArray *out, guint start, guint size, guint at)
{
    uint8_t sum = 0;
    out->data[start + at] = 0;
    for (guint i = 0; i < size; i++) {
        sum = (uint8_t)(sum + out->data[start + i]);
    }
    out->data[start + at] = (uint8_t)-sum;
}

/* Begins a table at the next aligned offset and returns it. §5.2.6. */
static guint acpi_begin(GByteArray *out, const char *signature, uint8_t revision)
{
    acpi_put_zeros(out, -out->len % ACPI_TABLE_ALIGN);
    guint start = out->len;
    acpi_put_text(out, signature, 4);
    acpi_put(out, 0, 4); /* length: acpi_end() */
    acpi_put(out, revision, 1);
    acpi_put(out, 0, 1); /* checksum */
    acpi_put_text(out, ACPI_OEM_ID, 6);
    acpi_put_text(out, ACPI_OEM_TABLE_ID, 8);
    acpi_put(out, 1, 4); /* OEM revision */
    acpi_put_text(out, ACPI_CREATOR, 4);
    acpi_put(out, 1, 4); /* creator revision */
    return start;
}

/* Returns the table's guest-physical address. */
static uint64_t acpi_end(GByteArray *out, guint start)
{
    acpi_poke(out, start + 4, out->len - start, 4);
    acpi_set_checksum(out, start, out->len - start, ACPI_HEADER_CHECKSUM);
    return X86_ACPI_BASE + start;
}

/* Generic address of a register block in port space. §5.2.3.2. */
static void acpi_put_port(GByteArray *out, uint64_t port, uint8_t bits)
{
    acpi_put(out, 1, 1); /* system I/O */
    acpi_put(out, bits, 1);
    acpi_put(out, 0, 1);
    acpi_put(out, 0, 1); /* access size: undefined, the block has registers of several */
    acpi_put(out, port, 8);
}

/* ---- DSDT and SSDT ---- */

static uint64_t acpi_put_dsdt(GByteArray *out)
{
    acpi_put_zeros(out, -out->len % ACPI_TABLE_ALIGN);
    guint start = out->len;
    g_byte_array_append(out, dsdt_aml_code, sizeof(dsdt_aml_code));
    return X86_ACPI_BASE + start;
}

#define AML_NAME_OP 0x08
#define AML_QWORD_PREFIX 0x0e

/* Name (\name, value). §20.2.5.1. */
static void acpi_put_aml_integer(GByteArray *out, const char *name, uint64_t value)
{
    acpi_put(out, AML_NAME_OP, 1);
    acpi_put_text(out, name, 4);
    acpi_put(out, AML_QWORD_PREFIX, 1);
    acpi_put(out, value, 8);
}

/* The values that dsdt.asl takes from the SSDT. */
static uint64_t acpi_put_ssdt(GByteArray *out, const AcpiConfig *config)
{
    const PciWindows *w = &config->windows;
    const unsigned devices =
        (config->has_com1 ? 1u : 0) | (config->has_com2 ? 2u : 0) | (config->has_pvpanic ? 4u : 0);
    guint start = acpi_begin(out, "SSDT", 2);
    acpi_put_aml_integer(out, "DEVS", devices);
    acpi_put_aml_integer(out, "ECMB", w->ecam_base);
    acpi_put_aml_integer(out, "M32B", w->mmio32_base);
    acpi_put_aml_integer(out, "M32L", w->mmio32_size);
    acpi_put_aml_integer(out, "M64B", w->mmio64_base);
    acpi_put_aml_integer(out, "M64L", w->mmio64_size);
    return acpi_end(out, start);
}

/* ---- FADT ---- */

enum { /* boot architecture flags, §5.2.9.3; bit 1 (8042) is clear: no keyboard */
       FADT_LEGACY_DEVICES = 1u << 0,
       FADT_NO_VGA = 1u << 2,
       FADT_NO_ASPM = 1u << 4,
};

enum { /* fixed feature flags, table 5-35; bit 4 clear: a fixed power button */
       FADT_WBINVD = 1u << 0,
       FADT_PROC_C1 = 1u << 2,
       FADT_NO_SLEEP_BUTTON = 1u << 5,
       FADT_NO_FIXED_RTC = 1u << 6,
       FADT_RESET_REGISTER = 1u << 10,
       FADT_PLATFORM_CLOCK = 1u << 15,
};

#define FADT_CENTURY 0x32 /* CMOS index of the RTC's century */
#define FADT_NO_C2 0x0fff /* latencies that disable C2, C3 */
#define FADT_MINOR_REVISION 3

/* The fields of ACPI 1.0: 32-bit addresses. */
static void acpi_put_fadt_ports(GByteArray *out, uint64_t dsdt)
{
    acpi_put(out, X86_ACPI_NVS_BASE, 4); /* FACS */
    acpi_put(out, dsdt, 4);
    acpi_put(out, 0, 1); /* reserved */
    acpi_put(out, 0, 1); /* preferred profile: unspecified */
    acpi_put(out, X86_GSI_SCI, 2);
    acpi_put(out, 0, 4); /* SMI command: none, the machine is always in ACPI mode */
    acpi_put(out, 0, 4); /* ACPI enable, disable, S4BIOS, P-state control */
    acpi_put(out, X86_PM1_EVENT, 4);
    acpi_put(out, 0, 4);
    acpi_put(out, X86_PM1_CONTROL, 4);
    acpi_put(out, 0, 4);
    acpi_put(out, 0, 4); /* PM2 control */
    acpi_put(out, X86_PM_TIMER, 4);
    acpi_put(out, X86_GPE0, 4);
    acpi_put(out, 0, 4); /* GPE1 */
    acpi_put(out, 4, 1); /* lengths: PM1 event, PM1 control, PM2 control, PM timer */
    acpi_put(out, 2, 1);
    acpi_put(out, 0, 1);
    acpi_put(out, 4, 1);
    acpi_put(out, X86_GPE0_SIZE, 1);
    acpi_put(out, 0, 1); /* GPE1 length, GPE1 base, C-state control */
    acpi_put(out, 0, 2);
}

static void acpi_put_fadt_features(GByteArray *out)
{
    acpi_put(out, FADT_NO_C2, 2);
    acpi_put(out, FADT_NO_C2, 2);
    acpi_put(out, 0, 4); /* flush size and stride: WBINVD works */
    acpi_put(out, 0, 2); /* duty offset and width: no throttling */
    acpi_put(out, 0, 2); /* RTC alarm day and month */
    acpi_put(out, FADT_CENTURY, 1);
    acpi_put(out, FADT_LEGACY_DEVICES | FADT_NO_VGA | FADT_NO_ASPM, 2);
    acpi_put(out, 0, 1);
    acpi_put(out,
             FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC |
                 FADT_RESET_REGISTER | FADT_PLATFORM_CLOCK,
             4);
    acpi_put_port(out, X86_PORT_RESET, 8);
    acpi_put(out, X86_RESET_VALUE, 1);
    acpi_put(out, 0, 2); /* ARM boot flags */
    acpi_put(out, FADT_MINOR_REVISION, 1);
}

/* The same registers as generic addresses. */
static void acpi_put_fadt_extended(GByteArray *out, uint64_t dsdt)
{
    acpi_put(out, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field has the FACS */
    acpi_put(out, dsdt, 8);
    acpi_put_port(out, X86_PM1_EVENT, 32);
    acpi_put_zeros(out, 12);
    acpi_put_port(out, X86_PM1_CONTROL, 16);
    acpi_put_zeros(out, 12);
    acpi_put_zeros(out, 12);
    acpi_put_port(out, X86_PM_TIMER, 32);
    acpi_put_port(out, X86_GPE0, X86_GPE0_SIZE * 8);
    acpi_put_zeros(out, 12);
    acpi_put_zeros(out, 12 + 12);       /* sleep control and status: hardware-reduced ACPI only */
    acpi_put_text(out, "SKIFF\0\0", 8); /* hypervisor vendor */
}

/* §5.2.9. */
static uint64_t acpi_put_fadt(GByteArray *out, uint64_t dsdt)
{
    guint start = acpi_begin(out, "FACP", 6);
    acpi_put_fadt_ports(out, dsdt);
    acpi_put_fadt_features(out);
    acpi_put_fadt_extended(out, dsdt);
    g_assert(out->len - start == 276);
    return acpi_end(out, start);
}

/* ---- MADT ---- */

#define MADT_PCAT_COMPAT 1 /* two 8259s have to be disabled */
#define MADT_ENABLED 1
#define MADT_LEVEL_HIGH 0xd
#define MADT_MAX_XAPIC_ID 254
#define MADT_ALL_PROCESSORS_X2APIC UINT32_MAX
#define MADT_ALL_PROCESSORS 0xff
#define MADT_NMI_LINT 1

/* §5.2.12.2, §5.2.12.12; the processor's UID is its index. */
static void acpi_put_local_apic(GByteArray *out, unsigned index, uint32_t apic_id)
{
    if (apic_id <= MADT_MAX_XAPIC_ID && index <= MADT_MAX_XAPIC_ID) {
        acpi_put(out, 0, 1);
        acpi_put(out, 8, 1);
        acpi_put(out, index, 1);
        acpi_put(out, apic_id, 1);
        acpi_put(out, MADT_ENABLED, 4);
        return;
    }
    acpi_put(out, 9, 1);
    acpi_put(out, 16, 1);
    acpi_put(out, 0, 2);
    acpi_put(out, apic_id, 4);
    acpi_put(out, MADT_ENABLED, 4);
    acpi_put(out, index, 4);
}

static void acpi_put_io_apic(GByteArray *out)
{
    acpi_put(out, 1, 1);
    acpi_put(out, 12, 1);
    acpi_put(out, 0, 1); /* id */
    acpi_put(out, 0, 1);
    acpi_put(out, X86_IOAPIC_BASE, 4);
    acpi_put(out, 0, 4); /* first GSI */
}

static void acpi_put_irq_override(GByteArray *out, uint8_t irq, uint32_t gsi, uint16_t flags)
{
    acpi_put(out, 2, 1);
    acpi_put(out, 10, 1);
    acpi_put(out, 0, 1); /* ISA */
    acpi_put(out, irq, 1);
    acpi_put(out, gsi, 4);
    acpi_put(out, flags, 2);
}

static void acpi_put_nmi(GByteArray *out, bool x2apic)
{
    if (x2apic) { /* §5.2.12.13 */
        acpi_put(out, 10, 1);
        acpi_put(out, 12, 1);
        acpi_put(out, 0, 2);
        acpi_put(out, MADT_ALL_PROCESSORS_X2APIC, 4);
        acpi_put(out, MADT_NMI_LINT, 1);
        acpi_put(out, 0, 3);
        return;
    }
    acpi_put(out, 4, 1); /* §5.2.12.7 */
    acpi_put(out, 6, 1);
    acpi_put(out, MADT_ALL_PROCESSORS, 1);
    acpi_put(out, 0, 2);
    acpi_put(out, MADT_NMI_LINT, 1);
}

/* §5.2.12. */
static uint64_t acpi_put_madt(GByteArray *out, const AcpiConfig *config)
{
    bool x2apic = false;
    guint start = acpi_begin(out, "APIC", 5);
    acpi_put(out, X86_LAPIC_BASE, 4);
    acpi_put(out, MADT_PCAT_COMPAT, 4);
    for (unsigned i = 0; i < config->cpu_count; i++) {
        acpi_put_local_apic(out, i, config->apic_ids[i]);
        x2apic |= config->apic_ids[i] > MADT_MAX_XAPIC_ID || i > MADT_MAX_XAPIC_ID;
    }
    acpi_put_io_apic(out);
    acpi_put_irq_override(out, 0, X86_GSI_TIMER, 0);
    acpi_put_irq_override(out, X86_GSI_SCI, X86_GSI_SCI, MADT_LEVEL_HIGH);
    acpi_put_nmi(out, false);
    if (x2apic) {
        acpi_put_nmi(out, true);
    }
    return acpi_end(out, start);
}

/* ---- the rest ---- */

/* PCI Firmware 3.2 §4.1.2. */
static uint64_t acpi_put_mcfg(GByteArray *out, const AcpiConfig *config)
{
    guint start = acpi_begin(out, "MCFG", 1);
    acpi_put(out, 0, 8);
    acpi_put(out, config->windows.ecam_base, 8);
    acpi_put(out, 0, 2); /* segment */
    acpi_put(out, 0, 1); /* first and last bus */
    acpi_put(out, X86_PCI_LAST_BUS, 1);
    acpi_put(out, 0, 4);
    return acpi_end(out, start);
}

/* §5.2.5.3. */
static void acpi_fill_rsdp(GByteArray *out, uint64_t xsdt)
{
    memcpy(out->data, "RSD PTR ", 8);
    memcpy(out->data + 9, ACPI_OEM_ID, 6);
    acpi_poke(out, 15, 2, 1); /* revision */
    acpi_poke(out, 20, ACPI_RSDP_SIZE, 4);
    acpi_poke(out, 24, xsdt, 8);
    acpi_set_checksum(out, 0, 20, 8);
    acpi_set_checksum(out, 0, ACPI_RSDP_SIZE, 32);
}

/* §5.2.10. */
static bool acpi_write_facs(GuestRam *ram)
{
    g_autoptr(GByteArray) facs = g_byte_array_new();
    acpi_put_text(facs, "FACS", 4);
    acpi_put(facs, ACPI_FACS_SIZE, 4);
    acpi_put_zeros(facs, ACPI_FACS_SIZE - 8);
    acpi_poke(facs, 32, 2, 1); /* version */
    return guest_ram_write(ram, X86_ACPI_NVS_BASE, facs->data, facs->len);
}

static GByteArray *acpi_build(const AcpiConfig *config)
{
    GByteArray *out = g_byte_array_new();
    acpi_put_zeros(out, ACPI_RSDP_SIZE);
    uint64_t dsdt = acpi_put_dsdt(out);
    const uint64_t tables[] = {
        acpi_put_fadt(out, dsdt),
        acpi_put_madt(out, config),
        acpi_put_mcfg(out, config),
        acpi_put_ssdt(out, config),
    };
    guint xsdt = acpi_begin(out, "XSDT", 1);
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        acpi_put(out, tables[i], 8);
    }
    acpi_fill_rsdp(out, acpi_end(out, xsdt));
    return out;
}

bool x86_acpi_write(const AcpiConfig *config, GuestRam *ram, uint64_t *rsdp_gpa, GError **error)
{
    g_autoptr(GByteArray) tables = acpi_build(config);
    if (tables->len > X86_ACPI_SIZE) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "the ACPI tables of %u processors need %u KiB, there is room for %" PRIu64
                    "; give fewer with -smp",
                    config->cpu_count, tables->len / 1024, X86_ACPI_SIZE / X86_KIB);
        return false;
    }
    /* A board without RAM there has a bug. */
    bool ok =
        guest_ram_write(ram, X86_ACPI_BASE, tables->data, tables->len) && acpi_write_facs(ram);
    g_assert(ok);
    *rsdp_gpa = X86_ACPI_BASE;
    return true;
}
