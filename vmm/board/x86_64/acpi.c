/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI 6.3 tables, written byte by byte in the order the specification lists their fields.
 *
 *   RSDP -> XSDT, RSDT -> FADT -> FACS, DSDT
 *                    \---> MADT, MCFG, SSDT
 *
 * acpi_place.c puts them into guest RAM; acpi_loader.c gives them to firmware.
 */
#include <string.h>

#include "dsdt.h"
#include "vmgenid.h"
#include "vmm/arch/x86_64/layout.h"
#include "vmm/board/x86_64/acpi_int.h"

#define ACPI_OEM_ID "SKIFF "
#define ACPI_OEM_TABLE_ID "SKIFFQ35"
#define ACPI_CREATOR "SKIF"
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

/* ---- tables ---- */

/* Appends the address of the table at offset @target. */
static void acpi_put_link(AcpiTables *t, guint target, unsigned size)
{
    const AcpiLink link = {.at = t->bytes->len, .size = size};
    g_array_append_val(t->links, link);
    acpi_put(t->bytes, target, size);
}

/* Begins a table at the next aligned offset and returns it. §5.2.6. */
static guint acpi_begin(AcpiTables *t, const char *signature, uint8_t revision)
{
    GByteArray *out = t->bytes;
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

/* Returns @start. */
static guint acpi_end(AcpiTables *t, guint start)
{
    const AcpiSum sum = {
        .start = start, .size = t->bytes->len - start, .at = start + ACPI_HEADER_CHECKSUM};
    acpi_poke(t->bytes, start + 4, sum.size, 4);
    g_array_append_val(t->sums, sum);
    return start;
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

/* Its checksum is iasl's. */
static guint acpi_put_dsdt(AcpiTables *t)
{
    acpi_put_zeros(t->bytes, -t->bytes->len % ACPI_TABLE_ALIGN);
    guint start = t->bytes->len;
    g_byte_array_append(t->bytes, dsdt_aml_code, sizeof(dsdt_aml_code));
    return start;
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
static guint acpi_put_ssdt(AcpiTables *t, const AcpiConfig *config)
{
    GByteArray *out = t->bytes;
    const PciWindows *w = &config->windows;
    const unsigned devices =
        (config->has_com1 ? 1u : 0) | (config->has_com2 ? 2u : 0) | (config->has_pvpanic ? 4u : 0);
    guint start = acpi_begin(t, "SSDT", 2);
    acpi_put_aml_integer(out, "DEVS", devices);
    acpi_put_aml_integer(out, "ECMB", w->ecam_base);
    acpi_put_aml_integer(out, "M32B", w->mmio32_base);
    acpi_put_aml_integer(out, "M32L", w->mmio32_size);
    acpi_put_aml_integer(out, "M64B", w->mmio64_base);
    acpi_put_aml_integer(out, "M64L", w->mmio64_size);
    acpi_put_aml_integer(out, "LBUS", config->last_bus);
    return acpi_end(t, start);
}

#define AML_DWORD_PREFIX 0x0c

/* vmgenid.asl; its integer VGIA becomes a link. */
static guint acpi_put_vmgenid(AcpiTables *t)
{
    static const uint8_t name[] = {AML_NAME_OP, 'V', 'G', 'I', 'A', AML_DWORD_PREFIX};
    GByteArray *out = t->bytes;
    acpi_put_zeros(out, -out->len % ACPI_TABLE_ALIGN);
    guint start = out->len;
    g_byte_array_append(out, vmgenid_aml_code, sizeof(vmgenid_aml_code));
    const uint8_t *at = memmem(out->data + start, out->len - start, name, sizeof(name));
    g_assert(at != NULL);
    const AcpiLink link = {
        .at = (guint)(at - out->data) + sizeof(name), .size = 4, .target = ACPI_TARGET_VMGENID};
    g_array_append_val(t->links, link);
    acpi_poke(out, link.at, 0, 4);
    acpi_poke(out, start + ACPI_HEADER_CHECKSUM, 0, 1);
    return acpi_end(t, start);
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
static void acpi_put_fadt_ports(AcpiTables *t, guint dsdt)
{
    GByteArray *out = t->bytes;
    acpi_put_link(t, ACPI_FACS_OFFSET, 4);
    acpi_put_link(t, dsdt, 4);
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
static void acpi_put_fadt_extended(AcpiTables *t, guint dsdt)
{
    GByteArray *out = t->bytes;
    acpi_put(out, 0, 8); /* X_FIRMWARE_CTRL: the 32-bit field has the FACS */
    acpi_put_link(t, dsdt, 8);
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
static guint acpi_put_fadt(AcpiTables *t, guint dsdt)
{
    guint start = acpi_begin(t, "FACP", 6);
    acpi_put_fadt_ports(t, dsdt);
    acpi_put_fadt_features(t->bytes);
    acpi_put_fadt_extended(t, dsdt);
    g_assert(t->bytes->len - start == 276);
    return acpi_end(t, start);
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
static guint acpi_put_madt(AcpiTables *t, const AcpiConfig *config)
{
    GByteArray *out = t->bytes;
    bool x2apic = false;
    guint start = acpi_begin(t, "APIC", 5);
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
    return acpi_end(t, start);
}

/* ---- the rest ---- */

/* PCI Firmware 3.2 §4.1.2. */
static guint acpi_put_mcfg(AcpiTables *t, const AcpiConfig *config)
{
    GByteArray *out = t->bytes;
    guint start = acpi_begin(t, "MCFG", 1);
    acpi_put(out, 0, 8);
    acpi_put(out, config->windows.ecam_base, 8);
    acpi_put(out, 0, 2); /* segment */
    acpi_put(out, 0, 1); /* first and last bus */
    acpi_put(out, config->last_bus, 1);
    acpi_put(out, 0, 4);
    return acpi_end(t, start);
}

/* §5.2.10. */
static void acpi_put_facs(GByteArray *out)
{
    g_assert(out->len == ACPI_FACS_OFFSET);
    acpi_put_text(out, "FACS", 4);
    acpi_put(out, ACPI_FACS_SIZE, 4);
    acpi_put_zeros(out, ACPI_FACS_SIZE - 8);
    acpi_poke(out, ACPI_FACS_OFFSET + 32, 2, 1); /* version */
}

/* RSDT or XSDT: addresses of @size bytes. §5.2.7, §5.2.8. */
static guint acpi_put_root(AcpiTables *t, const char *signature, const guint *tables,
                           unsigned count, unsigned size)
{
    guint start = acpi_begin(t, signature, 1);
    for (unsigned i = 0; i < count; i++) {
        acpi_put_link(t, tables[i], size);
    }
    return acpi_end(t, start);
}

/* §5.2.5.3. */
static void acpi_fill_rsdp(AcpiTables *t)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    acpi_put_text(out, "RSD PTR ", 8);
    acpi_put(out, 0, 1); /* checksum */
    acpi_put_text(out, ACPI_OEM_ID, 6);
    acpi_put(out, 2, 1); /* revision */
    acpi_put(out, t->rsdt, 4);
    acpi_put(out, ACPI_RSDP_SIZE, 4);
    acpi_put(out, t->xsdt, 8);
    acpi_put(out, 0, 4); /* extended checksum, reserved */
    g_assert(out->len == ACPI_RSDP_SIZE);
    memcpy(t->rsdp, out->data, ACPI_RSDP_SIZE);
}

AcpiTables *acpi_tables_new(const AcpiConfig *config)
{
    AcpiTables *t = g_new0(AcpiTables, 1);
    t->bytes = g_byte_array_new();
    t->links = g_array_new(false, false, sizeof(AcpiLink));
    t->sums = g_array_new(false, false, sizeof(AcpiSum));
    acpi_put_facs(t->bytes);
    guint dsdt = acpi_put_dsdt(t);
    guint tables[] = {
        acpi_put_fadt(t, dsdt),
        acpi_put_madt(t, config),
        acpi_put_mcfg(t, config),
        acpi_put_ssdt(t, config),
        0,
    };
    unsigned count = G_N_ELEMENTS(tables) - 1;
    if (config->has_vmgenid) {
        tables[count++] = acpi_put_vmgenid(t);
    }
    t->rsdt = acpi_put_root(t, "RSDT", tables, count, 4);
    t->xsdt = acpi_put_root(t, "XSDT", tables, count, 8);
    acpi_fill_rsdp(t);
    return t;
}

void acpi_tables_free(AcpiTables *t)
{
    g_byte_array_unref(t->bytes);
    g_array_unref(t->links);
    g_array_unref(t->sums);
    g_free(t);
}
