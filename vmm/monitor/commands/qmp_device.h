/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the device commands. Only for qmp_device*.c and qmp_qom*.c. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_DEVICE_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_DEVICE_H

#include "vmm/monitor/qmp/qmp.h"

/* ---- qmp_device_types.c ---- */
extern const QmpType qmp_device_list_properties_args, qmp_device_properties;
extern const QmpType qmp_qom_list_types_args, qmp_qom_types;
QmpHandler qmp_device_list_properties, qmp_qom_list_types;
/* Returns QEMU's name for the type of a device's property. */
const char *qmp_property_type(OptType type) ANY_THREAD;
/* Whether @name is a known type that is @wanted or derived from it. */
bool qmp_type_implements(const char *name, const char *wanted) ANY_THREAD;

/* ---- qmp_device_pci.c ---- */
extern const QmpType qmp_pci_list;
QmpHandler qmp_query_pci;

#endif
