/* SPDX-License-Identifier: Apache-2.0 */
/* The order of start-up. */
#ifndef SKIFF_VMM_STARTUP_H
#define SKIFF_VMM_STARTUP_H

#include "vmm/vm/vm.h"

/* Sets the tables in which the rooms below look up names. Called first, before any thread
 * starts. */
void startup_set_lists(void) ANY_THREAD;
/* Makes an empty VM, and initializes chardevs and events for it. */
void startup_init(Vm *vm, const VmConfig *config, AioContext *main_ctx) RUNS_IN_MAIN;
/* Opens the command line's files and builds the VM up to STOPPED; cheap checks of frequent mistakes
 * come first. On failure files stay open: the process ends. */
bool startup_co_build(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
