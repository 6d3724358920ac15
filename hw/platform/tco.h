/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TCO watchdog of the ICH9, and the register GCS with its bit No Reboot. A part of the LPC
 * bridge (lpc.c), which owns and saves it. ICH9 data sheet (Intel 316972) §13.9 and §10.1.75; Linux
 * drives it with lpc_ich and iTCO_wdt.
 *
 * Ports: ACPI base + 0x60      Memory: RCBA + 0x3410
 *   0x00  TCO_RLD                GCS
 *   0x02  TCO_DAT_IN, TCO_DAT_OUT
 *   0x04  TCO1_STS      0x06  TCO2_STS
 *   0x08  TCO1_CNT      0x0a  TCO2_CNT
 *   0x0c  TCO_MESSAGE1, TCO_MESSAGE2
 *   0x0e  TCO_WDCNT     0x10  SW_IRQ_GEN     0x12  TCO_TMR
 *
 *             TCO_RLD or TCO1_CNT written            TCO_TMR * 0.6 s without a reload
 *   stopped -------------------------------> first ------------------------------------> second
 *     ^  ^                                     ^ ^                                        |  |
 *     |  |                                     | +--- TCO_RLD or TCO1_CNT written --------+  |
 *     |  +--- TCO_TMR_HLT set, or a reset      +---- again as long: No Reboot is set --------+
 *     +-------------------------- again as long: No Reboot is clear: the action -------------+
 *
 * The timer counts VM time, so a stopped VM does not expire. There is no SMM, so no SMI is sent.
 */
#ifndef SKIFF_HW_PLATFORM_TCO_H
#define SKIFF_HW_PLATFORM_TCO_H

#include "hw/core/device.h"
#include "hw/core/vm_clock.h"

#define TCO_OFFSET 0x60 /* from the ACPI base */
#define TCO_SIZE 0x20
#define TCO_CHIPSET_SIZE 0x4000 /* the chipset configuration registers, at RCBA */

typedef struct TcoState {
    uint64_t remaining_ns; /* until the next time-out; updated by tco_pre_save() */
    uint32_t gcs;
    uint16_t reload; /* TCO_RLD while the timer is stopped */
    uint16_t status1, status2;
    uint16_t control1, control2;
    uint16_t timer;
    uint8_t data_in, data_out;
    uint8_t message[2];
    uint8_t wdcnt;
    uint8_t sw_irq_gen;
    uint8_t time_outs; /* since the last reload: 0 or 1 */
    uint8_t runs;      /* the timer counts */
} TcoState;

extern const StateDesc tco_state_desc; /* for STATE_STRUCT_ONE in the owner's table */

typedef struct Tco {
    Device *owner;
    TcoState *state;
    bool no_reboot; /* the strap: No Reboot cannot be cleared */
    IoRegion block, chipset;
    VmTimer timer;
} Tco;

/* tco_set_base() and tco_set_chipset() attach the registers. */
void tco_init(Tco *tco, Device *owner, TcoState *state, bool no_reboot) RUNS_IN_MAIN;
void tco_fini(Tco *tco) RUNS_IN_MAIN;
/* Sets the power-on state, except SECOND_TO_STS and BOOT_STS, which tell the next system about an
 * expiry. */
void tco_reset(Tco *tco) BQL_HELD;
void tco_pre_save(Tco *tco) BQL_HELD;
void tco_post_load(Tco *tco) BQL_HELD;
/* Moves the ports to the ACPI base @base. */
void tco_set_base(Tco *tco, uint16_t base, bool enabled) BQL_HELD;
/* Moves the chipset configuration registers to @base. */
void tco_set_chipset(Tco *tco, uint32_t base, bool enabled) BQL_HELD;

#endif
