/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots of the whole machine in its disks: snapshot-save, snapshot-load, snapshot-delete. */
#include <string.h>
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/snapshot/snapshot_job.h"

#define VM_SNAPSHOT_JOB_ID                                                                         \
    {                                                                                              \
        "job-id", &qmp_str, .doc = "of the job, which query-jobs shows; job-dismiss removes it"    \
    }

static const QmpType qmp_vm_capture = {
    .name = "x-capture",
    .kind = QMP_KIND_ENUM,
    .values = frozen_ram_ways,
    .doc = "How memory is captured. Not in QEMU.",
};

static const QmpType qmp_vm_snapshot_save_args = {
    .name = "snapshot-save-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS(VM_SNAPSHOT_JOB_ID, {"tag", &qmp_str, .doc = "name of the snapshot"},
                    {"vmstate", &qmp_str,
                     .doc = "name of the node that has the machine's state; one of devices"},
                    {"devices", &qmp_str_list,
                     .doc = "names of the nodes of the disks; their format has snapshots"},
                    {"x-capture", &qmp_vm_capture, true,
                     .doc = "how memory is captured, for tests; by default \"auto\", the way "
                            "that stops the guest for the shortest time"}),
};

static const QmpType qmp_vm_snapshot_args = {
    .name = "snapshot-load-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(VM_SNAPSHOT_JOB_ID, {"tag", &qmp_str, .doc = "name of the snapshot"},
                           {"vmstate", &qmp_str,
                            .doc = "name of the node that has the machine's state; one of devices"},
                           {"devices", &qmp_str_list,
                            .doc = "names of the nodes of the disks; their format has snapshots"}),
};

static const QmpType qmp_vm_snapshot_delete_args = {
    .name = "snapshot-delete-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(VM_SNAPSHOT_JOB_ID, {"tag", &qmp_str, .doc = "name of the snapshot"},
                           {"devices", &qmp_str_list, .doc = "names of the nodes of the disks"}),
};

static char **vm_snapshot_names(struct json_object *args)
{
    struct json_object *list = json_object_object_get(args, "devices");
    size_t count = json_object_array_length(list);
    char **names = g_new0(char *, count + 1);
    for (size_t i = 0; i < count; i++) {
        names[i] = g_strdup(json_object_get_string(json_object_array_get_idx(list, i)));
    }
    return names;
}

static FrozenRamWay vm_snapshot_capture(struct json_object *args)
{
    const char *name = qmp_arg_str(args, "x-capture");
    unsigned way = 0;
    while (name != NULL && strcmp(frozen_ram_ways[way], name) != 0) {
        way++; /* the name was checked */
    }
    return (FrozenRamWay)way;
}

static coroutine_fn RUNS_IN_MAIN void
vm_snapshot_start(QmpCall *call, struct json_object *args,
                  Job *(*start)(const SnapshotJobConfig *config, GError **error), GError **error)
{
    g_auto(GStrv) names = vm_snapshot_names(args);
    const SnapshotJobConfig config = {
        .vm = call->vm,
        .id = qmp_arg_str(args, "job-id"),
        .tag = qmp_arg_str(args, "tag"),
        .state = qmp_arg_str(args, "vmstate"),
        .names = (const char *const *)names,
        .capture = vm_snapshot_capture(args),
    };
    vm_operation_begin(&call->vm->run);
    start(&config, error);
    vm_operation_end(&call->vm->run);
}

static struct json_object *qmp_vm_snapshot_save(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    enter_coroutine();
    vm_snapshot_start(call, args, snapshot_save_start, error);
    return NULL;
}

static struct json_object *qmp_vm_snapshot_load(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    enter_coroutine();
    vm_snapshot_start(call, args, snapshot_load_start, error);
    return NULL;
}

static struct json_object *qmp_vm_snapshot_delete(QmpCall *call, struct json_object *args,
                                                  GError **error)
{
    enter_main();
    enter_coroutine();
    vm_snapshot_start(call, args, snapshot_delete_start, error);
    return NULL;
}

static const QmpCommand qmp_vm_snapshot_commands[] = {
    {.name = "snapshot-save",
     .args = &qmp_vm_snapshot_save_args,
     .run = qmp_vm_snapshot_save,
     .doc = "Starts a job that saves the machine, with an internal snapshot of each of these disks "
            "and "
            "all of one instant, while the guest runs on. It fails if one of the disks has a "
            "snapshot with this name."},
    {.name = "snapshot-load",
     .args = &qmp_vm_snapshot_args,
     .run = qmp_vm_snapshot_load,
     .doc = "Starts a job that makes the machine and these disks as snapshot-save has saved them. "
            "The VM runs afterwards if it ran before."},
    {.name = "snapshot-delete",
     .args = &qmp_vm_snapshot_delete_args,
     .run = qmp_vm_snapshot_delete,
     .doc = "Starts a job that deletes the snapshots with this name from these disks. A disk that "
            "has none is left alone."},
    {0},
};
static const QmpEvent qmp_vm_snapshot_events[] = {{0}};

QMP_GROUP(vm_snapshot);
