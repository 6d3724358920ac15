/* SPDX-License-Identifier: Apache-2.0 */
/* The order in which things come up. */
#ifndef SKIFF_VMM_STARTUP_H
#define SKIFF_VMM_STARTUP_H

#include "vmm/vm/vm.h"

/* Sets the lists that the rooms below look names up in. First of all, before any thread. */
void startup_set_lists(void) ANY_THREAD;
/* Makes an empty VM, chardevs and events for it. */
void startup_init(Vm *vm, const VmConfig *config, AioContext *main_ctx) RUNS_IN_MAIN;
/* Opens what the command line names and builds the VM up to STOPPED: what is cheap and often wrong
 * comes first. On failure what was opened stays open: the process ends. */
bool startup_co_build(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
