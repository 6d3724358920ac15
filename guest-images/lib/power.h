/* SPDX-License-Identifier: Apache-2.0 */
/* The ends of a machine that are not a debug exit. They return if the machine goes on. Boot CPU. */
#ifndef LIB_POWER_H
#define LIB_POWER_H

#include <stdbool.h>

/* \_S5 through PM1a; ends the guest where ACPI names no way. */
void power_off(void);
/* Port 0xcf9, or the keyboard controller's pulse. */
void power_reset(void);
void power_reset_by_keyboard(void);
/* Was the button pressed since the reset? Costs an exit. */
bool power_button_pressed(void);
/* Tells pvpanic that this guest has panicked. */
void power_panic(void);
/* An exception with no IDT. */
void power_triple_fault(void);

#endif
