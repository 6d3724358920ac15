/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI hotplug by ACPI: a block of registers that the DSDT's methods read and write, and the
 * general-purpose event that makes the guest run them. ACPI 6.3 §5.6.4, §6.3. A part of the LPC
 * bridge (lpc.c), which owns and saves it. Each register is 32 bits wide, with a bit for each slot:
 *
 *   +0x0  INSERTED  a device was plugged; write 1 to clear
 *   +0x4  WANTED    the host requests the unplug; write 1 to clear
 *   +0x8  PRESENT   read-only: the slot has a device
 *   +0xc  EJECT     write 1: the guest ejects the slot (_EJ0); reads 0
 *
 * The event is a level, high while INSERTED or WANTED has a bit set, so the order in which the
 * guest clears them loses neither. A request that comes before the guest has booted is seen when it
 * enables the event.
 *
 *   (empty) --inserted()-> present --request_unplug()--> WANTED --guest clears--> acknowledged
 *                             |                     |                       |
 *                             +---------------------+------- EJECT ---------+--> hidden
 *                                                                                  |
 *   (empty) <--emptied()----------- VM_REQUEST_UNPLUG: main unplugs the device ----+
 *
 * EJECT does not wait: the slot is hidden from the guest at once, and main gets a message.
 */
#ifndef SKIFF_HW_PLATFORM_ACPI_HOTPLUG_H
#define SKIFF_HW_PLATFORM_ACPI_HOTPLUG_H

#include "hw/core/device.h"
#include "hw/pci/pci.h"
#include "hw/platform/pm.h"

#define ACPI_HOTPLUG_PORT 0xcc0
#define ACPI_HOTPLUG_PORTS 16
#define ACPI_HOTPLUG_GPE 1 /* _L01 */

typedef struct AcpiHotplugState {
    uint32_t inserted;
    uint32_t wanted;
    uint32_t asked;   /* unplug was requested, and the device is present */
    uint32_t ejected; /* hidden; main has not unplugged them yet */
} AcpiHotplugState;

extern const StateDesc acpi_hotplug_state_desc; /* for STATE_STRUCTS in the owner's table */

typedef struct AcpiHotplug {
    Device *owner;
    AcpiHotplugState *state;
    Pm *pm;
    PciBus *bus;
    IoRegion ports;
} AcpiHotplug;

/* Called after pm_init(). Becomes the bus' hotplug controller. A failed call releases
 * everything. */
bool acpi_hotplug_init(AcpiHotplug *h, Device *owner, AcpiHotplugState *state, Pm *pm, PciBus *bus,
                       GError **error) RUNS_IN_MAIN;
void acpi_hotplug_fini(AcpiHotplug *h) RUNS_IN_MAIN;
/* Main has unplugged the devices that were requested. Called before pm_reset(). */
void acpi_hotplug_reset(AcpiHotplug *h) BQL_HELD;
/* Called after pm_post_load(). */
void acpi_hotplug_post_load(AcpiHotplug *h) BQL_HELD;

#endif
