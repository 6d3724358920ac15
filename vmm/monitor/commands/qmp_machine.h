/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the machine commands. Only for qmp_machine*.c. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_MACHINE_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_MACHINE_H

#include "vmm/monitor/qmp/qmp.h"

/* ---- qmp_machine_options.c ---- */
extern const QmpType qmp_options_args, qmp_options_list;
QmpHandler qmp_query_command_line_options;

#endif
