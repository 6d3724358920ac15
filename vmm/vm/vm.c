/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm.h"

#include <string.h>
#include "hw/core/vm_clock.h"
#include "util/log.h"
#include "util/loop/worker.h"
#include "vmm/gdb/gdbstub.h"
#include "vmm/process/notify.h"
#include "vmm/vm/vm_hotplug.h"

static Vm *the_vm; /* for the look-ups that devices make by name, which carry no pointer */

/* ---- what the run state drives ---- */

static void vm_co_park(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vcpus_co_park(vm->vcpus);
    arch_vm_clock_stop(&vm->kvm);
    vm_clock_pause();
}

static void vm_unpark(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    vm_clock_resume();
    arch_vm_clock_start(&vm->kvm);
    vcpus_unpark(vm->vcpus);
}

static void vm_co_stop_backends(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    for (unsigned i = vm->devices->len; i-- > 0;) {
        Device *dev = vm->devices->pdata[i];
        if (dev->type->co_stop != NULL) {
            dev->type->co_stop(dev);
        }
    }
}

static void vm_co_start_backends(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vm_io_errors_forget();
    for (unsigned i = 0; i < vm->devices->len; i++) {
        Device *dev = vm->devices->pdata[i];
        if (dev->type->co_start != NULL) {
            dev->type->co_start(dev);
        }
    }
}

static void vm_co_drain(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_co_drain_drives(opaque);
}

static bool vm_co_reset(void *opaque, GError **error)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    vm_co_finish_unplugs(vm); /* a guest that starts anew has let go of everything */
    bql_lock();
    for (unsigned i = 0; i < vm->devices->len; i++) {
        Device *dev = vm->devices->pdata[i];
        if (dev->type->reset != NULL) {
            dev->type->reset(dev);
        }
    }
    bql_unlock();
    bool ok = board_co_reset(vm, error);
    for (VmListener *l = vm->listeners, *next; l != NULL; l = next) {
        next = l->next;
        if (l->reset != NULL) {
            l->reset(l);
        }
    }
    return ok;
}

/* ---- who wants to know ---- */

void vm_listen(Vm *vm, VmListener *l)
{
    l->next = vm->listeners;
    vm->listeners = l;
}

void vm_unlisten(Vm *vm, VmListener *l)
{
    for (VmListener **at = &vm->listeners; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            return;
        }
    }
}

static void vm_run_changed(void *opaque, RunPhase phase, StopReason reason)
{
    enter_main();
    Vm *vm = opaque;
    for (VmListener *l = vm->listeners, *next; l != NULL; l = next) {
        next = l->next;
        if (l->run_changed != NULL) {
            l->run_changed(l, phase, reason);
        }
    }
}

static const RunStateOps vm_run_ops = {
    .co_park = vm_co_park,
    .unpark = vm_unpark,
    .co_stop_backends = vm_co_stop_backends,
    .co_start_backends = vm_co_start_backends,
    .co_drain = vm_co_drain,
    .co_reset = vm_co_reset,
    .changed = vm_run_changed,
};

/* ---- building ---- */

static AioContext *vm_find_iothread_context(const char *id)
{
    enter_main();
    const IoThread *t = vm_find_iothread(the_vm, id);
    return t != NULL ? iothread_context(t) : NULL;
}

/* The machine's RAM: the backend that -machine names, or anonymous memory of the size that -m says.
 */
static RUNS_IN_MAIN bool vm_choose_memory(Vm *vm, GError **error)
{
    const char *id = vm->config->machine_memory;
    if (id == NULL) {
        vm->memory = memory_backend_new_ram("pc.ram", vm->config->ram_size, error);
        return vm->memory != NULL;
    }
    MemoryBackend *m = vm_find_memory(vm, id);
    if (m == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-machine memory-backend=%s: there is no -object with that id", id);
        return false;
    }
    if (vm->config->ram_size_set && m->size != vm->config->ram_size) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-m says %" PRIu64 " MiB, memory backend '%s' has %" PRIu64
                    " MiB; make them equal, or leave -m off",
                    vm->config->ram_size >> 20, id, m->size >> 20);
        return false;
    }
    vm->memory = m;
    return true;
}

void vm_init(Vm *vm, const VmConfig *config, AioContext *ctx)
{
    *vm = (Vm){.config = config, .ctx = ctx};
    the_vm = vm;
    vm->kvm.fd = vm->kvm.vm_fd = -1;
    vm->iothreads = g_ptr_array_new();
    vm->memory_backends = g_ptr_array_new();
    vm->devices = g_ptr_array_new();
    vm->serials = g_ptr_array_new();
    vm->monitors = g_ptr_array_new();
    vm->mmio = address_space_new("memory");
    vm->pio = address_space_new("I/O");
    run_state_init(&vm->run, ctx, &vm_run_ops, vm);
    vm_events_init(vm);
    vm_jobs_init(vm);
    vm_clock_init(ctx);
    vm_clock_pause();
}

static void vm_request_from_device(void *opaque, int request, int64_t detail)
{
    Kvm *kvm = opaque; /* the machine's operations are KVM's but for this one */
    Vm *vm = (Vm *)((char *)kvm - offsetof(Vm, kvm));
    vm_request(vm, request, detail);
}

static void vm_fill_env(Vm *vm)
{
    kvm_fill_machine_ops(&vm->machine_ops);
    vm->machine_ops.request = vm_request_from_device;
    vm->machine = (Machine){.ops = &vm->machine_ops, .opaque = &vm->kvm};
    vm->env = (DeviceEnv){
        .machine = &vm->machine,
        .ram = &vm->ram,
        .mmio = vm->mmio,
        .pio = vm->pio,
        .main_ctx = vm->ctx,
        .default_iothread = iothread_context(vm->iothreads->pdata[0]),
        .find_iothread = vm_find_iothread_context,
        .find_chardev = vm_claim_chardev,
        .release_chardev = vm_release_chardev,
        .serial_port_changed = vm_serial_port_changed,
    };
}

/* Step by step, what is cheap and often wrong first. */
bool vm_co_build(Vm *vm, GError **error)
{
    if (!worker_pool_start(error) || !notify_co_open(vm, error) || !kvm_open(&vm->kvm, error) ||
        !vm_co_make_objects(vm, error) || !vm_choose_memory(vm, error)) {
        return false;
    }
    vm_fill_env(vm);
    vm_io_errors_init(vm);
    vm->built = vm_co_open_exec(vm, error) && vm_co_make_chardevs(vm, error) &&
                vm_co_open_drives(vm, error) && board_co_build(vm, error) &&
                board_co_reset(vm, error) &&
                (vm->config->gdb == NULL || gdbstub_co_open(vm, vm->config->gdb, error)) &&
                vm_open_monitors(vm, error); /* last: commands find the whole machine */
    return vm->built;
}
