/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon in QMP: its commands, and the properties that it has in the tree of objects. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_BALLOON_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_BALLOON_H

#include "vmm/monitor/qmp/qmp.h"

#define QMP_BALLOON_STATS "guest-stats"
#define QMP_BALLOON_INTERVAL "guest-stats-polling-interval"

bool qmp_is_balloon(const DeviceType *type) ANY_THREAD;
/* Adds the two properties to @values. */
void qmp_put_balloon_values(struct json_object *values, const Device *dev) RUNS_IN_MAIN;
/* Sets QMP_BALLOON_INTERVAL to @value (borrowed). */
bool qmp_balloon_set_interval(Device *dev, struct json_object *value, GError **error) RUNS_IN_MAIN;

#endif
