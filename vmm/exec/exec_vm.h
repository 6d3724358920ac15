/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -exec in the VM: the port by which the agent is met, and what the end of either makes of the
 * other. What happens between skiff and the agent is exec.h's. Without -exec the functions do
 * nothing, and return true or NULL. All in main.
 */
#ifndef SKIFF_VMM_EXEC_EXEC_VM_H
#define SKIFF_VMM_EXEC_EXEC_VM_H

#include "vmm/vm/vm.h"

/* Opens -exec: its streams, the chardev of its port, and its say about the VM's end. False + error. */
bool exec_vm_co_open(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Appends the rows as of -device (OptDict, owned by the list) that give the guest its port. They
 * come after the user's, whose places on the bus stay as they are. */
void exec_vm_add_implied_devices(GPtrArray *rows) RUNS_IN_MAIN;
/* Why the exit status is not the command's, without a newline. NULL: it is, or there is no -exec.
 * Owned by the caller. */
char *exec_vm_explain(void) RUNS_IN_MAIN;
/* Whether the guest's console may say more about that: not once the command has ended, when it was
 * the host that could not write or read its output. */
bool exec_vm_console_explains(void) RUNS_IN_MAIN;

#endif
