/* SPDX-License-Identifier: Apache-2.0 */
/* The board's table of devices. */
#ifndef SKIFF_VMM_BOARD_X86_64_BOARD_DEVICES_H
#define SKIFF_VMM_BOARD_X86_64_BOARD_DEVICES_H

#include "vmm/machine/machine.h"

/* Creates the devices of the table, in its order. */
bool x86_board_co_add_devices(VmMachine *m, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
