/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the commands that start block jobs. Only for this folder. */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_BLOCK_JOB_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_BLOCK_JOB_H

#include "block/job/block_job.h"
#include "vmm/monitor/qmp/qmp.h"

extern const QmpType qmp_mirror_sync_mode; /* "top", "full", "none", "incremental", "bitmap" */
extern const QmpType qmp_bitmap_sync_mode; /* "on-success", "never", "always" */
extern const QmpType qmp_blockdev_on_error;
extern const QmpType qmp_new_image_mode; /* "existing", "absolute-paths" */

/* The members of BLOCK_JOB_ARGS. */
#define BLOCK_JOB_ARGS                                                                             \
    {"job-id", &qmp_str, true, .doc = "the id of the job; default: the id of the -drive"},         \
        {"speed", &qmp_int, true, .doc = "bytes per second; default: 0, which is no limit"},       \
        {"on-source-error", &qmp_blockdev_on_error, true, .doc = "default: report"},               \
        {"on-target-error", &qmp_blockdev_on_error, true, .doc = "default: report"},               \
        {"auto-finalize", &qmp_bool, true, .doc = "default: true"},                                \
        {"auto-dismiss", &qmp_bool, true, .doc = "default: true"},                                 \
    {                                                                                              \
        "filter-node-name", &qmp_str, true, .doc = "the name of the job's filter node"             \
    }

/* Takes them. @device is the node's name or the id of its -drive. Texts are borrowed. False + @error.
 */
bool qmp_take_block_job(Vm *vm, struct json_object *args, const char *device,
                        BlockJobConfig *config, GError **error) RUNS_IN_MAIN;

#endif
