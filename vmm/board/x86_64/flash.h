/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's flash: up to two banks that end at 4 GiB, unit 0 on top (the firmware's code), unit
 * 1 directly below (its variables), as QEMU has them.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_FLASH_H
#define SKIFF_VMM_BOARD_X86_64_FLASH_H

#include "vmm/boot/boot.h"
#include "vmm/machine/machine.h"

/* Whether the command line gives flash. */
bool x86_flash_is_given(const VmMachine *m) RUNS_IN_MAIN;
/* Creates the banks that -drive if=pflash, -pflash and -machine pflash0=,pflash1= describe, and adds
 * them to the machine's RAM. Before the VM is created. *@rom gets the content of unit 0, borrowed,
 * for shadow_set_rom(); unchanged: there is no flash. */
bool x86_flash_co_add(VmMachine *m, BootRom *rom, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
