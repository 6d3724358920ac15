/* SPDX-License-Identifier: Apache-2.0 */
/* vCPUs as arguments. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_CPU_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_CPU_H

#include "vmm/monitor/qmp/qmp.h"

/* The argument 'cpu-index', 0 when it is left out; whether there is such a vCPU. */
bool qmp_arg_cpu(QmpCall *call, struct json_object *args, unsigned *index, GError **error)
    RUNS_IN_MAIN;

/* CpuInstanceProperties of a vCPU, owned by the caller. */
struct json_object *qmp_cpu_instance(const Vm *vm, unsigned index) RUNS_IN_MAIN;

#endif
