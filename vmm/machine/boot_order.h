/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What firmware boots from: -boot and the devices' bootindex=, in the two forms that firmware
 * reads. SeaBIOS and OVMF prefer fw_cfg's file "bootorder"; SeaBIOS uses the letters for what is
 * not in it.
 */
#ifndef SKIFF_VMM_MACHINE_BOOT_ORDER_H
#define SKIFF_VMM_MACHINE_BOOT_ORDER_H

#include "vmm/machine/machine.h"

/* The content of "bootorder", without the NUL at its end: the firmware paths of devices with
 * bootindex=, lowest first, one a line, then "HALT" with -boot strict=on. NULL: no device has a
 * bootindex. Devices come and go, so it is asked for at each reset. To be freed. */
char *machine_boot_order(const VmMachine *m) RUNS_IN_MAIN;
/* The letters of -boot for the start (@first) or a later reset: once=, else order=, else "cad". */
const char *machine_boot_drives(const VmMachine *m, bool first) RUNS_IN_MAIN;
/* False + error if another device has the bootindex of @dev. */
bool machine_check_bootindex(const VmMachine *m, const Device *dev, GError **error) RUNS_IN_MAIN;

#endif
