/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of disks in QMP: shared by the queries of disks and by those of the object tree. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_THROTTLE_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_THROTTLE_H

#include "block/throttle.h"
#include "vmm/monitor/qmp/qmp.h"

/* Adds "bps", "iops_rd", "group" and so on to a BlockDeviceInfo. NULL: no limits. */
void qmp_put_throttle(struct json_object *info, const ThrottleGroup *g) RUNS_IN_MAIN;
/* The values of the properties of a throttle group: "limits", "x-bps-total" and so on. */
struct json_object *qmp_throttle_values(const ThrottleGroup *g) RUNS_IN_MAIN;

#endif
