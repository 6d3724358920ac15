/* SPDX-License-Identifier: Apache-2.0 */
/* What the board tells firmware about booting, in CMOS and in fw_cfg: -boot, bootindex=. */
#ifndef SKIFF_VMM_BOARD_X86_64_BOARD_BOOT_H
#define SKIFF_VMM_BOARD_X86_64_BOARD_BOOT_H

#include "vmm/machine/machine.h"

/* Adds the fw_cfg files. Before the guest runs for the first time. */
bool board_boot_add(const VmMachine *m, Device *fw_cfg, GError **error) RUNS_IN_MAIN;
/* Before the start (@first), and at each reset. @cpus is the number of processors. */
void board_boot_update(const VmMachine *m, Device *rtc, Device *fw_cfg, unsigned cpus, bool first)
    RUNS_IN_MAIN;

#endif
