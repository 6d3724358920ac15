/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm_hotplug.h"

#include <string.h>
#include "util/loop/sched_point.h"
#include "vmm/board/board.h"
#include "vmm/vm/vm.h"

static bool hotplug_is_pci(const Device *dev)
{
    return g_strcmp0(dev->type->bus, "pci") == 0;
}

/* A bridge is there from the start: firmware or the guest's kernel numbers the buses once. */
static bool hotplug_is_bridge(const DeviceType *type)
{
    return g_strcmp0(type->bus, "pci") == 0 && g_strcmp0(type->provides_bus, "pci") == 0;
}

/* ---- plug ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

static RUNS_IN_MAIN bool hotplug_check_id(Vm *vm, const char *id, GError **error)
{
    if (id == NULL) {
        return true;
    }
    if (!opt_id_valid(id)) {
        return refuse(error, "Parameter 'id' expects an identifier: a letter, then letters, "
                             "digits, '-', '.' or '_'");
    }
    if (machine_find_device(&vm->machine, id) != NULL) {
        return refuse(error, "Duplicate device ID '%s'", id);
    }
    return true;
}

static bool hotplug_check_type(const char *name, GError **error)
{
    const DeviceType *type = device_type_find(name);
    if (type == NULL) {
        const char *lacking = machine_lacking_device_type(name);
        if (lacking != NULL) {
            return refuse(error, "skiff has no device '%s': %s", name, lacking);
        }
        const char *near = machine_nearest_device_type(name);
        g_autofree char *excerpt = opt_excerpt(name);
        return refuse(error, "'%s' is not a valid device model name%s%s%s", excerpt,
                      near != NULL ? "; nearest is '" : "", near != NULL ? near : "",
                      near != NULL ? "'" : "");
    }
    if (!type->user_creatable) {
        return refuse(error, "Parameter 'driver' expects a pluggable device type");
    }
    if (g_strcmp0(type->bus, "isa") == 0) {
        return refuse(error, "Bus 'isa.0' does not support hotplugging");
    }
    if (hotplug_is_bridge(type)) {
        return refuse(error, "Device '%s' does not support hotplugging", name);
    }
    return true;
}

static bool hotplug_check_property(const DeviceType *type, const char *key, GError **error)
{
    for (const OptSpec *spec = type->properties; spec != NULL && spec->name != NULL; spec++) {
        if (strcmp(spec->name, key) == 0) {
            return true;
        }
    }
    if (strcmp(key, "bus") == 0) {
        return true;
    }
    g_autofree char *excerpt = opt_excerpt(key);
    return refuse(error, "Property '%s.%s' not found", type->name, excerpt);
}

typedef struct HotplugProperties {
    const DeviceType *type;
    GError *error;
} HotplugProperties;

static void hotplug_check_one_property(const char *key, const char *value, void *opaque)
{
    HotplugProperties *p = opaque;
    if (p->error == NULL && strcmp(key, "driver") != 0 && strcmp(key, "id") != 0) {
        hotplug_check_property(p->type, key, &p->error);
    }
}

static bool hotplug_check_properties(const OptDict *opts, GError **error)
{
    HotplugProperties p = {.type = device_type_find(opt_dict_get(opts, "driver"))};
    opt_dict_foreach(opts, hotplug_check_one_property, &p);
    if (p.error != NULL) {
        g_propagate_error(error, p.error);
        return false;
    }
    return true;
}

/* QEMU's errors for a bus that does not exist. */
static RUNS_IN_MAIN bool hotplug_check_bus(Vm *vm, const OptDict *opts, GError **error)
{
    const DeviceType *type = device_type_find(opt_dict_get(opts, "driver"));
    const char *wanted = opt_dict_get(opts, "bus");
    if (strcmp(type->bus, "pci") == 0) {
        if (wanted != NULL && strcmp(wanted, "pcie.0") != 0) {
            return machine_find_bus(&vm->machine, "pci", wanted) != NULL
                       ? refuse(error, "Bus '%s' does not support hotplugging", wanted)
                       : refuse(error, "Bus '%s' not found; PCI devices go to 'pcie.0'", wanted);
        }
        if (vm->machine.pci == NULL || !pci_bus_has_hotplug(vm->machine.pci)) {
            return refuse(error, "Bus 'pcie.0' does not support hotplugging");
        }
        return true;
    }
    if (machine_find_bus(&vm->machine, type->bus, wanted) != NULL) {
        return true;
    }
    return wanted != NULL ? refuse(error, "Bus '%s' not found", wanted)
                          : refuse(error, "No '%s%s' bus found for device '%s'", type->bus,
                                   strcmp(type->bus, "SCSI") == 0 ? "" : "-bus", type->name);
}

