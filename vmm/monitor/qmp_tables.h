/* SPDX-License-Identifier: Apache-2.0 */
/* The groups of the schema, a row each. Only for vmm/qmp/. */
#ifndef SKIFF_VMM_MONITOR_QMP_TABLES_H
#define SKIFF_VMM_MONITOR_QMP_TABLES_H

#include "vmm/monitor/qmp/qmp_schema.h"

#define QMP_GROUPS(X)                                                                              \
    X(protocol)                                                                                    \
    X(fd)                                                                                          \
    X(control)                                                                                     \
    X(block)                                                                                       \
    X(job)                                                                                         \
    X(device)                                                                                      \
    X(object)                                                                                      \
    X(chardev)                                                                                     \
    X(cpu)                                                                                         \
    X(memory)                                                                                      \
    X(dump)                                                                                        \
    X(monitor)                                                                                     \
    X(trace)

#define QMP_GROUP_DECLARE(group)                                                                   \
    extern const QmpCommand qmp_##group##_commands[];                                              \
    extern const QmpEvent qmp_##group##_events[];
QMP_GROUPS(QMP_GROUP_DECLARE)

#endif
