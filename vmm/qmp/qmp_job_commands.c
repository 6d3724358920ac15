/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/qmp/qmp.h"
#include "vmm/qmp/qmp_tables.h"

const QmpCommand qmp_job_commands[] = {{0}};
const QmpEvent qmp_job_events[] = {{0}};
