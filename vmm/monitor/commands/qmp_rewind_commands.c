/* SPDX-License-Identifier: Apache-2.0 */
/* A point in memory to which the machine goes back: x-rewind-point, x-rewind, x-rewind-end, query-x-rewind. They
 * are skiff's own. */
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/snapshot/rewind.h"

static const QmpType qmp_rewind_status = {
    .name = "XRewindStatus",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("none", "taking", "held", "rewinding", "lost"),
    .doc = "none: there is no point; taking: one is being made; held: x-rewind goes back to it; "
           "rewinding: that is "
           "under way; lost: a rewind has failed"};

static const QmpType qmp_rewind_memory = {
    .name = "XRewindMemory",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("copy-on-write", "copy"),
    .doc = "copy-on-write: pages are copied when they are first written after the point; copy: all "
           "of memory was "
           "copied at the point, since other processes share it"};

static const QmpType qmp_rewind_info = {
    .name = "XRewindInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"status", &qmp_rewind_status, .doc = "whether there is a point"},
        {"error", &qmp_str, .optional = true, .doc = "why it is lost"},
        {"memory", &qmp_rewind_memory, .optional = true, .doc = "how memory is held"},
        {"rewinds", &qmp_int, .optional = true, .doc = "so often the machine has gone back to it"},
        {"pages", &qmp_int, .optional = true,
         .doc = "pages of 4 KiB that the last rewind has put back"},
        {"time-us", &qmp_int, .optional = true,
         .doc = "microseconds of the last rewind, from the stop of the VM to its start"}),
};

static const QmpType qmp_rewind_result = {
    .name = "XRewindResult",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"pages", &qmp_int, .doc = "pages of 4 KiB that were put back"},
        {"time-us", &qmp_int, .doc = "microseconds from the stop of the VM to its start"}),
};

static void qmp_rewind_put_last(struct json_object *result, const RewindInfo *info)
{
    qmp_put_u64(result, "pages", info->pages);
    qmp_put_int(result, "time-us", info->last_ns / 1000);
}

static struct json_object *qmp_x_rewind_point(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    enter_coroutine();
    rewind_co_point(call->vm, error);
    return NULL;
}

static struct json_object *qmp_x_rewind(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    if (!rewind_co_back(call->vm, error)) {
        return NULL;
    }
    RewindInfo info = rewind_info();
    struct json_object *result = json_object_new_object();
    qmp_rewind_put_last(result, &info);
    return result;
}

static struct json_object *qmp_x_rewind_end(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    rewind_co_end(call->vm, error);
    return NULL;
}

static struct json_object *qmp_query_x_rewind(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    RewindInfo info = rewind_info();
    struct json_object *result = json_object_new_object();
    qmp_put_str(result, "status", qmp_rewind_status.values[info.state]);
    if (info.error != NULL) {
        qmp_put_str(result, "error", info.error);
    }
    if (info.state == REWIND_HELD || info.state == REWIND_REWINDING) {
        qmp_put_str(result, "memory", qmp_rewind_memory.values[info.copies_on_write ? 0 : 1]);
        qmp_put_u64(result, "rewinds", info.rewinds);
        qmp_rewind_put_last(result, &info);
    }
    return result;
}

static const QmpCommand qmp_rewind_commands[] = {
    {.name = "x-rewind-point",
     .run = qmp_x_rewind_point,
     .doc =
         "Holds the machine in memory as it is now, for x-rewind. A point that is held already is "
         "replaced. From now on what is written to disks goes to temporary overlays, until "
         "x-rewind-end."},
    {.name = "x-rewind",
     .ret = &qmp_rewind_result,
     .run = qmp_x_rewind,
     .doc =
         "Goes back to the point of x-rewind-point: the machine is as it was, and runs if it ran."},
    {.name = "x-rewind-end",
     .run = qmp_x_rewind_end,
     .doc = "Gives the point of x-rewind-point up. The machine stays as it is; disks get what was "
            "written to them since the point."},
    {.name = "query-x-rewind",
     .ret = &qmp_rewind_info,
     .flags = QMP_INSTANT,
     .run = qmp_query_x_rewind,
     .doc = "The point of x-rewind-point."},
    {0},
};
static const QmpEvent qmp_rewind_events[] = {{0}};

QMP_GROUP(rewind);
