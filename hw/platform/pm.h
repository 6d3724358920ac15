/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI power management of the ICH9: PM1a event and control blocks, PM timer, GPE0, the SMI command
 * ports that switch ACPI on and off, and the reset register. A part of the LPC bridge (lpc.c),
 * which owns and saves it. ICH9 data sheet (Intel 316972) §13.8; ACPI 6.3 §4.8.
 *
 *   base + 0x00  PM1_STS, PM1_EN      0x20  GPE0_STS (8 bytes)
 *          0x04  PM1_CNT              0x28  GPE0_EN  (8 bytes)
 *          0x08  PM_TMR, 24 bits      0x30  SMI_EN: "SMM is set up" (there is none)
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
#define PM_ACPI_ENABLE 2 /* to the SMI command port */
#define PM_ACPI_DISABLE 3
#define PM_SLEEP_TYPE_S5 0 /* of PM1_CNT; 7, as on the real chip, means the same */

typedef struct PmState {
    uint64_t gpe_status;
    uint64_t gpe_enable;
    uint64_t timer_ticks; /* brought up to date by pm_pre_save() */
    uint64_t
        timer_halves; /* how often the timer's top bit had toggled when TMR_STS was last clear */
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
    uint64_t timer_offset; /* ticks that the timer is ahead of the VM clock */
    uint64_t gpe_level;    /* bit n: the cause of general-purpose event n is there */
} Pm;

/* Attaches the fixed ports; the block follows with pm_set_base(). On failure nothing is left. */
bool pm_init(Pm *pm, Device *owner, PmState *state, GError **error) RUNS_IN_MAIN;
void pm_fini(Pm *pm) RUNS_IN_MAIN;
void pm_reset(Pm *pm) BQL_HELD;
void pm_pre_save(Pm *pm) BQL_HELD;
void pm_post_load(Pm *pm) BQL_HELD;
/* Where the guest has put the block. Nothing changes when it is there already. */
void pm_set_base(Pm *pm, uint16_t base, bool enabled) BQL_HELD;
void pm_press_power_button(Pm *pm) BQL_HELD;
/* Whether the cause of general-purpose event @gpe is there: while it is, the status bit comes back
 * when the guest clears it. ACPI 6.3 §5.6.4. */
void pm_set_gpe(Pm *pm, unsigned gpe, bool level) BQL_HELD;

#endif
