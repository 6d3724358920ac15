/* SPDX-License-Identifier: Apache-2.0 */
/* The state of the machine in a file: savevm-start, savevm-end, query-savevm. Not in QEMU; names and results are
 * Proxmox'. */
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/snapshot/savevm.h"

static const QmpType qmp_savevm_start_args = {
    .name = "savevm-start-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"statefile", &qmp_str, .optional = true,
                            .doc = "a file, made if it does not exist, or a block device; absent: "
                                   "the VM is only stopped, for snapshots of its disks"}),
};

static const QmpType qmp_savevm_info = {
    .name = "SaveVMInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"status", &qmp_str, .optional = true,
         .doc = "\"active\", \"completed\" or \"failed\"; absent: there is no save"},
        {"error", &qmp_str, .optional = true, .doc = "why it has failed"},
        {"total-time", &qmp_int, .optional = true,
         .doc = "milliseconds since the start, or that "
                "the save took"},
        {"bytes", &qmp_int, .optional = true, .doc = "bytes of guest memory written so far"},
        {"pause-time", &qmp_int, .optional = true,
         .doc = "milliseconds from the stop of the VM until everything was written. Not in "
                "Proxmox"},
        {"passes", &qmp_int, .optional = true, .doc = "passes over memory. Not in Proxmox"}),
};

static struct json_object *qmp_savevm_start(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    savevm_co_start(call->vm, qmp_arg_str(args, "statefile"), error);
    return NULL;
}

static struct json_object *qmp_savevm_end(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    savevm_co_end(call->vm, error);
    return NULL;
}

static struct json_object *qmp_query_savevm(QmpCall *call, struct json_object *args, GError **error)
{
    static const char *const states[SAVEVM_STATE_COUNT] = {
        [SAVEVM_ACTIVE] = "active", [SAVEVM_COMPLETED] = "completed", [SAVEVM_FAILED] = "failed"};
    enter_main();
    SavevmInfo info = savevm_info();
    struct json_object *result = json_object_new_object();
    if (info.state == SAVEVM_NONE) {
        return result;
    }
    qmp_put_str(result, "status", states[info.state]);
    if (info.error != NULL) {
        qmp_put_str(result, "error", info.error);
    }
    qmp_put_int(result, "total-time", info.total_ns / 1000000);
    qmp_put_u64(result, "bytes", info.bytes);
    if (info.state == SAVEVM_COMPLETED) {
        qmp_put_int(result, "pause-time", info.pause_ns / 1000000);
    }
    qmp_put_int(result, "passes", info.passes);
    return result;
}

static const QmpCommand qmp_savevm_commands[] = {
    {.name = "savevm-start",
     .args = &qmp_savevm_start_args,
     .run = qmp_savevm_start,
     .doc = "Saves the state of the machine to a file while the guest runs on; the VM is stopped "
            "when the save is completed, and stays so until savevm-end. query-savevm shows the "
            "progress."},
    {.name = "savevm-end",
     .run = qmp_savevm_end,
     .doc = "Ends savevm-start: the VM runs again if it ran before. Cancels a save that is under "
            "way."},
    {.name = "query-savevm",
     .ret = &qmp_savevm_info,
     .run = qmp_query_savevm,
     .doc = "The save of savevm-start."},
    {0},
};
static const QmpEvent qmp_savevm_events[] = {{0}};

QMP_GROUP(savevm);
