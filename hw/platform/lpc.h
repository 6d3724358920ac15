/* SPDX-License-Identifier: Apache-2.0 */
/* The board's interface to the LPC bridge ("ich9-lpc"). */
#ifndef SKIFF_HW_PLATFORM_LPC_H
#define SKIFF_HW_PLATFORM_LPC_H

#include "hw/core/device.h"

/* Presses the ACPI power button of @lpc. The guest's system may ignore it. Takes the BQL. */
void lpc_press_power_button(Device *lpc) RUNS_IN_MAIN;
void lpc_raise_gpe(Device *lpc, unsigned gpe) BQL_HELD;

#endif
