/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_block_job.h"

const QmpType qmp_mirror_sync_mode = {
    .name = "MirrorSyncMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("top", "full", "none", "incremental", "bitmap"),
    .doc = "What is copied: what the node holds itself; everything; what changes; what a bitmap "
           "has (two names).",
};
const QmpType qmp_bitmap_sync_mode = {
    .name = "BitmapSyncMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("on-success", "never", "always"),
    .doc = "When the bits of what was copied are cleared; always: as far as it was copied.",
};
const QmpType qmp_blockdev_on_error = {
    .name = "BlockdevOnError",
    .kind = QMP_KIND_ENUM,
    .values = block_on_error_names,
    .doc = "The reaction to an I/O error; auto: as enospc.",
};

const QmpType qmp_new_image_mode = {
    .name = "NewImageMode",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("existing", "absolute-paths"),
    .doc = "Whether an image is made.",
};

static BlockOnError block_job_take_on_error(struct json_object *args, const char *name)
{
    return (BlockOnError)MAX(qmp_arg_enum(args, name, &qmp_blockdev_on_error), 0);
}

bool qmp_take_block_job(Vm *vm, struct json_object *args, const char *device,
                        BlockJobConfig *config, GError **error)
{
    const char *id = qmp_arg_str(args, "job-id");
    int64_t speed = qmp_arg_int(args, "speed", 0);
    if (id == NULL && backends_drive_node(&vm->backends, device) == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "An explicit job ID is required for this node");
        return false;
    }
    if (speed < 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Parameter 'speed' expects a non-negative value");
        return false;
    }
    *config = (BlockJobConfig){
        .id = id != NULL ? id : device,
        .speed = (uint64_t)speed,
        .on_source_error = block_job_take_on_error(args, "on-source-error"),
        .on_target_error = block_job_take_on_error(args, "on-target-error"),
        .manual_finalize = !qmp_arg_bool(args, "auto-finalize", true),
        .manual_dismiss = !qmp_arg_bool(args, "auto-dismiss", true),
    };
    return true;
}
