/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of the VM: created by the board's table and by -device, kept in their start order. */
#include <string.h>
#include "vmm/backends/throttle.h"
#include "vmm/machine/boot_order.h"
#include "vmm/machine/machine.h"

Device *machine_find_device(VmMachine *m, const char *id)
{
    bool is_path = id[0] == '/';
    for (unsigned i = 0; i < m->devices->len; i++) {
        Device *dev = m->devices->pdata[i];
        if (g_strcmp0(is_path ? dev->path : dev->id, id) == 0) {
            return dev;
        }
    }
    return NULL;
}

Device *machine_find_type(const VmMachine *m, const char *type)
{
    for (unsigned i = 0; i < m->devices->len; i++) {
        Device *dev = m->devices->pdata[i];
        if (strcmp(dev->type->name, type) == 0) {
            return dev;
        }
    }
    return NULL;
}

Device *machine_find_bus(VmMachine *m, const char *bus, const char *wanted)
{
    g_autofree char *id = wanted != NULL ? g_strndup(wanted, strcspn(wanted, ".")) : NULL;
    for (unsigned i = m->devices->len; i-- > 0;) {
        Device *dev = m->devices->pdata[i];
        if (!dev->leaving && g_strcmp0(dev->type->provides_bus, bus) == 0 &&
            (id == NULL || g_strcmp0(dev->id, id) == 0)) {
            return dev;
        }
    }
    return NULL;
}

/* A device type that has bus @bus. */
static const char *machine_bus_provider(const char *bus)
{
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        if (g_strcmp0((*t)->provides_bus, bus) == 0) {
            return (*t)->name;
        }
    }
    return "none has";
}

static RUNS_IN_MAIN Device *machine_find_parent(VmMachine *m, const char *bus, const char *wanted,
                                                GError **error)
{
    Device *dev = machine_find_bus(m, bus, wanted);
    if (dev == NULL && wanted != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "there is no %s bus '%s'", bus, wanted);
    } else if (dev == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "needs a %s bus: give a device that has one (-device %s) before it", bus,
                    machine_bus_provider(bus));
    }
    return dev;
}

static RUNS_IN_MAIN bool machine_attach_to_bus(VmMachine *m, Device *dev, const char *wanted,
                                               GError **error)
{
    const char *bus = dev->type->bus;
    if (bus == NULL || strcmp(bus, "isa") == 0) {
        return true;
    }
    if (strcmp(bus, "pci") == 0) {
        if (wanted == NULL || strcmp(wanted, "pcie.0") == 0) {
            return true; /* env has the root bus */
        }
        dev->bus_device = machine_find_bus(m, bus, wanted);
        if (dev->bus_device == NULL) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "there is no PCI bus '%s': use pcie.0, or the id of a pcie-root-port that "
                        "is given before the device",
                        wanted);
        }
        return dev->bus_device != NULL;
    }
    dev->bus_device = machine_find_parent(m, bus, wanted, error);
    return dev->bus_device != NULL;
}

/* Some errors already name the device; those of the bus have QEMU's text. */
static void machine_prefix_device_error(const Device *dev, GError **error)
{
    g_autofree char *label = g_strdup_printf("%s: ", device_label(dev));
    if (!g_str_has_prefix((*error)->message, label) &&
        !g_str_has_prefix((*error)->message, "PCI: ")) {
        g_prefix_error(error, "%s", label);
    }
}

/* QEMU's path: in /machine/peripheral by its id, among the anonymous devices, or unattached if the
 * board created it. */
static char *machine_device_path(VmMachine *m, const Device *dev, bool by_user)
{
    if (dev->id != NULL) {
        return g_strdup_printf("/machine/peripheral/%s", dev->id);
    }
    if (by_user) {
        return g_strdup_printf("/machine/peripheral-anon/device[%u]", m->anonymous_devices++);
    }
    return g_strdup_printf("/machine/unattached/device[%u]", m->board_devices++);
}

static RUNS_IN_MAIN bool machine_check_single(VmMachine *m, const DeviceType *type, GError **error)
{
    if (!type->single || machine_find_type(m, type->name) == NULL) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "a machine has one %s at most", type->name);
    return false;
}

/* Takes @dev, whose properties are set; @bus (may be NULL) is the one wanted. False + error: it is freed. */
static coroutine_fn RUNS_IN_MAIN bool machine_co_take_device(VmMachine *m, Device *dev,
                                                             const char *bus, GError **error)
{
    if (machine_check_single(m, dev->type, error) && machine_check_bootindex(m, dev, error) &&
        machine_attach_to_bus(m, dev, bus, error) && device_realize(dev, error)) {
        g_ptr_array_add(m->devices, dev);
        return true;
    }
    machine_prefix_device_error(dev, error);
    machine_co_drop_opened(dev);
    return false;
}

/* A device with @props; "bus" is taken from them. NULL + error. */
static Device *machine_new_device(VmMachine *m, const DeviceType *type, const char *id,
                                  OptDict *props, char **bus, GError **error)
{
    Device *dev = device_new(type, &m->env, id);
    *bus = opt_dict_take(props, "bus");
    if (!device_set_properties(dev, props, error)) {
        device_free(dev);
        return NULL;
    }
    return dev;
}

