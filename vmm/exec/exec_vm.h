/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -exec in the VM: the agent's port, and the effects of the VM's end and the command's end on each
 * other. exec.h handles the protocol with the agent. Without -exec and -exec-port the functions do nothing, and
 * return true or NULL. All in main.
 */
#ifndef SKIFF_VMM_EXEC_EXEC_VM_H
#define SKIFF_VMM_EXEC_EXEC_VM_H

#include "vmm/vm/vm.h"

/* Opens -exec: its streams, its port's chardev, and its hook for the VM's end. False + error. */
bool exec_vm_co_open(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Appends the -device rows (OptDict, owned by the list) of the guest's port. They come after the
 * user's devices, whose places on the bus do not change. */
void exec_vm_add_implied_devices(GPtrArray *rows) RUNS_IN_MAIN;
/* @ready is called in main when the guest's agent waits for a command; only without a command. NULL: nothing is. */
void exec_vm_set_ready(void (*ready)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* Why the exit status is not the command's, without a newline. NULL: it is the command's, or there
 * is no -exec. Owned by the caller. */
char *exec_vm_explain(void) RUNS_IN_MAIN;
/* Whether the guest's console may explain that status: not when the command has ended and the host
 * could not write or read its output. */
bool exec_vm_console_explains(void) RUNS_IN_MAIN;

#endif
