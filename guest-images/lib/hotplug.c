/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/hotplug.h"
#include "lib/acpi.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/interrupts.h"
#include "lib/irqchip.h"
#include "lib/lapic.h"

#define PORT_INSERTED 0xcc0
#define PORT_WANTED 0xcc4
#define PORT_PRESENT 0xcc8
#define PORT_EJECT 0xccc
#define EVENT_BIT 1u            /* GPE 1 */
#define BOARD_SLOTS 0x80000001u /* host bridge and LPC bridge */
#define SCI_IRQ 9

static volatile uint32_t signalled;

static uint16_t enable_port(void)
{
    const AcpiFacts *acpi = acpi_facts();
    return (uint16_t)(acpi->gpe0_port + acpi->gpe0_size / 2);
}

static void listen(bool on)
{
    cpu_out32(enable_port(), on ? 1u << EVENT_BIT : 0);
}

/* The SCI is level-triggered: it stays raised until the event is disabled or its cause is gone. */
static void on_sci(InterruptFrame *frame)
{
    listen(false);
    signalled = 1;
    lapic_end_interrupt();
}

void hotplug_init(void)
{
    const AcpiFacts *acpi = acpi_facts();
    if (!acpi->gpe0_port || !ioapic_is_there() ||
        (cpu_in32(PORT_PRESENT) & BOARD_SLOTS) != BOARD_SLOTS) {
        guest_refuse(EXIT_MISSING, "no PCI hotplug registers of skiff's kind");
    }
    lapic_init();
    ioapic_mask_all();
    ioapic_route(ioapic_isa_gsi(SCI_IRQ), interrupts_alloc_vector(on_sci), cpu_this()->apic_id,
                 IOAPIC_LEVEL_HIGH);
    listen(true);
}

bool hotplug_signalled(void)
{
    return signalled != 0;
}

/* Clears the bits that were read, then the status, which is set again if there are more. */
HotplugNews hotplug_fetch(void)
{
    HotplugNews news = {.inserted = cpu_in32(PORT_INSERTED)};
    cpu_out32(PORT_INSERTED, news.inserted);
    news.wanted = cpu_in32(PORT_WANTED);
    cpu_out32(PORT_WANTED, news.wanted);
    signalled = 0;
    cpu_out32(acpi_facts()->gpe0_port, 1u << EVENT_BIT);
    listen(true);
    return news;
}

void hotplug_eject(uint8_t slot)
{
    cpu_out32(PORT_EJECT, 1u << slot);
}
