/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/startup.h"

#include "block/drivers.h"
#include "hw/chardev/chardev_set.h"
#include "hw/net/net_user.h"
#include "hw/net_types.h"
#include "util/loop/worker.h"
#include "vmm/exec/exec_vm.h"
#include "vmm/gdb/gdbstub.h"
#include "vmm/monitor/commands/qmp_events.h"
#include "vmm/monitor/hmp/hmp.h"
#include "vmm/monitor/monitors.h"
#include "vmm/monitor/qmp_tables.h"
#include "vmm/process/notify.h"
#include "vmm/sandbox/sandbox.h"
#include "vmm/snapshot/machine_disks.h"
#include "vmm/template/template.h"

void startup_set_lists(void)
{
    block_setup(block_drivers);
    qmp_setup(qmp_groups);
}

/* Whether -sandbox is on; main.c reports what is wrong with the option. */
static bool startup_is_confined(const VmConfig *config)
{
    bool on = false;
    return sandbox_parse(config->process.sandbox, &on, NULL) && on;
}

void startup_init(Vm *vm, const VmConfig *config, AioContext *main_ctx)
{
    vm_init(vm, config, main_ctx);
    qmp_events_init(vm);
    gdbstub_set_monitor(hmp_co_execute_on);
    chardev_setup(main_ctx);
    net_setup(net_types, main_ctx);
    if (startup_is_confined(config)) {
        net_user_forbid_commands();
    }
}

/* Creates the VM's backends. */
static coroutine_fn RUNS_IN_MAIN bool startup_co_make_backends(Vm *vm, GError **error)
{
    return backends_co_make_objects(&vm->backends, error) &&
           machine_choose_memory(&vm->machine, error) && exec_vm_co_open(vm, error) &&
           template_open(vm, error) && backends_co_make_chardevs(&vm->backends, error) &&
           monitors_co_make(vm, error) && backends_co_open_drives(&vm->backends, error) &&
           backends_co_start_virtiofs(&vm->backends, error) &&
           backends_co_make_netdevs(&vm->backends, error);
}

static void startup_free_row(void *row)
{
    opt_dict_free(row);
}

static coroutine_fn RUNS_IN_MAIN bool startup_co_make_machine(Vm *vm, GError **error)
{
    g_autoptr(GPtrArray) implied = g_ptr_array_new_with_free_func(startup_free_row);
    backends_add_implied_devices(&vm->backends, implied);
    backends_add_implied_virtiofs(&vm->backends, implied);
    backends_add_implied_nics(&vm->backends, implied);
    exec_vm_add_implied_devices(implied);
    return vm_co_build(vm, implied, error);
}

bool startup_co_build(Vm *vm, GError **error)
{
    vm->built =
        worker_pool_start(error) && notify_co_open(vm, error) &&
        kvm_open(&vm->machine.kvm, error) && startup_co_make_backends(vm, error) &&
        startup_co_make_machine(vm, error) && template_watch(vm, error) &&
        (vm->config->control.gdb == NULL || gdbstub_co_open(vm, vm->config->control.gdb, error)) &&
        monitors_open(vm, error); /* last: commands need the whole machine */
    if (vm->built) {
        machine_disks_note_start();
    }
    return vm->built;
}
