/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/irqchip.h"
#include "lib/acpi.h"
#include "lib/cpu.h"

#define PIC1_COMMAND 0x20
#define PIC1_DATA 0x21
#define PIC2_COMMAND 0xa0
#define PIC2_DATA 0xa1
#define PIC_ICW1_INIT_ICW4 0x11
#define PIC_ICW4_8086 0x01
#define PIC_SPECIFIC_EOI 0x60
#define PIC_CASCADE_IRQ 2

#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
#define IOAPIC_REG_VERSION 0x01
#define IOAPIC_REG_ROUTE 0x10
#define IOAPIC_ROUTE_MASKED (1u << 16)
#define IOAPIC_ROUTE_LEVEL (1u << 15)
#define IOAPIC_ROUTE_LOW (1u << 13)

bool pic_is_there(void)
{
    uint8_t old = cpu_in8(PIC1_DATA);
    cpu_out8(PIC1_DATA, 0xa5);
    bool holds = cpu_in8(PIC1_DATA) == 0xa5;
    cpu_out8(PIC1_DATA, 0x5a);
    holds = holds && cpu_in8(PIC1_DATA) == 0x5a;
    cpu_out8(PIC1_DATA, old);
    return holds;
}

void pic_set_mask(uint16_t mask)
{
    cpu_out8(PIC1_DATA, (uint8_t)mask);
    cpu_out8(PIC2_DATA, (uint8_t)(mask >> 8));
}

void pic_init(void)
{
    cpu_out8(PIC1_COMMAND, PIC_ICW1_INIT_ICW4);
    cpu_out8(PIC2_COMMAND, PIC_ICW1_INIT_ICW4);
    cpu_out8(PIC1_DATA, PIC_FIRST_VECTOR);
    cpu_out8(PIC2_DATA, PIC_FIRST_VECTOR + 8);
    cpu_out8(PIC1_DATA, 1 << PIC_CASCADE_IRQ);
    cpu_out8(PIC2_DATA, PIC_CASCADE_IRQ);
    cpu_out8(PIC1_DATA, PIC_ICW4_8086);
    cpu_out8(PIC2_DATA, PIC_ICW4_8086);
    pic_set_mask(0xffff);
}

void pic_end_interrupt(unsigned irq)
{
    if (irq >= 8) {
        cpu_out8(PIC2_COMMAND, (uint8_t)(PIC_SPECIFIC_EOI | (irq - 8)));
        irq = PIC_CASCADE_IRQ;
    }
    cpu_out8(PIC1_COMMAND, (uint8_t)(PIC_SPECIFIC_EOI | irq));
}

static uint32_t ioapic_read(uint32_t reg)
{
    mmio_write32(acpi_facts()->ioapic_gpa + IOAPIC_SELECT, reg);
    return mmio_read32(acpi_facts()->ioapic_gpa + IOAPIC_WINDOW);
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
    mmio_write32(acpi_facts()->ioapic_gpa + IOAPIC_SELECT, reg);
    mmio_write32(acpi_facts()->ioapic_gpa + IOAPIC_WINDOW, value);
}

bool ioapic_is_there(void)
{
    uint32_t version = ioapic_read(IOAPIC_REG_VERSION);
    return version != 0 && version != UINT32_MAX;
}

unsigned ioapic_pin_count(void)
{
    return (ioapic_read(IOAPIC_REG_VERSION) >> 16 & 0xff) + 1;
}

void ioapic_mask(unsigned gsi)
{
    ioapic_write(IOAPIC_REG_ROUTE + 2 * gsi, IOAPIC_ROUTE_MASKED);
}

void ioapic_mask_all(void)
{
    unsigned count = ioapic_pin_count();
    for (unsigned gsi = 0; gsi < count; gsi++) {
        ioapic_mask(gsi);
    }
}

void ioapic_route(unsigned gsi, uint8_t vector, uint32_t apic_id, IoapicTrigger trigger)
{
    uint32_t low = vector;
    low |= trigger == IOAPIC_EDGE_HIGH ? 0 : IOAPIC_ROUTE_LEVEL;
    low |= trigger == IOAPIC_LEVEL_LOW ? IOAPIC_ROUTE_LOW : 0;
    ioapic_write(IOAPIC_REG_ROUTE + 2 * gsi, IOAPIC_ROUTE_MASKED);
    ioapic_write(IOAPIC_REG_ROUTE + 2 * gsi + 1, apic_id << 24);
    ioapic_write(IOAPIC_REG_ROUTE + 2 * gsi, low);
}

unsigned ioapic_isa_gsi(unsigned irq)
{
    return acpi_facts()->isa_gsi[irq];
}
