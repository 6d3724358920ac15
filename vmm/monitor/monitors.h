/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the monitors and their chardevs: -qmp, -qmp-pretty, -monitor, -mon, and "mon:" of other
 * options. All in main. */
#ifndef SKIFF_VMM_MONITOR_MONITORS_H
#define SKIFF_VMM_MONITOR_MONITORS_H

#include "vmm/vm/vm.h"

/* Makes the chardevs of the monitors. After backends_co_make_chardevs(). */
bool monitors_co_make(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Opens the monitors and starts to read input. Called once the machine is built, so that commands
 * find it, and after its devices, so that their ports of a shared chardev get the input first. */
bool monitors_open(Vm *vm, GError **error) RUNS_IN_MAIN;

#endif
