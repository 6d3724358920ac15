/* SPDX-License-Identifier: Apache-2.0 */
/* The removal of devices: vm_hotplug.h has the states and invariants. */
#include "util/loop/sched_point.h"
#include "vmm/vm/vm.h"

struct VmRemoval {
    Vm *vm;
    Device *dev;
    char *id, *path; /* for the event */
    bool retired;    /* nothing of the device is in flight */
    bool done;       /* the device is freed */
    unsigned refs;   /* the coroutine's, and that of the caller who waits */
};

void vm_hotplug_init(Vm *vm)
{
    vm->hotplug.removals = g_ptr_array_new();
    vm->hotplug.plugged = g_ptr_array_new();
    co_queue_init(&vm->hotplug.progress);
}

void vm_hotplug_clear(Vm *vm)
{
    g_ptr_array_unref(vm->hotplug.removals);
    g_ptr_array_unref(vm->hotplug.plugged);
    g_free(vm->hotplug.removed);
}

bool vm_check_no_removal(const Vm *vm, GError **error)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        const Device *dev = vm->machine.devices->pdata[i];
        if (dev->leaving) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "device '%s' is being removed: wait for the end of that",
                        device_label(dev));
            return false;
        }
    }
    return true;
}

char *vm_devices_changed(const Vm *vm)
{
    const VmHotplug *h = &vm->hotplug;
    if (h->removed != NULL) {
        return g_strdup_printf("device '%s' was removed", h->removed);
    }
    return h->plugged->len > 0
               ? g_strdup_printf("device '%s' was plugged in", device_label(h->plugged->pdata[0]))
               : NULL;
}

/* ---- one device ---- */

static RUNS_IN_MAIN Device *removal_child_of(const Vm *vm, const Device *dev)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *child = vm->machine.devices->pdata[i];
        if (child->bus_device == dev) {
            return child;
        }
    }
    return NULL;
}

/* Under the operation lock; the device is retired. */
static coroutine_fn RUNS_IN_MAIN void removal_co_free_device(Vm *vm, Device *dev)
{
    SP("hotplug.stopped", dev);
    if (!g_ptr_array_remove(vm->hotplug.plugged, dev) && vm->hotplug.removed == NULL) {
        vm->hotplug.removed = g_strdup(device_label(dev));
    }
    vm->hotplug.changes++;
    device_unrealize(dev);
    g_ptr_array_remove(vm->machine.devices, dev);
    SP("hotplug.unrealized", dev);
    device_free(dev);
}

void vm_co_drop_device(Vm *vm, Device *dev)
{
    dev->leaving = true;
    device_co_retire(dev);
    removal_co_free_device(vm, dev);
}

/* Under the operation lock. The coroutine of the removal or a reset gets here first. */
static coroutine_fn RUNS_IN_MAIN void removal_co_finish(VmRemoval *r)
{
    Vm *vm = r->vm;
    if (r->done) {
        return;
    }
    removal_co_free_device(vm, g_steal_pointer(&r->dev));
    r->done = true;
    g_ptr_array_remove(vm->hotplug.removals, r);
    VM_ANNOUNCE(vm, device_deleted, r->id, r->path);
    co_queue_wake_all(&vm->hotplug.progress);
}

static RUNS_IN_MAIN void removal_unref(VmRemoval *r)
{
    if (--r->refs == 0) {
        g_free(r->id);
        g_free(r->path);
        g_free(r);
    }
}

/* The devices on its buses go first; each has a removal. */
static void removal_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    VmRemoval *r = opaque;
    VmHotplug *h = &r->vm->hotplug;
    while (removal_child_of(r->vm, r->dev) != NULL) {
        co_queue_wait(&h->progress, "the removal of a device's children");
    }
    SP("hotplug.remove", r->dev);
    device_co_retire(r->dev);
    r->retired = true;
    co_queue_wake_all(&h->progress);
    vm_operation_begin(&r->vm->run);
    removal_co_finish(r);
    vm_operation_end(&r->vm->run);
    removal_unref(r);
}

VmRemoval *vm_begin_removal(Vm *vm, Device *dev)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *child = vm->machine.devices->pdata[i];
        if (child->bus_device == dev && !child->leaving) {
            removal_unref(vm_begin_removal(vm, child));
        }
    }
    VmRemoval *r = g_new0(VmRemoval, 1);
    *r = (VmRemoval){
        .vm = vm, .dev = dev, .id = g_strdup(dev->id), .path = g_strdup(dev->path), .refs = 2};
    dev->leaving = true;
    g_ptr_array_add(vm->hotplug.removals, r);
    co_start(vm->ctx, removal_run, r);
    return r;
}

bool vm_removal_co_settle(VmRemoval *r, int64_t timeout_ns)
{
    int64_t deadline_ns = aio_now_ns(r->vm->ctx) + timeout_ns;
    while (!r->done &&
           co_queue_wait_until(&r->vm->hotplug.progress, "the removal of a device", deadline_ns)) {
    }
    bool done = r->done;
    removal_unref(r);
    return done;
}

/* ---- devices that the guest has ejected ---- */

/* Begins the removal of each device whose unplug has reached @at_least. */
static RUNS_IN_MAIN void removal_begin_all(Vm *vm, PciUnplugState at_least)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        Device *dev = vm->machine.devices->pdata[i];
        if (g_strcmp0(dev->type->bus, "pci") == 0 && dev->type->user_creatable && !dev->leaving &&
            pci_device_unplug_state((PciDevice *)dev) >= at_least) {
            removal_unref(vm_begin_removal(vm, dev));
        }
    }
}

static void removal_take_ejected(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    while (vm->hotplug.ejected) {
        vm->hotplug.ejected = false;
        vm_operation_begin(&vm->run);
        removal_begin_all(vm, PCI_UNPLUG_EJECTED);
        vm_operation_end(&vm->run);
    }
    vm->hotplug.unplugging = false;
}

void vm_take_ejected(Vm *vm)
{
    vm->hotplug.ejected = true;
    if (!vm->hotplug.unplugging) {
        vm->hotplug.unplugging = true;
        co_start(vm->ctx, removal_take_ejected, vm);
    }
}

static RUNS_IN_MAIN VmRemoval *removal_find_retired(const Vm *vm)
{
    for (unsigned i = 0; i < vm->hotplug.removals->len; i++) {
        VmRemoval *r = vm->hotplug.removals->pdata[i];
        if (r->retired) {
            return r;
        }
    }
    return NULL;
}

void vm_co_finish_unplugs(Vm *vm)
{
    removal_begin_all(vm, PCI_UNPLUG_REQUESTED);
    while (vm->hotplug.removals->len > 0) {
        VmRemoval *r = removal_find_retired(vm);
        if (r != NULL) {
            removal_co_finish(r);
        } else {
            co_queue_wait(&vm->hotplug.progress, "the removal of devices at a reset");
        }
    }
}
