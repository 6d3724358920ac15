/* SPDX-License-Identifier: Apache-2.0 */
/* Types of the schema that several groups about disks share. Only for vmm/qmp/. */
#ifndef SKIFF_VMM_QMP_QMP_BLOCK_H
#define SKIFF_VMM_QMP_QMP_BLOCK_H

#include "vmm/qmp/qmp_schema.h"

extern const QmpType qmp_io_operation_type;   /* "read", "write" */
extern const QmpType qmp_block_error_action;  /* "ignore", "report", "stop" */
extern const QmpType qmp_block_device_status; /* "ok", "failed", "nospace" */

#endif
