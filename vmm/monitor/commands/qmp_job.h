/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files on jobs. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_JOB_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_JOB_H

#include <json-c/json.h>
#include "util/job/job.h"

/* Adds the members that queries and events of block jobs share: type, device (the job's id), len
 * and offset. */
void qmp_put_block_job(struct json_object *object, const Job *job) RUNS_IN_MAIN;

#endif
