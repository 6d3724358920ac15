/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt controllers outside the CPU: the two 8259 and the IOAPIC. Boot CPU only.
 * Source: Intel 8259A and 82093AA data sheets.
 */
#ifndef LIB_IRQCHIP_H
#define LIB_IRQCHIP_H

#include <stdbool.h>
#include <stdint.h>

#define PIC_FIRST_VECTOR 0x20

/* Whether there are 8259s: their masks hold a written value. */
bool pic_is_there(void);

/* Sets them up for vectors 0x20-0x2f, everything masked. */
void pic_init(void);
void pic_set_mask(uint16_t mask);
void pic_end_interrupt(unsigned irq);

bool ioapic_is_there(void);
unsigned ioapic_pin_count(void);
void ioapic_mask_all(void);

/* Routes @gsi to @vector of CPU @apic_id, edge and active high, or level as @level_low says. */
typedef enum IoapicTrigger {
    IOAPIC_EDGE_HIGH,
    IOAPIC_LEVEL_HIGH,
    IOAPIC_LEVEL_LOW,
} IoapicTrigger;
void ioapic_route(unsigned gsi, uint8_t vector, uint32_t apic_id, IoapicTrigger trigger);
void ioapic_mask(unsigned gsi);

/* The GSI of ISA interrupt @irq, from ACPI. */
unsigned ioapic_isa_gsi(unsigned irq);

#endif
