/* SPDX-License-Identifier: Apache-2.0 */
/* All groups of QMP, in the order of the reference; the argument of qmp_setup(). */
#ifndef SKIFF_VMM_MONITOR_QMP_TABLES_H
#define SKIFF_VMM_MONITOR_QMP_TABLES_H

#include "vmm/monitor/qmp/qmp_schema.h"

extern const QmpGroup *const qmp_groups[]; /* NULL-terminated */

#endif