Device *machine_co_add_device(VmMachine *m, const char *type_name, const char *id,
                              const OptDict *opts, GError **error)
{
    const DeviceType *type = device_type_find(type_name);
    if (type == NULL) {
        bug_abort("the board's device '%s' does not exist", type_name);
    }
    g_autoptr(OptDict) props = opts != NULL ? opt_dict_copy(opts) : opt_dict_new();
    g_autofree char *bus = NULL;
    Device *dev = machine_new_device(m, type, id, props, &bus, error);
    if (dev == NULL || !machine_co_take_device(m, dev, bus, error)) {
        g_prefix_error(error, "-device ");
        return NULL;
    }
    dev->path = machine_device_path(m, dev, false);
    return dev;
}

/* ---- -device and device_add ---- */

static GPtrArray *machine_user_type_names(void)
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

const char *machine_nearest_device_type(const char *name)
{
    g_autoptr(GPtrArray) names = machine_user_type_names();
    return opt_nearest(name, (const char *const *)names->pdata);
}

const char *machine_lacking_device_type(const char *name)
{
    static const char *const pass_through[] = {"scsi-block", "scsi-generic"};
    if (g_str_has_prefix(name, "tpm-")) {
        return "this machine has no TPM";
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(pass_through); i++) {
        if (strcmp(name, pass_through[i]) == 0) {
            return "it would pass SCSI commands to a device of the host; scsi-hd and scsi-cd "
                   "execute them";
        }
    }
    return NULL;
}

static bool machine_check_user_type(const char *name, GError **error)
{
    const DeviceType *type = device_type_find(name);
    if (type != NULL && type->user_creatable) {
        return true;
    }
    const char *lacking = machine_lacking_device_type(name);
    if (lacking != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "-device: skiff has no device '%s': %s",
                    name, lacking);
        return false;
    }
    const char *near = machine_nearest_device_type(name);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                "-device: skiff has no device '%s'%s%s; '-device help' lists all", name,
                near != NULL ? "; nearest is " : "", near != NULL ? near : "");
    return false;
}

/* Its properties are set. */
static RUNS_IN_MAIN Device *machine_new_user_device(VmMachine *m, const OptDict *opts, char **bus,
                                                    GError **error)
{
    g_autoptr(OptDict) props = opt_dict_copy(opts);
    g_autofree char *name = opt_dict_take(props, "driver");
    g_autofree char *id = opt_dict_take(props, "id");
    const DeviceType *type = device_type_find(name);
    g_assert(type != NULL && type->user_creatable);
    backends_apply_drive_defaults(m->backends, props);
    return machine_new_device(m, type, id, props, bus, error);
}

Device *machine_co_open_user_device(VmMachine *m, const OptDict *opts, GError **error)
{
    g_autofree char *bus = NULL;
    Device *dev = machine_new_user_device(m, opts, &bus, error);
    if (dev != NULL && !device_co_open(dev, error)) {
        machine_prefix_device_error(dev, error);
        device_free(dev);
        return NULL;
    }
    return dev;
}

void machine_co_drop_opened(Device *dev)
{
    if (dev != NULL) {
        device_co_close(dev);
        device_free(dev);
    }
}

Device *machine_co_make_user_device(VmMachine *m, const OptDict *opts, Device *opened,
                                    GError **error)
{
    g_autofree char *bus = opened != NULL ? g_strdup(opt_dict_get(opts, "bus")) : NULL;
    Device *dev = opened != NULL ? opened : machine_new_user_device(m, opts, &bus, error);
    if (dev == NULL || !machine_co_take_device(m, dev, bus, error)) {
        return NULL;
    }
    g_autoptr(OptDict) props = opt_dict_copy(opts);
    backends_apply_drive_defaults(m->backends, props);
    dev->path = machine_device_path(m, dev, true);
    throttle_co_add_device(m->backends, opt_dict_get(props, "drive"), device_label(dev));
    return dev;
}

static coroutine_fn RUNS_IN_MAIN bool machine_co_add_user_device(VmMachine *m, const OptDict *opts,
                                                                 GError **error)
{
    const char *type = opt_dict_get(opts, "driver");
    const char *id = opt_dict_get(opts, "id");
    if (!machine_check_user_type(type, error)) {
        return false;
    }
    if (id != NULL && !opt_id_check(id, error)) {
        g_prefix_error(error, "-device %s: ", type);
        return false;
    }
    if (id != NULL && machine_find_device(m, id) != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "-device %s: the id '%s' is taken; choose another", type, id);
        return false;
    }
    if (machine_co_make_user_device(m, opts, NULL, error) == NULL) {
        g_prefix_error(error, "-device ");
        return false;
    }
    return true;
}

bool machine_co_add_user_devices(VmMachine *m, const GPtrArray *implied, GError **error)
{
    const GPtrArray *lists[] = {m->config->devices, implied};
    for (unsigned l = 0; l < G_N_ELEMENTS(lists) && lists[l] != NULL; l++) {
        for (unsigned i = 0; i < lists[l]->len; i++) {
            if (!machine_co_add_user_device(m, lists[l]->pdata[i], error)) {
                return false;
            }
        }
    }
    return true;
}

char *machine_device_backend_path(const Device *dev)
{
    bool is_virtio =
        g_str_has_prefix(dev->type->name, "virtio-") || g_str_has_prefix(dev->type->name, "vhost-");
    return g_strconcat(dev->path, is_virtio ? "/virtio-backend" : "", NULL);
}
