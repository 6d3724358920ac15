/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of the VM: made by the board's table and by -device, kept in the order in which they
 * start. */
#include <string.h>
#include "vmm/vm/vm.h"

Device *vm_find_device(Vm *vm, const char *id)
{
    bool is_path = id[0] == '/';
    for (unsigned i = 0; i < vm->devices->len; i++) {
        Device *dev = vm->devices->pdata[i];
        if (g_strcmp0(is_path ? dev->path : dev->id, id) == 0) {
            return dev;
        }
    }
    return NULL;
}

/* The device that offers bus @name: the one whose id the user gave (as "id" or "id.0"), else the
 * last of its kind. */
static Device *vm_find_parent(Vm *vm, const char *bus, const char *wanted, GError **error)
{
    g_autofree char *id = wanted != NULL ? g_strndup(wanted, strcspn(wanted, ".")) : NULL;
    for (unsigned i = vm->devices->len; i-- > 0;) {
        Device *dev = vm->devices->pdata[i];
        if (g_strcmp0(dev->type->provides_bus, bus) == 0 &&
            (id == NULL || g_strcmp0(dev->id, id) == 0)) {
            return dev;
        }
    }
    if (id != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "there is no %s bus '%s'", bus, wanted);
    } else {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "needs a %s bus: give a device that has one (-device %s-pci) before it", bus,
                    bus);
    }
    return NULL;
}

static bool vm_attach_to_bus(Vm *vm, Device *dev, const char *wanted, GError **error)
{
    const char *bus = dev->type->bus;
    if (bus == NULL || strcmp(bus, "isa") == 0) {
        return true;
    }
    if (strcmp(bus, "pci") == 0) {
        if (wanted != NULL && strcmp(wanted, "pcie.0") != 0) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "there is no PCI bus '%s': use pcie.0",
                        wanted);
            return false;
        }
        return true; /* there is one bus, and env names it */
    }
    dev->bus_device = vm_find_parent(vm, bus, wanted, error);
    return dev->bus_device != NULL;
}

/* Some errors name the device already; those of the bus are QEMU's words. */
static void vm_prefix_device_error(const Device *dev, GError **error)
{
    g_autofree char *label = g_strdup_printf("%s: ", device_label(dev));
    if (!g_str_has_prefix((*error)->message, label) &&
        !g_str_has_prefix((*error)->message, "PCI: ")) {
        g_prefix_error(error, "%s", label);
    }
}

/* Where QEMU would have it: in /machine/peripheral by its id, among the anonymous ones, or, made by
 * the board, attached to nothing. */
static char *vm_device_path(Vm *vm, const Device *dev, bool by_user)
{
    if (dev->id != NULL) {
        return g_strdup_printf("/machine/peripheral/%s", dev->id);
    }
    if (by_user) {
        return g_strdup_printf("/machine/peripheral-anon/device[%u]", vm->anonymous_devices++);
    }
    return g_strdup_printf("/machine/unattached/device[%u]", vm->board_devices++);
}

static coroutine_fn RUNS_IN_MAIN Device *
vm_co_make_device(Vm *vm, const DeviceType *type, const char *id, OptDict *props, GError **error)
{
    g_autofree char *bus = opt_dict_take(props, "bus");
    Device *dev = device_new(type, &vm->env, id);
    bool ok = device_set_properties(dev, props, error);
    if (ok && (!vm_attach_to_bus(vm, dev, bus, error) || !device_realize(dev, error))) {
        vm_prefix_device_error(dev, error);
        ok = false;
    }
    if (!ok) {
        device_free(dev);
        return NULL;
    }
    g_ptr_array_add(vm->devices, dev);
    return dev;
}

Device *vm_co_add_device(Vm *vm, const char *type_name, const char *id, const OptDict *opts,
                         GError **error)
{
    const DeviceType *type = device_type_find(type_name);
    if (type == NULL) {
        bug_abort("the board wants a device '%s' that does not exist", type_name);
    }
    g_autoptr(OptDict) props = opts != NULL ? opt_dict_copy(opts) : opt_dict_new();
    Device *dev = vm_co_make_device(vm, type, id, props, error);
    if (dev == NULL) {
        g_prefix_error(error, "-device ");
        return NULL;
    }
    dev->path = vm_device_path(vm, dev, false);
    return dev;
}

/* ---- -device and device_add ---- */

static GPtrArray *vm_user_type_names(void)
{
    GPtrArray *names = g_ptr_array_new();
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        if ((*t)->user_creatable) {
            g_ptr_array_add(names, (char *)(uintptr_t)(*t)->name);
        }
    }
    g_ptr_array_add(names, NULL);
    return names;
}

const char *vm_nearest_device_type(const char *name)
{
    g_autoptr(GPtrArray) names = vm_user_type_names();
    return opt_nearest(name, (const char *const *)names->pdata);
}

static bool vm_check_user_type(const char *name, GError **error)
{
    const DeviceType *type = device_type_find(name);
    if (type != NULL && type->user_creatable) {
        return true;
    }
    const char *near = vm_nearest_device_type(name);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "-device: skiff has no device '%s'%s%s; '-device help' lists what it has", name,
                near != NULL ? "; nearest is " : "", near != NULL ? near : "");
    return false;
}

Device *vm_co_make_user_device(Vm *vm, const OptDict *opts, GError **error)
{
    g_autoptr(OptDict) props = opt_dict_copy(opts);
    g_autofree char *name = opt_dict_take(props, "driver");
    g_autofree char *id = opt_dict_take(props, "id");
    const DeviceType *type = device_type_find(name);
    g_assert(type != NULL && type->user_creatable);
    vm_drives_apply_defaults(vm, props);
    Device *dev = vm_co_make_device(vm, type, id, props, error);
    if (dev != NULL) {
        dev->path = vm_device_path(vm, dev, true);
    }
    return dev;
}

static coroutine_fn RUNS_IN_MAIN bool vm_co_add_user_device(Vm *vm, const OptDict *opts,
                                                            GError **error)
{
    const char *type = opt_dict_get(opts, "driver");
    const char *id = opt_dict_get(opts, "id");
    if (!vm_check_user_type(type, error)) {
        return false;
    }
    if (id != NULL && !opt_id_check(id, error)) {
        g_prefix_error(error, "-device %s: ", type);
        return false;
    }
    if (id != NULL && vm_find_device(vm, id) != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "-device %s: the id '%s' is taken; choose another", type, id);
        return false;
    }
    if (vm_co_make_user_device(vm, opts, error) == NULL) {
        g_prefix_error(error, "-device ");
        return false;
    }
    return true;
}

bool vm_co_add_user_devices(Vm *vm, GError **error)
{
    for (unsigned i = 0; i < vm->config->devices->len; i++) {
        if (!vm_co_add_user_device(vm, vm->config->devices->pdata[i], error)) {
            return false;
        }
    }
    return vm_co_add_drive_devices(vm, error) && vm_co_add_exec_devices(vm, error);
}
