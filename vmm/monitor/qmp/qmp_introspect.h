/* SPDX-License-Identifier: Apache-2.0 */
/* The schema tables in the form of QEMU's qapi/introspect.json. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_INTROSPECT_H
#define SKIFF_VMM_MONITOR_QMP_QMP_INTROSPECT_H

#include "vmm/monitor/qmp/qmp_schema.h"

/* Returns a reference to the list of query-qmp-schema, which is built once. */
struct json_object *qmp_introspect(void) RUNS_IN_MAIN;

#endif