/* A guest probes function 0 first; one that exists was announced without the other functions. */
static RUNS_IN_MAIN bool hotplug_check_function(const Vm *vm, const OptDict *opts, GError **error)
{
    const DeviceType *type = device_type_find(opt_dict_get(opts, "driver"));
    const char *addr = opt_dict_get(opts, "addr");
    unsigned devfn;
    if (strcmp(type->bus, "pci") != 0 || addr == NULL || !pci_parse_addr(addr, &devfn, NULL)) {
        return true; /* the device refuses an invalid address */
    }
    const PciDevice *first = pci_bus_device(vm->machine.pci, devfn & ~7u);
    if ((devfn & 7) != 0 && first != NULL) {
        return refuse(error,
                      "PCI: slot %u function 0 already occupied by %s, new func %s cannot be "
                      "exposed to guest.",
                      devfn >> 3, first->base.type->name, type->name);
    }
    return true;
}

static RUNS_IN_MAIN bool hotplug_check(Vm *vm, const OptDict *opts, GError **error)
{
    const char *driver = opt_dict_get(opts, "driver");
    if (driver == NULL) {
        return refuse(error, "Parameter 'driver' is missing");
    }
    return hotplug_check_type(driver, error) &&
           hotplug_check_id(vm, opt_dict_get(opts, "id"), error) &&
           hotplug_check_properties(opts, error) && hotplug_check_bus(vm, opts, error) &&
           hotplug_check_function(vm, opts, error);
}

bool vm_co_open_device(Vm *vm, const OptDict *opts, Device **opened, GError **error)
{
    *opened = NULL;
    if (!hotplug_check(vm, opts, error)) {
        return false;
    }
    if (device_type_find(opt_dict_get(opts, "driver"))->co_open != NULL) {
        *opened = machine_co_open_user_device(&vm->machine, opts, error);
        return *opened != NULL;
    }
    return true;
}

Device *vm_co_plug(Vm *vm, const OptDict *opts, Device *opened, GError **error)
{
    if (!hotplug_check(vm, opts, error)) { /* again: devices may have come and gone */
        machine_co_drop_opened(opened);
        return NULL;
    }
    Device *dev = machine_co_make_user_device(&vm->machine, opts, opened, error);
    if (dev == NULL) {
        return NULL;
    }
    g_ptr_array_add(vm->hotplug.plugged, dev);
    vm->hotplug.changes++;
    SP("hotplug.realized", dev);
    if (vm->run.phase == RUN_STOPPED && vm->run.reason == STOP_PRELAUNCH) {
        board_device_added(&vm->machine);
    }
    if (vm->run.phase == RUN_RUNNING && !device_co_start(dev, error)) {
        vm_co_drop_device(vm, dev); /* a driver found it already, its back end refused */
        return NULL;
    }
    SP("hotplug.started", dev);
    if (hotplug_is_pci(dev)) {
        pci_device_announce((PciDevice *)dev);
    }
    return dev;
}

/* ---- unplug ---- */

/* Whether the guest has found @dev: it probes function 0 of a slot first, and the others only if
 * that exists. */
static RUNS_IN_MAIN bool hotplug_guest_has_found(const Vm *vm, const PciDevice *dev)
{
    bql_lock();
    bool present = (pci_bus_present_slots(vm->machine.pci) >> (dev->devfn >> 3) & 1) != 0;
    bql_unlock();
    return present;
}

static bool hotplug_refuse_again(const Device *dev, GError **error)
{
    return refuse(error, "Device %s is already in the process of unplug", device_label(dev));
}

static RUNS_IN_MAIN bool hotplug_request_unplug(Vm *vm, Device *dev, VmRemoval **removal,
                                                GError **error)
{
    if (!pci_bus_has_hotplug(vm->machine.pci)) {
        return refuse(error, "Bus 'pcie.0' does not support hotplugging");
    }
    PciUnplugState state = pci_device_unplug_state((PciDevice *)dev);
    if (state == PCI_UNPLUG_REQUESTED || state == PCI_UNPLUG_EJECTED) {
        return hotplug_refuse_again(dev, error);
    }
    if (hotplug_guest_has_found(vm, (const PciDevice *)dev)) {
        pci_device_request_unplug((PciDevice *)dev);
    } else {
        *removal = vm_begin_removal(vm, dev);
    }
    return true;
}

bool vm_unplug(Vm *vm, Device *dev, VmRemoval **removal, GError **error)
{
    *removal = NULL;
    if (dev->leaving) {
        return hotplug_refuse_again(dev, error);
    }
    if (g_strcmp0(dev->type->bus, "isa") == 0) {
        return refuse(error, "Bus 'isa.0' does not support hotplugging");
    }
    if (!dev->type->user_creatable || hotplug_is_bridge(dev->type)) {
        return refuse(error, "Device '%s' does not support hotplugging", dev->type->name);
    }
    if (hotplug_is_pci(dev) && dev->bus_device != NULL) {
        return refuse(error, "Bus '%s' does not support hotplugging",
                      device_label(dev->bus_device));
    }
    if (hotplug_is_pci(dev)) {
        return hotplug_request_unplug(vm, dev, removal, error);
    }
    *removal = vm_begin_removal(vm, dev);
    return true;
}
