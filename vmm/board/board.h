/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The board: its devices and their addresses. One file of an architecture's folder implements it.
 * All in main, in the order of this header.
 */
#ifndef SKIFF_VMM_BOARD_BOARD_H
#define SKIFF_VMM_BOARD_BOARD_H

#include "vmm/machine/machine.h"

/* Opens the boot files, lays out RAM, creates the VM in KVM and builds the devices of the board's
 * table. User devices come next, then vCPUs. */
bool board_co_build(VmMachine *m, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Creates the vCPUs. @event is VcpuSetConfig.event: called in the vCPU's thread. */
bool board_co_add_cpus(VmMachine *m, void (*event)(void *opaque, int event), void *opaque,
                       GError **error) coroutine_fn RUNS_IN_MAIN;
/* Assigns PCI resources, writes firmware tables, loads the kernel, and puts the vCPUs into their
 * boot state. STOPPED. Called at start-up after all devices are built, and at each reset. */
bool board_co_reset(VmMachine *m, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Called after a device is plugged before the guest has run: assigns its PCI resources if no
 * firmware will. */
void board_device_added(VmMachine *m) RUNS_IN_MAIN;
/* Presses the power button: requests a power-off, which the guest may ignore. */
void board_press_power_button(VmMachine *m) RUNS_IN_MAIN;
/* The ACPI general-purpose event @gpe has occurred. */
void board_raise_gpe(VmMachine *m, unsigned gpe) BQL_HELD RUNS_IN_MAIN;

#endif
