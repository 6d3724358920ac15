/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching devices to ports and ISA interrupts. Main, in realize and unrealize. */
#ifndef SKIFF_HW_PLATFORM_ISA_H
#define SKIFF_HW_PLATFORM_ISA_H

#include "hw/core/device.h"

/* Maps @region at @port of the device's port space, above any PCI BAR. Fails if the ports are taken
 * or do not exist; the error names the other device. Takes the BQL. */
bool isa_device_attach(Device *dev, IoRegion *region, uint32_t port, GError **error) RUNS_IN_MAIN;
/* The same in the port space @pio, for @who, which begins the error. */
bool isa_region_attach(AddressSpace *pio, const char *who, IoRegion *region, uint32_t port,
                       GError **error) RUNS_IN_MAIN;
/* Does nothing if @region is not attached. Takes the BQL. */
void isa_device_detach(IoRegion *region) RUNS_IN_MAIN;
/* Connects @line to ISA interrupt @irq (the GSI of that number). 0, or an interrupt that the board
 * does not have, leaves it unconnected. */
void isa_irq_connect(const Device *dev, IrqLine *line, unsigned irq) ANY_THREAD;

#endif
