/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by query-iothreads, query-memdev and the commands of QMP's object tree. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_OBJECT_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_OBJECT_H

#include "vmm/monitor/qmp/qmp.h"

/* Return an IOThreadInfo and a Memdev, owned by the caller. */
struct json_object *qmp_iothread_info(const IoThread *t) RUNS_IN_MAIN;
struct json_object *qmp_memdev_info(const MemoryBackend *m) RUNS_IN_MAIN;

#endif
