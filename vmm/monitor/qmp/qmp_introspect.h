/* SPDX-License-Identifier: Apache-2.0 */
/* The schema tables as QEMU's introspection has them (qapi/introspect.json). Only for vmm/qmp/. */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_INTROSPECT_H
#define SKIFF_VMM_MONITOR_QMP_QMP_INTROSPECT_H

#include "vmm/monitor/qmp/qmp_schema.h"

/* The list of query-qmp-schema, the caller's to put; made once. */
struct json_object *qmp_introspect(void) RUNS_IN_MAIN;

#endif
