/* SPDX-License-Identifier: Apache-2.0 */
/* -exec in the VM: the port by which the agent is met, and what the end of either makes of the
 * other. What happens between skiff and the agent is vmm/exec/exec.h. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/log.h"
#include "vmm/exec/exec.h"
#include "vmm/vm/vm.h"

#define VM_EXEC_BUS_ID "skiff-exec"

static Vm *exec_vm; /* the one with -exec; NULL: none. Devices' messages carry no VM */

static bool vm_exec_check(const VmConfig *config, GError **error)
{
    const char *conflict = NULL;
    if (config->no_shutdown) {
        conflict = "-no-shutdown keeps a VM whose end -exec waits for; leave it off";
    } else if (config->daemonize) {
        conflict = "a daemon has no standard output; leave -daemonize off";
    } else if (strlen(config->exec) > EXEC_COMMAND_MAX) {
        conflict = "the command is too long; put it into a file of the guest's";
    }
    if (conflict != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-exec: %s", conflict);
    }
    return conflict == NULL;
}

static void vm_exec_finished(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    vm_quit_because(vm, vm->exec_end, vm->exec_cause);
}

bool vm_co_open_exec(Vm *vm, GError **error)
{
    if (vm->config->exec == NULL) {
        return true;
    }
    if (!vm_exec_check(vm->config, error)) {
        return false;
    }
    ExecConfig config = {
        .ctx = vm->ctx,
        .command = vm->config->exec,
        .fds = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
        .finished = vm_exec_finished,
        .opaque = vm,
    };
    vm->exec_cause = VM_CAUSE_GUEST_SHUTDOWN;
    vm->exec = exec_co_new(&config, error);
    exec_vm = vm->exec != NULL ? vm : NULL;
    return vm->exec != NULL;
}

/* After the user's devices, whose places on the bus it leaves as they are. */
bool vm_co_add_exec_devices(Vm *vm, GError **error)
{
    if (vm->exec == NULL) {
        return true;
    }
    g_autoptr(OptDict) bus = opt_dict_new();
    g_autoptr(OptDict) port = opt_dict_new();
    opt_dict_set(bus, "max_ports", "2");
    opt_dict_set(port, "bus", VM_EXEC_BUS_ID);
    opt_dict_set(port, "chardev", EXEC_PORT_NAME);
    opt_dict_set(port, "name", EXEC_PORT_NAME);
    return vm_co_add_device(vm, "virtio-serial-pci", VM_EXEC_BUS_ID, bus, error) != NULL &&
           vm_co_add_device(vm, "virtserialport", EXEC_PORT_NAME, port, error) != NULL;
}

Chardev *vm_exec_chardev(Vm *vm, const char *id)
{
    return vm->exec != NULL && strcmp(id, EXEC_PORT_NAME) == 0 ? exec_chardev(vm->exec) : NULL;
}

void vm_exec_port_changed(const char *port_id, bool open)
{
    if (exec_vm != NULL && strcmp(port_id, EXEC_PORT_NAME) == 0) {
        exec_port_changed(exec_vm->exec, open);
    }
}

bool vm_exec_guest_ended(Vm *vm, ExitStatus status, VmCause cause)
{
    if (vm->exec == NULL || !vm->built) {
        return false;
    }
    if (vm->exec_guest_over) {
        return true; /* the first end is the one to tell */
    }
    vm->exec_guest_over = true;
    vm->exec_end = status;
    vm->exec_cause = cause;
    exec_guest_ended(vm->exec);
    return true;
}

ExitStatus vm_exec_exit_status(Vm *vm, ExitStatus status)
{
    int of_command;
    if (vm->exec == NULL) {
        return status;
    }
    vm->exec_end = status;
    if (exec_result(vm->exec, &of_command)) {
        vm->exec_succeeded = true;
        return (ExitStatus)of_command;
    }
    return status == EXIT_STATUS_OK || status == EXIT_STATUS_RESET ? EXIT_STATUS_EXEC : status;
}

static RUNS_IN_MAIN const char *vm_exec_reason(const Vm *vm)
{
    if (exec_failure(vm->exec) != NULL) {
        return exec_failure(vm->exec);
    }
    switch ((int)vm->exec_end) {
    case EXIT_STATUS_OK:
        return exec_state(vm->exec) == EXEC_STATE_ENDED ? "the guest powered off"
                                                        : "skiff was asked to end";
    case EXIT_STATUS_PANIC:
        return "the guest panicked";
    case EXIT_STATUS_RESET:
        return "the guest reset";
    case EXIT_STATUS_TRIPLE_FAULT:
        return "the guest reset by a triple fault";
    case EXIT_STATUS_WATCHDOG:
        return "the guest's watchdog expired";
    case EXIT_STATUS_TIMEOUT:
        return "-timeout expired";
    case EXIT_STATUS_INTERNAL:
        return "KVM could not go on";
    default:
        return "the guest wrote to isa-debug-exit";
    }
}

/* What the end of the VM came before. */
static RUNS_IN_MAIN const char *vm_exec_missed(const Vm *vm)
{
    if (!exec_met_agent(vm->exec)) {
        return "the command ended; no agent opened " EXEC_PORT_NAME;
    }
    return exec_command_ended(vm->exec) ? "all of the command's output was read"
                                        : "the command ended";
}

char *vm_exec_explain(const Vm *vm)
{
    bool own = vm->exec != NULL && !vm->exec_succeeded;
    if (!own || vm->exit_status == EXIT_STATUS_USAGE) { /* which has its own message */
        return NULL;
    }
    return g_strdup_printf("-exec: %s before %s; status %d is skiff's own", vm_exec_reason(vm),
                           vm_exec_missed(vm), (int)vm->exit_status);
}
