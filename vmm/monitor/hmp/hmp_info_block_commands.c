/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: info on disks and jobs. */
#include <inttypes.h>
#include <string.h>
#include "vmm/monitor/hmp/hmp_complete.h"

/* ---- disks ---- */

static bool hmp_flag(struct json_object *object, const char *name)
{
    return object != NULL && qmp_arg_bool(object, name, false);
}

static void hmp_print_cache(HmpCall *call, struct json_object *cache)
{
    hmp_printf(call, "    Cache mode:       %s%s%s\n",
               hmp_flag(cache, "writeback") ? "writeback" : "writethrough",
               hmp_flag(cache, "direct") ? ", direct" : "",
               hmp_flag(cache, "no-flush") ? ", ignore flushes" : "");
}

static void hmp_print_disk(HmpCall *call, struct json_object *disk)
{
    struct json_object *inserted = qmp_arg_get(disk, "inserted");
    const char *name = qmp_arg_str(disk, "device"), *qdev = qmp_arg_str(disk, "qdev");
    const char *node = inserted != NULL ? qmp_arg_str(inserted, "node-name") : NULL;
    const char *status = qmp_arg_str(disk, "io-status");
    hmp_printf(call, "%s", name[0] != '\0' ? name : node != NULL ? node : "");
    if (node != NULL && name[0] != '\0') {
        hmp_printf(call, " (%s)", node);
    }
    if (inserted == NULL) {
        hmp_printf(call, ": [not inserted]\n");
    } else {
        hmp_printf(call, ": %s (%s%s)\n", qmp_arg_str(inserted, "file"),
                   qmp_arg_str(inserted, "drv"), hmp_flag(inserted, "ro") ? ", read-only" : "");
    }
    if (qdev != NULL) {
        hmp_printf(call, "    Attached to:      %s\n", qdev);
    }
    if (status != NULL && strcmp(status, "ok") != 0) {
        hmp_printf(call, "    I/O status:       %s\n", status);
    }
    if (inserted != NULL && qmp_arg_has(inserted, "cache")) {
        hmp_print_cache(call, qmp_arg_get(inserted, "cache"));
    }
    if (inserted != NULL && qmp_arg_has(inserted, "backing_file")) {
        hmp_printf(call, "    Backing file:     %s (chain depth: %" PRId64 ")\n",
                   qmp_arg_str(inserted, "backing_file"),
                   qmp_arg_int(inserted, "backing_file_depth", 0));
    }
}

/* Whether @name is the device, QOM path or node name of @disk. A NULL @name matches every disk. */
static bool hmp_is_disk(struct json_object *disk, const char *name)
{
    struct json_object *inserted = qmp_arg_get(disk, "inserted");
    return name == NULL || strcmp(qmp_arg_str(disk, "device"), name) == 0 ||
           g_strcmp0(qmp_arg_str(disk, "qdev"), name) == 0 ||
           (inserted != NULL && g_strcmp0(qmp_arg_str(inserted, "node-name"), name) == 0);
}

static void hmp_info_block(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *name = qmp_arg_str(args, "device");
    struct json_object *list = hmp_co_qmp(call, "query-block", NULL);
    unsigned found = 0;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        if (hmp_is_disk(hmp_item(list, i), name)) {
            if (found++ > 0) {
                hmp_printf(call, "\n");
            }
            hmp_print_disk(call, hmp_item(list, i));
        }
    }
    if (list != NULL && found == 0 && name != NULL) {
        hmp_printf(call, "there is no disk '%s'; info block lists them\n", name);
    }
    json_object_put(list);
}

static void hmp_print_blockstats(HmpCall *call, struct json_object *result)
{
    static const char *const numbers[] = {
        "rd_bytes",         "wr_bytes",         "rd_operations",    "wr_operations",
        "flush_operations", "wr_total_time_ns", "rd_total_time_ns", "flush_total_time_ns",
        "rd_merged",        "wr_merged",        "unmap_operations", "idle_time_ns",
    };
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *disk = hmp_item(result, i), *stats = qmp_arg_get(disk, "stats");
        const char *name = qmp_arg_str(disk, "device");
        if (name == NULL || name[0] == '\0') {
            name = qmp_arg_str(disk, "node-name");
        }
        hmp_printf(call, "%s:", name != NULL ? name : "");
        for (unsigned k = 0; k < G_N_ELEMENTS(numbers); k++) {
            if (qmp_arg_has(stats, numbers[k])) {
                hmp_printf(call, " %s=%" PRId64, numbers[k], qmp_arg_int(stats, numbers[k], 0));
            }
        }
        hmp_printf(call, "\n");
    }
}

/* ---- jobs ---- */

static void hmp_print_jobs(HmpCall *call, struct json_object *result)
{
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *job = hmp_item(result, i);
        const char *error = qmp_arg_str(job, "error");
        hmp_printf(call, "%s: type %s, %s, %" PRId64 " of %" PRId64 "%s%s\n",
                   qmp_arg_str(job, "id"), qmp_arg_str(job, "type"), qmp_arg_str(job, "status"),
                   qmp_arg_int(job, "current-progress", 0), qmp_arg_int(job, "total-progress", 0),
                   error != NULL ? ", error: " : "", error != NULL ? error : "");
    }
    if (json_object_array_length(result) == 0) {
        hmp_printf(call, "No jobs\n");
    }
}

static void hmp_print_block_jobs(HmpCall *call, struct json_object *result)
{
    for (size_t i = 0; i < json_object_array_length(result); i++) {
        struct json_object *job = hmp_item(result, i);
        hmp_printf(call,
                   "Type %s, device %s: Completed %" PRId64 " of %" PRId64
                   " bytes, speed limit %" PRId64 " bytes/s\n",
                   qmp_arg_str(job, "type"), qmp_arg_str(job, "device"),
                   qmp_arg_int(job, "offset", 0), qmp_arg_int(job, "len", 0),
                   qmp_arg_int(job, "speed", 0));
    }
    if (json_object_array_length(result) == 0) {
        hmp_printf(call, "No active jobs\n");
    }
}

/* clang-format off */
const HmpCommand hmp_info_block_commands[] = {
    {"info block", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .optional = true, .complete = hmp_names_disks)),
     "disks", .run = hmp_info_block},
    {"info blockstats", NULL, NULL, "statistics of disk I/O", .qmp = "query-blockstats",
     .print = hmp_print_blockstats},
    {"info jobs", NULL, NULL, "jobs", .qmp = "query-jobs", .print = hmp_print_jobs},
    {"info block-jobs", NULL, NULL, "jobs on disks", .qmp = "query-block-jobs",
     .print = hmp_print_block_jobs},
    {0},
};
/* clang-format on */
