/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs as arguments. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_CPU_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_CPU_H

#include "vmm/monitor/qmp/qmp.h"

/* Reads the argument 'cpu-index', default 0. Returns false and sets @error if there is no such
 * vCPU. */
bool qmp_arg_cpu(QmpCall *call, struct json_object *args, unsigned *index, GError **error)
    RUNS_IN_MAIN;

/* Returns the CpuInstanceProperties of a vCPU, owned by the caller. */
struct json_object *qmp_cpu_instance(const Vm *vm, unsigned index) RUNS_IN_MAIN;

#endif
