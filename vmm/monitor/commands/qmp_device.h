/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the group of device commands share. Only for vmm/qmp/qmp_device*.c. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_DEVICE_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_DEVICE_H

#include "vmm/monitor/qmp/qmp.h"

/* ---- qmp_device_types.c ---- */
extern const QmpType qmp_device_list_properties_args, qmp_device_properties;
extern const QmpType qmp_qom_list_types_args, qmp_qom_types;
QmpHandler qmp_device_list_properties, qmp_qom_list_types;

/* ---- qmp_device_pci.c ---- */
extern const QmpType qmp_pci_list;
QmpHandler qmp_query_pci;

#endif
