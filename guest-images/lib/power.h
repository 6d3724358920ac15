/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to end a machine other than debug exit. They return if the machine continues. Boot
 * CPU. */
#ifndef LIB_POWER_H
#define LIB_POWER_H

#include <stdbool.h>

/* \_S5 through PM1a; ends the guest if ACPI does not describe it. */
void power_off(void);
/* Resets through port 0xcf9, or by the keyboard controller's pulse. */
void power_reset(void);
void power_reset_by_keyboard(void);
/* Whether the button was pressed since the reset. Costs an exit. */
bool power_button_pressed(void);
/* Reports a panic to pvpanic. */
void power_panic(void);
/* An exception with no IDT. */
void power_triple_fault(void);

#endif
