/* SPDX-License-Identifier: Apache-2.0 */
/* Loads a state file into a machine that has been built and has not run. */
#ifndef SKIFF_VMM_SNAPSHOT_STATE_LOAD_H
#define SKIFF_VMM_SNAPSHOT_STATE_LOAD_H

#include "vmm/vm/vm.h"

/* With @map memory is mapped from a regular file (ram_image_co_map()), which stays open and locked. The VM is to run afterwards only if it was to run when it was saved. Reads, checks, then loads memory, vCPUs, chips and devices. Under the operation lock, VM stopped. False +
 * @error, which names the file and what is wrong: the machine must not run. */
bool state_load_co(Vm *vm, const char *path, bool map, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
