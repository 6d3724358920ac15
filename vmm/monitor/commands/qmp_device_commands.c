/* SPDX-License-Identifier: Apache-2.0 */
/* Plugs and unplugs devices. Types of devices are in qmp_device_types.c, the PCI bus is in
 * qmp_device_pci.c. */
#include "util/opts/json.h"
#include "vmm/monitor/commands/qmp_device.h"

static struct json_object *qmp_device_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    g_autoptr(OptDict) opts = opt_dict_from_json(args, error);
    Device *opened;
    if (opts != NULL && vm_co_open_device(call->vm, opts, &opened, error)) {
        vm_operation_begin(&call->vm->run);
        vm_co_plug(call->vm, opts, opened, error);
        vm_operation_end(&call->vm->run);
    }
    return NULL;
}

/* How long device_del waits for a device that needs no request to the guest. */
#define QMP_REMOVAL_NS (INT64_C(50) * 1000000)

static struct json_object *qmp_device_del(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    VmRemoval *removal = NULL;
    vm_operation_begin(&call->vm->run);
    const char *id = qmp_arg_str(args, "id");
    Device *dev = machine_find_device(&call->vm->machine, id);
    if (dev != NULL) {
        vm_unplug(call->vm, dev, &removal, error);
    } else {
        g_autofree char *excerpt = opt_excerpt(id);
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", excerpt);
    }
    vm_operation_end(&call->vm->run);
    if (removal != NULL) {
        vm_removal_co_settle(removal, QMP_REMOVAL_NS);
    }
    return NULL;
}

static const QmpType qmp_device_add_args = {
    .name = "device_add-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"driver", &qmp_str, .doc = "the type of the device, as in -device"},
                    {"bus", &qmp_str, .optional = true, .doc = "its bus: pcie.0, or ID.0"},
                    {"id", &qmp_str, .optional = true, .doc = "its id, which device_del needs"}),
    .open = true,
    .doc = "Further members are the type's properties: device-list-properties lists them.",
};

static const QmpType qmp_device_del_args = {
    .name = "device_del-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the device's id or path"}),
};

static const QmpType qmp_device_deleted = {
    .name = "DEVICE_DELETED-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"device", &qmp_str, .optional = true, .doc = "its id, if it has one"},
                           {"path", &qmp_str, .doc = "its path: /machine/peripheral/ID"}),
};

static const QmpCommand qmp_device_commands[] = {
    {"device_add", .args = &qmp_device_add_args, .run = qmp_device_add,
     .doc = "Plugs a device and notifies the guest. The device exists when this returns; it is "
            "usable once the guest has configured it."},
    {"device_del", .args = &qmp_device_del_args, .run = qmp_device_del,
     .doc = "Asks the guest to release a PCI device, which the guest may do late or never. The "
            "event DEVICE_DELETED follows the removal. Other devices are removed at once, unless "
            "requests to them hang: then the command returns, and the event follows their end."},
    {"device-list-properties", .args = &qmp_device_list_properties_args,
     .ret = &qmp_device_properties, .flags = QMP_INSTANT | QMP_EARLY,
     .run = qmp_device_list_properties, .doc = "The properties that a type of device takes."},
    {"qom-list-types", .args = &qmp_qom_list_types_args, .ret = &qmp_qom_types,
     .flags = QMP_INSTANT | QMP_EARLY, .run = qmp_qom_list_types,
     .doc = "All types of devices and objects."},
    {"query-pci", .ret = &qmp_pci_list, .flags = QMP_INSTANT, .run = qmp_query_pci,
     .doc = "The PCI bus and its devices, as configured by the guest."},
    {0}};

static const QmpEvent qmp_device_events[] = {
    {"DEVICE_DELETED", .data = &qmp_device_deleted,
     .doc = "A device was removed. Its id and its backends are free."},
    {0}};

QMP_GROUP(device);
