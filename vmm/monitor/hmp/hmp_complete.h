/* SPDX-License-Identifier: Apache-2.0 */
/* Completion by the Tab key. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_HMP_HMP_COMPLETE_H
#define SKIFF_VMM_MONITOR_HMP_HMP_COMPLETE_H

#include "vmm/monitor/hmp/hmp_int.h"

/* As LineEditorOps.complete. */
size_t hmp_complete(Vm *vm, const char *text, GPtrArray *words) RUNS_IN_MAIN;

/* ---- HmpParam.complete: appends all names; the caller keeps those that match ---- */
void hmp_names_commands(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_devices(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_device_types(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_disks(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_chardevs(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_objects(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;
void hmp_names_trace_events(Vm *vm, GPtrArray *names) RUNS_IN_MAIN;

#endif
