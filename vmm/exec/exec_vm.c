/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/exec/exec_vm.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "hw/chardev/chardev_set.h"
#include "hw/virtio/virtio_serial.h"
#include "util/log.h"
#include "vmm/exec/exec.h"

#define EXEC_VM_BUS_ID "skiff-exec"

static struct {
    Vm *vm;
    Exec *exec;     /* NULL: no -exec, no -exec-port */
    ExitStatus end; /* the VM's exit status without -exec */
    VmCause cause;
    bool guest_over;
    bool succeeded; /* the command's status is skiff's */
    VmListener listener;
    VmStatePart part;
    void (*ready)(void *opaque); /* or NULL */
    void *ready_opaque;
} exec_vm;

static bool exec_vm_check(const VmConfig *config, GError **error)
{
    const char *conflict = NULL;
    if (config->life.no_shutdown) {
        conflict = "-no-shutdown keeps the VM from ending, which -exec waits for; leave it off";
    } else if (config->process.daemonize) {
        conflict = "a daemon has no standard output; leave -daemonize off";
    } else if (strlen(config->control.exec) > EXEC_COMMAND_MAX) {
        conflict = "the command is too long; put it into a file in the guest";
    }
    if (conflict != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-exec: %s", conflict);
    }
    return conflict == NULL;
}

static void exec_vm_finished(void *opaque)
{
    enter_main();
    vm_quit_because(opaque, exec_vm.end, exec_vm.cause);
}

static void exec_vm_co_settle(void *opaque)
{
    Vm *vm = opaque;
    enter_main();
    enter_coroutine();
    Device *port = machine_find_device(&vm->machine, EXEC_PORT_NAME);
    if (port != NULL && port->type == &virtserialport_type) {
        virtio_serial_port_co_settle(port);
    }
}

static void exec_vm_port_changed(VmListener *l, const char *id, bool open)
{
    enter_main();
    if (strcmp(id, EXEC_PORT_NAME) == 0) {
        exec_port_changed(exec_vm.exec, open);
    }
}

static bool exec_vm_guest_ended(void *opaque, ExitStatus status, VmCause cause)
{
    enter_main();
    if (!exec_vm.vm->built) {
        return false;
    }
    if (!exec_vm.guest_over) { /* the first end counts */
        exec_vm.guest_over = true;
        exec_vm.end = status;
        exec_vm.cause = cause;
        exec_guest_ended(exec_vm.exec);
    }
    return true;
}

static ExitStatus exec_vm_exit_status(void *opaque, ExitStatus status)
{
    enter_main();
    int of_command;
    exec_vm.end = status;
    if (exec_result(exec_vm.exec, &of_command)) {
        exec_vm.succeeded = true;
        return (ExitStatus)of_command;
    }
    return status == EXIT_STATUS_OK || status == EXIT_STATUS_RESET ? EXIT_STATUS_EXEC : status;
}

static void exec_vm_ready(void *opaque)
{
    enter_main();
    if (exec_vm.ready != NULL) {
        exec_vm.ready(exec_vm.ready_opaque);
    }
}

void exec_vm_set_ready(void (*ready)(void *opaque), void *opaque)
{
    exec_vm.ready = ready;
    exec_vm.ready_opaque = opaque;
}

/* ---- the saved state ---- */

static void exec_vm_save(const VmStatePart *p, void *object)
{
    enter_main();
    exec_save(exec_vm.exec, object);
}

static bool exec_vm_check_load(const VmStatePart *p, const void *object, GError **error)
{
    enter_main();
    return exec_check_load(exec_vm.exec, object, error);
}

static void exec_vm_load(const VmStatePart *p, const void *object)
{
    enter_main();
    exec_load(exec_vm.exec, object);
}

/* ---- life ---- */

