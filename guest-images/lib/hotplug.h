/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI hotplug as in skiff's DSDT, without AML: the registers, and the SCI that reports changes. A
 * bit for each slot of bus 0. Boot CPU only. Source: hw/platform/acpi_hotplug.h; ACPI 6.3 §5.6.4.
 */
#ifndef LIB_HOTPLUG_H
#define LIB_HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct HotplugNews {
    uint32_t inserted; /* plugged devices */
    uint32_t wanted;   /* devices whose unplug the host requests */
} HotplugNews;

/* Takes over the SCI. Ends the guest on a machine without the registers. The caller enables
 * interrupts. */
void hotplug_init(void);

/* Whether the SCI was raised since the last call. Costs no exit. */
bool hotplug_signalled(void);
/* Reads the changes, and enables the event again. */
HotplugNews hotplug_fetch(void);

void hotplug_eject(uint8_t slot);

#endif
