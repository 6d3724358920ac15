/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/acpi.h"
#include "lib/bootinfo.h"
#include "lib/memory.h"
#include "lib/text.h"

typedef struct __attribute__((packed)) Rsdp {
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt;
    uint32_t size;
    uint64_t xsdt;
} Rsdp;

typedef struct __attribute__((packed)) TableHeader {
    char signature[4];
    uint32_t size;
    uint8_t revision, checksum;
    char oem_id[6], oem_table_id[8];
    uint32_t oem_revision, creator, creator_revision;
} TableHeader;

typedef struct __attribute__((packed)) Fadt {
    TableHeader header;
    uint32_t facs, dsdt;
    uint8_t reserved, profile;
    uint16_t sci;
    uint32_t smi_command;
    uint8_t acpi_enable, acpi_disable, s4bios, pstate_control;
    uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer;
    uint32_t gpe0, gpe1;
    uint8_t pm1_event_size, pm1_control_size, pm2_control_size, pm_timer_size, gpe0_size;
} Fadt;

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_X2APIC = 9 };
#define MADT_ENABLED 1
#define RSDP_REVISION_XSDT 2

static AcpiFacts facts = {.s5_type = -1, .ioapic_gpa = 0xfec00000};
static bool was_read;

static uint8_t sum_bytes(const void *data, size_t size)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < size; i++) {
        sum += ((const uint8_t *)data)[i];
    }
    return sum;
}

static bool is_rsdp(const Rsdp *rsdp)
{
    return memcmp(rsdp->signature, "RSD PTR ", 8) == 0 && sum_bytes(rsdp, 20) == 0;
}

static const Rsdp *find_rsdp(void)
{
    if (bootinfo.rsdp_gpa) {
        memory_map(bootinfo.rsdp_gpa, sizeof(Rsdp));
        const Rsdp *rsdp = (const Rsdp *)bootinfo.rsdp_gpa;
        return is_rsdp(rsdp) ? rsdp : NULL;
    }
    for (uint64_t gpa = 0xe0000; gpa < 0x100000; gpa += 16) {
        if (is_rsdp((const Rsdp *)gpa)) {
            return (const Rsdp *)gpa;
        }
    }
    return NULL;
}

static uint32_t read_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t read_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static void add_cpu(uint32_t apic_id, uint32_t flags)
{
    if ((flags & MADT_ENABLED) && facts.cpu_count < CPU_MAX) {
        facts.apic_ids[facts.cpu_count++] = apic_id;
    }
}

static void read_madt(const TableHeader *table)
{
    const uint8_t *at = (const uint8_t *)table + sizeof(*table) + 8;
    const uint8_t *end = (const uint8_t *)table + table->size;
    for (; at + 2 <= end && at[1] >= 2; at += at[1]) {
        if (at[0] == MADT_LAPIC) {
            add_cpu(at[3], read_u32(at + 4));
        } else if (at[0] == MADT_X2APIC) {
            add_cpu(read_u32(at + 4), read_u32(at + 8));
        } else if (at[0] == MADT_IOAPIC && read_u32(at + 8) == 0) {
            facts.ioapic_gpa = read_u32(at + 4);
        } else if (at[0] == MADT_OVERRIDE && at[3] < 16) {
            facts.isa_gsi[at[3]] = read_u32(at + 4);
            facts.isa_flags[at[3]] = (uint16_t)(at[8] | at[9] << 8);
        }
    }
}

/*
 * \_S5 is the only AML object used here. It is always a package of constants: name, package opcode,
 * length, count, then SLP_TYPa as ZeroOp, OneOp or a byte (ACPI 6.4 §20.2.3).
 */
static void read_s5(const TableHeader *dsdt)
{
    const uint8_t *aml = (const uint8_t *)dsdt;
    for (uint32_t i = sizeof(*dsdt); i + 10 < dsdt->size; i++) {
        if (memcmp(aml + i, "_S5_", 4) != 0 || aml[i + 4] != 0x12) {
            continue;
        }
        const uint8_t *value = aml + i + 5 + (aml[i + 5] >> 6) + 2;
        facts.s5_type = value[0] == 0x0a ? value[1] : value[0];
        return;
    }
}

static void read_fadt(const TableHeader *table)
{
    const Fadt *fadt = (const Fadt *)table;
    facts.pm_timer_port = (uint16_t)fadt->pm_timer;
    facts.pm1a_event_port = (uint16_t)fadt->pm1a_event;
    facts.pm1a_control_port = (uint16_t)fadt->pm1a_control;
    facts.gpe0_port = (uint16_t)fadt->gpe0;
    facts.gpe0_size = fadt->gpe0_size;
    if (fadt->dsdt) {
        read_s5((const TableHeader *)(uint64_t)fadt->dsdt);
    }
}

static void read_mcfg(const TableHeader *table)
{
    const uint8_t *entry = (const uint8_t *)table + sizeof(*table) + 8;
    if (table->size >= sizeof(*table) + 8 + 16) {
        facts.ecam_gpa = read_u64(entry);
        facts.ecam_first_bus = entry[10];
        facts.ecam_last_bus = entry[11];
    }
}

static void read_table(uint64_t gpa)
{
    memory_map(gpa, 1 << 20);
    const TableHeader *table = (const TableHeader *)gpa;
    if (memcmp(table->signature, "APIC", 4) == 0) {
        read_madt(table);
    } else if (memcmp(table->signature, "FACP", 4) == 0) {
        read_fadt(table);
    } else if (memcmp(table->signature, "MCFG", 4) == 0) {
        read_mcfg(table);
    }
}

const AcpiFacts *acpi_facts(void)
{
    if (was_read) {
        return &facts;
    }
    was_read = true;
    for (unsigned irq = 0; irq < 16; irq++) {
        facts.isa_gsi[irq] = irq;
    }
    const Rsdp *rsdp = find_rsdp();
    if (!rsdp) {
        return &facts;
    }
    facts.found = true;
    bool wide = rsdp->revision >= RSDP_REVISION_XSDT && rsdp->xsdt;
    uint64_t root_gpa = wide ? rsdp->xsdt : rsdp->rsdt;
    memory_map(root_gpa, 1 << 20);
    const TableHeader *root = (const TableHeader *)root_gpa;
    const uint8_t *entry = (const uint8_t *)root + sizeof(*root);
    const uint8_t *end = (const uint8_t *)root + root->size;
    unsigned width = wide ? 8 : 4;
    for (; entry + width <= end; entry += width) {
        read_table(wide ? read_u64(entry) : read_u32(entry));
    }
    return &facts;
}
