/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI hotplug by ACPI: a block of registers that the DSDT's methods read and write, and the
 * general-purpose event that makes the guest run them. ACPI 6.3 §5.6.4, §6.3. A part of the LPC
 * bridge (lpc.c), which owns and saves it. Each register is 32 bits wide, a bit for each slot:
 *
 *   +0x0  INSERTED  a device has come; write 1 to clear
 *   +0x4  WANTED    the host asks for the device back; write 1 to clear
 *   +0x8  PRESENT   read-only: a device is there
 *   +0xc  EJECT     write 1: the guest lets go of what is in the slot (_EJ0); reads 0
 *
 * The event is a level: it is high while INSERTED or WANTED has a bit set, so that neither can be
 * lost, whatever the guest clears when. A guest that was asked before its system is up is so asked
 * as soon as it listens.
 *
 *   (empty) --inserted()--> there --request_unplug()--> WANTED --guest clears--> known
 *                             |                     |                       |
 *                             +---------------------+------- EJECT ---------+--> hidden
 *                                                                                  |
 *   (empty) <--emptied()--- VM_REQUEST_UNPLUG: main takes the device apart --------+
 *
 * EJECT does not wait: the slot is hidden from the guest at once, and main is told.
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
    uint32_t asked;   /* asked back and still there */
    uint32_t ejected; /* hidden: main has not taken them apart yet */
} AcpiHotplugState;

extern const StateDesc acpi_hotplug_state_desc; /* for STATE_STRUCTS in the owner's table */

typedef struct AcpiHotplug {
    Device *owner;
    AcpiHotplugState *state;
    Pm *pm;
    PciBus *bus;
    IoRegion ports;
} AcpiHotplug;

/* After pm_init(). Becomes the bus' hotplug controller. On failure nothing is left. */
bool acpi_hotplug_init(AcpiHotplug *h, Device *owner, AcpiHotplugState *state, Pm *pm, PciBus *bus,
                       GError **error) RUNS_IN_MAIN;
void acpi_hotplug_fini(AcpiHotplug *h) RUNS_IN_MAIN;
/* What the guest was asked for has been taken apart before. Before pm_reset(). */
void acpi_hotplug_reset(AcpiHotplug *h) BQL_HELD;
/* After pm_post_load(). */
void acpi_hotplug_post_load(AcpiHotplug *h) BQL_HELD;

#endif
