/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI power management of the ICH9: PM1a event and control blocks, PM timer, GPE0, the SMI command
 * ports that enable and disable ACPI, and the reset register. A part of the LPC bridge (lpc.c),
 * which owns and saves it. ICH9 data sheet (Intel 316972) §13.8; ACPI 6.3 §4.8.
 *
 *   base + 0x00  PM1_STS, PM1_EN      0x20  GPE0_STS (8 bytes)
 *          0x04  PM1_CNT              0x28  GPE0_EN  (8 bytes)
 *          0x08  PM_TMR, 24 bits      0x30  SMI_EN: reads as "SMM is set up"; there is no SMM
 *
 * The machine starts in ACPI mode (SCI_EN set), with or without firmware.
 */
#ifndef SKIFF_HW_PLATFORM_PM_H
#define SKIFF_HW_PLATFORM_PM_H

#include "hw/core/device.h"
#include "hw/core/vm_clock.h"

#define PM_DEFAULT_BASE 0x600
#define PM_BLOCK_SIZE 0x80
#define PM_SCI_IRQ 9
#define PM_ACPI_ENABLE 2 /* value for the SMI command port */
#define PM_ACPI_DISABLE 3
#define PM_SLEEP_TYPE_S5 0 /* of PM1_CNT; 7 means the same, as on the real chip */

typedef struct PmState {
    uint64_t gpe_status;
    uint64_t gpe_enable;
    uint64_t timer_ticks; /* updated by pm_pre_save() */
    uint64_t
        timer_halves; /* number of toggles of the timer's top bit when TMR_STS was last cleared */
    uint16_t pm1_status;
    uint16_t pm1_enable;
    uint16_t pm1_control;
    uint8_t smi_command;
    uint8_t smi_status;
    uint8_t reset_control;
    uint8_t reserved[7];
} PmState;

extern const StateDesc pm_state_desc; /* for STATE_STRUCTS in the owner's table */

typedef struct Pm {
    Device *owner;
    PmState *state;
    IoRegion block, smi_ports, reset_port;
    IrqLine sci;
    VmTimer timer;
    uint64_t timer_offset; /* ticks between the VM clock and the timer */
    uint64_t gpe_level;    /* bit n: general-purpose event n has a cause */
} Pm;

/* Attaches the fixed ports; pm_set_base() attaches the block. A failed call releases everything. */
bool pm_init(Pm *pm, Device *owner, PmState *state, GError **error) RUNS_IN_MAIN;
void pm_fini(Pm *pm) RUNS_IN_MAIN;
void pm_reset(Pm *pm) BQL_HELD;
void pm_pre_save(Pm *pm) BQL_HELD;
void pm_post_load(Pm *pm) BQL_HELD;
/* Moves the block to @base, where the guest put it. Does nothing if it is already there. */
void pm_set_base(Pm *pm, uint16_t base, bool enabled) BQL_HELD;
void pm_press_power_button(Pm *pm) BQL_HELD;
/* Sets whether general-purpose event @gpe has a cause. While it has, the status bit is set again
 * after the guest clears it. ACPI 6.3 §5.6.4. */
void pm_set_gpe(Pm *pm, unsigned gpe, bool level) BQL_HELD;
/* General-purpose event @gpe has occurred once: the status bit stays set until the guest clears it. */
void pm_raise_gpe(Pm *pm, unsigned gpe) BQL_HELD;

#endif
