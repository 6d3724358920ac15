/* SPDX-License-Identifier: Apache-2.0 */
/* All of QMP's groups, in the order of the reference: qmp_setup() is handed the list. */
#ifndef SKIFF_VMM_MONITOR_QMP_TABLES_H
#define SKIFF_VMM_MONITOR_QMP_TABLES_H

#include "vmm/monitor/qmp/qmp_schema.h"

extern const QmpGroup *const qmp_groups[]; /* NULL-terminated */

#endif
