/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm.h"

#include "hw/chardev/chardev_set.h"
#include "hw/core/vm_clock.h"
#include "vmm/board/board.h"

/* ---- operations of the run state ---- */

static void vm_co_park(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vcpus_co_park(vm->machine.vcpus);
    arch_vm_clock_stop(&vm->machine.kvm);
    vm_clock_pause();
}

static void vm_unpark(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    vm_clock_resume();
    arch_vm_clock_start(&vm->machine.kvm);
    vcpus_unpark(vm->machine.vcpus);
}

static void vm_co_stop_backends(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    for (unsigned i = vm->machine.devices->len; i-- > 0;) {
        Device *dev = vm->machine.devices->pdata[i];
        if (dev->type->co_stop != NULL) {
            dev->type->co_stop(dev);
        }
    }
}

static bool vm_co_start_backends(void *opaque, GError **error)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vm_io_errors_clear();
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        if (!device_co_start(dev, error)) {
            return false;
        }
    }
    return true;
}

static void vm_co_drain(void *opaque)
{
    enter_main();
    enter_coroutine();
    backends_co_drain();
}

static bool vm_co_reset(void *opaque, GError **error)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vm_co_finish_unplugs(vm); /* a reset guest uses no device any more */
    bql_lock();
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        if (dev->type->reset != NULL) {
            dev->type->reset(dev);
        }
    }
    bql_unlock();
    bool ok = board_co_reset(&vm->machine, error);
    vm_was_reset(vm);
    return ok;
}

static void vm_changed(void *opaque, RunPhase phase, StopReason reason)
{
    enter_main();
    vm_run_changed(opaque, phase, reason);
}

static const RunStateOps vm_run_ops = {
    .co_park = vm_co_park,
    .unpark = vm_unpark,
    .co_stop_backends = vm_co_stop_backends,
    .co_start_backends = vm_co_start_backends,
    .co_drain = vm_co_drain,
    .co_reset = vm_co_reset,
    .changed = vm_changed,
};

/* ---- callbacks of devices ---- */

static AioContext *vm_find_iothread(void *opaque, const char *id)
{
    enter_main();
    const IoThread *t = backends_find_iothread(&((Vm *)opaque)->backends, id);
    return t != NULL ? iothread_context(t) : NULL;
}

static bool vm_has_rng(void *opaque, const char *id)
{
    enter_main();
    return backends_has_rng(&((Vm *)opaque)->backends, id);
}

static Chardev *vm_find_chardev(void *opaque, const char *id, const char *user, GError **error)
{
    enter_main();
    return backends_claim_chardev(&((Vm *)opaque)->backends, id, user, error);
}

static void vm_release_chardev(void *opaque, Chardev *c)
{
    enter_main();
    chardev_release(c);
}

void vm_serial_port_changed(void *opaque, const Device *port, bool open)
{
    enter_main();
    Vm *vm = opaque;
    if (port->id != NULL) { /* without an id, listeners cannot identify the port */
        VM_ANNOUNCE(vm, port_changed, port->id, open);
    }
}

static void vm_balloon_changed(void *opaque, uint64_t actual)
{
    enter_main();
    Vm *vm = opaque;
    VM_ANNOUNCE(vm, balloon_changed, actual);
}

/* ---- the NMI button ---- */

static void vm_press_nmi_in_thread(Vcpu *v, void *opaque)
{
    enter_vcpu();
    GError **error = opaque;
    arch_vcpu_press_nmi(vcpu_fd(v), vcpu_index(v), error);
}

bool vm_co_press_nmi(Vm *vm, GError **error)
{
    VcpuSet *vcpus = vm->machine.vcpus;
    for (unsigned i = 0; i < vcpus_count(vcpus); i++) {
        GError *failure = NULL;
        vcpus_co_call(vcpus, i, vm_press_nmi_in_thread, &failure);
        if (failure != NULL) {
            g_propagate_error(error, failure);
            return false;
        }
    }
    return true;
}

static void vm_acpi_event(void *opaque, unsigned gpe)
{
    Vm *vm = opaque;
    enter_main();
    assert_bql();
    board_raise_gpe(&vm->machine, gpe);
}

static RUNS_IN_MAIN void vm_fill_env(Vm *vm)
{
    VmMachine *m = &vm->machine;
    machine_fill_env(m, vm->ctx);
    m->hw.request = vm_request;
    m->hw.request_opaque = vm;
    m->env.opaque = vm;
    m->env.find_iothread = vm_find_iothread;
    m->env.has_rng = vm_has_rng;
    m->env.find_chardev = vm_find_chardev;
    m->env.release_chardev = vm_release_chardev;
    m->env.serial_port_changed = vm_serial_port_changed;
    m->env.balloon_changed = vm_balloon_changed;
    m->env.io_error = vm_io_error;
    m->env.tray_moved = vm_tray_moved;
    m->env.acpi_event = vm_acpi_event;
}

/* ---- building ---- */

void vm_init(Vm *vm, const VmConfig *config, AioContext *ctx)
{
    *vm = (Vm){.config = config, .ctx = ctx};
    backends_init(&vm->backends, config);
    machine_init(&vm->machine, &config->machine, &vm->backends);
    run_state_init(&vm->run, ctx, &vm_run_ops, vm);
    vm_hotplug_init(vm);
    vm_life_init(vm);
    vm_jobs_init(vm);
    vm_exports_init(vm);
    vm_network_init(vm);
    vm_clock_init(ctx);
    vm_clock_pause();
}

bool vm_co_build(Vm *vm, const GPtrArray *implied, GError **error)
{
    vm_fill_env(vm);
    return board_co_build(&vm->machine, error) &&
           machine_co_add_user_devices(&vm->machine, implied, error) &&
           board_co_add_cpus(&vm->machine, vm_vcpu_event, vm, error) &&
           board_co_reset(&vm->machine, error);
}