static RUNS_IN_MAIN void exec_vm_join(Vm *vm)
{
    static const VmEnding ending = {.guest_ended = exec_vm_guest_ended,
                                    .exit_status = exec_vm_exit_status};
    chardev_provide(exec_chardev(exec_vm.exec), "-exec");
    exec_vm.listener = (VmListener){.port_changed = exec_vm_port_changed};
    vm_listen(vm, &exec_vm.listener);
    exec_vm.part = (VmStatePart){.instance = "/exec",
                                 .desc = &exec_state_desc,
                                 .save = exec_vm_save,
                                 .check = exec_vm_check_load,
                                 .load = exec_vm_load};
    vm_add_state_part(vm, &exec_vm.part);
    if (vm->config->control.exec != NULL) {
        vm_set_ending(vm, &ending);
    }
}

bool exec_vm_co_open(Vm *vm, GError **error)
{
    if (!vm->config->control.exec_port) {
        return true;
    }
    const char *command = vm->config->control.exec;
    if (command != NULL && !exec_vm_check(vm->config, error)) {
        return false;
    }
    ExecConfig config = {
        .ctx = vm->ctx,
        .command = command,
        .fds = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
        .co_settle = exec_vm_co_settle,
        .finished = exec_vm_finished,
        .ready = exec_vm_ready,
        .opaque = vm,
    };
    exec_vm.vm = vm;
    exec_vm.cause = VM_CAUSE_GUEST_SHUTDOWN;
    exec_vm.exec = exec_co_new(&config, error);
    if (exec_vm.exec == NULL) {
        return false;
    }
    exec_vm_join(vm);
    return true;
}

void exec_vm_add_implied_devices(GPtrArray *rows)
{
    if (exec_vm.exec == NULL) {
        return;
    }
    OptDict *bus = opt_dict_new(), *port = opt_dict_new();
    opt_dict_set(bus, "driver", "virtio-serial-pci");
    opt_dict_set(bus, "id", EXEC_VM_BUS_ID);
    opt_dict_set(bus, "max_ports", "2");
    opt_dict_set(port, "driver", "virtserialport");
    opt_dict_set(port, "id", EXEC_PORT_NAME);
    opt_dict_set(port, "bus", EXEC_VM_BUS_ID);
    opt_dict_set(port, "chardev", EXEC_PORT_NAME);
    opt_dict_set(port, "name", EXEC_PORT_NAME);
    g_ptr_array_add(rows, bus);
    g_ptr_array_add(rows, port);
}

static RUNS_IN_MAIN bool exec_vm_has_command(void)
{
    return exec_vm.exec != NULL && exec_vm.vm->config->control.exec != NULL;
}

static RUNS_IN_MAIN const char *exec_vm_reason(void)
{
    if (exec_failure(exec_vm.exec) != NULL) {
        return exec_failure(exec_vm.exec);
    }
    switch ((int)exec_vm.end) {
    case EXIT_STATUS_OK:
        return exec_state(exec_vm.exec) == EXEC_STATE_ENDED ? "the guest powered off"
                                                            : "skiff was asked to quit";
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

/* The event that the VM's end preceded. */
static RUNS_IN_MAIN const char *exec_vm_expected_event(void)
{
    if (!exec_has_agent(exec_vm.exec)) {
        return "the command ended; no agent opened " EXEC_PORT_NAME;
    }
    return exec_command_ended(exec_vm.exec) ? "all of the command's output was read"
                                            : "the command ended";
}

bool exec_vm_console_explains(void)
{
    return exec_vm_has_command() && !exec_command_ended(exec_vm.exec);
}

char *exec_vm_explain(void)
{
    if (!exec_vm_has_command() || exec_vm.succeeded) {
        return NULL;
    }
    int status = (int)exec_vm.vm->life.exit_status;
    if (status == EXIT_STATUS_USAGE) { /* a usage error has its own message */
        return NULL;
    }
    return g_strdup_printf("-exec: %s before %s; status %d is skiff's own", exec_vm_reason(),
                           exec_vm_expected_event(), status);
}
