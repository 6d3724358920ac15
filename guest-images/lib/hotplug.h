/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI hotplug as skiff's DSDT does it, without AML: the registers, and the SCI that tells of news.
 * A bit for each slot of bus 0. Boot CPU only. Source: hw/platform/acpi_hotplug.h; ACPI 6.3 §5.6.4.
 */
#ifndef LIB_HOTPLUG_H
#define LIB_HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct HotplugNews {
    uint32_t inserted; /* devices that have come */
    uint32_t wanted;   /* devices that the host asks for */
} HotplugNews;

/* Takes over the SCI. Ends the guest where there is no such machine. Interrupts are to be enabled
 * by the caller. */
void hotplug_init(void);

/* Has the SCI come since the last call? Costs no exit. */
bool hotplug_signalled(void);
/* Fetches what is new, and listens again. */
HotplugNews hotplug_fetch(void);

void hotplug_eject(uint8_t slot);

#endif
