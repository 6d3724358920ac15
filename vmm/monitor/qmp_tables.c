/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp_tables.h"

/* One row per line, which clang-format would undo. */
/* clang-format off */
#define QMP_GROUPS(ROW)                                                                            \
    ROW(protocol)                                                                                  \
    ROW(fd)                                                                                        \
    ROW(control)                                                                                   \
    ROW(block)                                                                                     \
    ROW(throttle)                                                                                  \
    ROW(medium)                                                                                    \
    ROW(bitmap)                                                                                    \
    ROW(export)                                                                                    \
    ROW(chain)                                                                                      \
    ROW(commit)                                                                                     \
    ROW(snapshot)                                                                                  \
    ROW(mirror)                                                                                    \
    ROW(transaction)                                                                               \
    ROW(create)                                                                                    \
    ROW(backup)                                                                                    \
    ROW(job)                                                                                       \
    ROW(device)                                                                                    \
    ROW(object)                                                                                    \
    ROW(qom)                                                                                       \
    ROW(machine)                                                                                   \
    ROW(chardev)                                                                                   \
    ROW(net)                                                                                       \
    ROW(cpu)                                                                                       \
    ROW(memory)                                                                                    \
    ROW(balloon)                                                                                   \
    ROW(netdev_event)                                                                              \
    ROW(savevm)                                                                                    \
    ROW(vm_snapshot)                                                                               \
    ROW(rewind)                                                                                    \
    ROW(dump)                                                                                      \
    ROW(monitor)                                                                                   \
    ROW(trace)
/* clang-format on */

#define QMP_GROUP_DECLARE(group) extern const QmpGroup qmp_group_##group;
#define QMP_GROUP_ENTRY(group) &qmp_group_##group,

QMP_GROUPS(QMP_GROUP_DECLARE)

const QmpGroup *const qmp_groups[] = {QMP_GROUPS(QMP_GROUP_ENTRY) NULL};
