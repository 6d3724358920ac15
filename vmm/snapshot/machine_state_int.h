/* SPDX-License-Identifier: Apache-2.0 */
/* The section "vm" of a machine's state, for machine_state.c and its test. */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_STATE_INT_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_STATE_INT_H

#include "util/state/state.h"

typedef struct VmStateSaved {
    uint64_t clock_ns; /* vm_clock_now_ns() */
    uint64_t wall_ns;  /* calendar time of the save, since 1970; for people */
    bool ran;          /* it was to run */
    uint8_t reason;    /* StopReason */
    bool panicked;     /* VmPending */
    uint8_t pad;
    uint32_t events; /* VmPending */
} VmStateSaved;
extern const StateDesc machine_vm_state_desc;

#endif
