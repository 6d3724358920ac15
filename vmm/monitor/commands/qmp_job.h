/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about jobs share. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_JOB_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_JOB_H

#include <json-c/json.h>
#include "util/job/job.h"

/* Puts what both queries and events have of a block job: type, device (its id), len and offset. */
void qmp_put_block_job(struct json_object *object, const Job *job) RUNS_IN_MAIN;

#endif
