/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The human monitor: a prompt on a character device (Ctrl-A c on -nographic) with the commands that
 * steer the VM. Runs in main. A command only sets state and posts; none waits.
 */
#ifndef SKIFF_VMM_MONITOR_H
#define SKIFF_VMM_MONITOR_H

#include "hw/core/chardev.h"
#include "vmm/vm.h"

typedef struct Monitor Monitor;

/* Attaches to @chardev (borrowed). What is typed is not read while the answer to what was typed
 * before is not. */
Monitor *monitor_new(Vm *vm, Chardev *chardev) RUNS_IN_MAIN;
void monitor_free(Monitor *m) RUNS_IN_MAIN;

#endif
