/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: info on disks and jobs. */
#include <inttypes.h>
#include <string.h>
#include "block/image_text.h"
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

/* Prints the images of the chain that begins with the node. */
static RUNS_IN_MAIN void hmp_print_images(HmpCall *call, const char *node_name)
{
    BlockNodeInfo info;
    hmp_printf(call, "\nImages:\n");
    for (BlockNode *n = block_node_find(node_name); n != NULL;
         n = info.backing != NULL ? info.backing : info.filtered) {
        block_node_info(n, &info);
        g_autofree char *protocol = g_strdup_printf("%s://", info.driver);
        BlockImageText image = {
            .filename = info.filename != NULL ? info.filename : protocol,
            .format = info.driver,
            .size = info.size,
            .used = block_node_allocated_size(n),
            .info = block_node_image_info(n),
        };
        block_image_append_text(call->out, &image);
    }
}

/* Prints the limits of a disk, if it has some. */
static void hmp_print_throttle(HmpCall *call, struct json_object *node)
{
    static const char *const names[] = {
        "bps",     "bps_rd",  "bps_wr",   "bps_max",     "bps_rd_max",  "bps_wr_max", "iops",
        "iops_rd", "iops_wr", "iops_max", "iops_rd_max", "iops_wr_max", "iops_size"};
    if (!qmp_arg_has(node, "group")) {
        return;
    }
    hmp_printf(call, "    I/O throttling:  ");
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        hmp_printf(call, " %s=%" PRId64, names[i], qmp_arg_int(node, names[i], 0));
    }
    hmp_printf(call, " group=%s\n", qmp_arg_str(node, "group"));
}

static RUNS_IN_MAIN void hmp_print_node(HmpCall *call, struct json_object *node, bool verbose)
{
    hmp_print_cache(call, qmp_arg_get(node, "cache"));
    if (qmp_arg_has(node, "backing_file")) {
        hmp_printf(call, "    Backing file:     %s (chain depth: %" PRId64 ")\n",
                   qmp_arg_str(node, "backing_file"), qmp_arg_int(node, "backing_file_depth", 0));
    }
    hmp_print_throttle(call, node);
    if (verbose) {
        hmp_print_images(call, qmp_arg_str(node, "node-name"));
    }
}

/* @disk: NULL for a node; @node: NULL for a drive without a medium. */
static RUNS_IN_MAIN void hmp_print_disk(HmpCall *call, struct json_object *disk,
                                        struct json_object *node, bool verbose)
{
    const char *name = disk != NULL ? qmp_arg_str(disk, "device") : "";
    const char *qdev = disk != NULL ? qmp_arg_str(disk, "qdev") : NULL;
    const char *node_name = node != NULL ? qmp_arg_str(node, "node-name") : NULL;
    const char *status = disk != NULL ? qmp_arg_str(disk, "io-status") : NULL;
    hmp_printf(call, "%s", name[0] != '\0' ? name : node_name != NULL ? node_name : "");
    if (node_name != NULL && name[0] != '\0') {
        hmp_printf(call, " (%s)", node_name);
    }
    if (node == NULL) {
        hmp_printf(call, ": [not inserted]\n");
    } else {
        hmp_printf(call, ": %s (%s%s)\n", qmp_arg_str(node, "file"), qmp_arg_str(node, "drv"),
                   hmp_flag(node, "ro") ? ", read-only" : "");
    }
    if (qdev != NULL) {
        hmp_printf(call, "    Attached to:      %s\n", qdev);
    }
    if (disk != NULL && qmp_arg_has(disk, "tray_open")) { /* a CD drive, as QEMU shows it */
        hmp_printf(call, "    Removable device: %slocked, tray %s\n",
                   qmp_arg_bool(disk, "locked", false) ? "" : "not ",
                   qmp_arg_bool(disk, "tray_open", false) ? "open" : "closed");
    }
    if (status != NULL && strcmp(status, "ok") != 0) {
        hmp_printf(call, "    I/O status:       %s\n", status);
    }
    if (node != NULL) {
        hmp_print_node(call, node, verbose);
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

/* Prints the disks that @name selects. Returns how many there are. */
static coroutine_fn RUNS_IN_MAIN unsigned hmp_co_print_disks(HmpCall *call, const char *name,
                                                             bool verbose)
{
    struct json_object *list = hmp_co_qmp(call, "query-block", NULL);
    unsigned found = 0;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *disk = hmp_item(list, i);
        if (hmp_is_disk(disk, name)) {
            hmp_printf(call, "%s", found++ > 0 ? "\n" : "");
            hmp_print_disk(call, disk, qmp_arg_get(disk, "inserted"), verbose);
        }
    }
    json_object_put(list);
    return found;
}

/* The same for nodes. */
static coroutine_fn RUNS_IN_MAIN unsigned hmp_co_print_nodes(HmpCall *call, const char *name,
                                                             bool verbose)
{
    struct json_object *list = hmp_co_qmp(call, "query-named-block-nodes", NULL);
    unsigned found = 0;
    for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
        struct json_object *node = hmp_item(list, i);
        if (name == NULL || strcmp(qmp_arg_str(node, "node-name"), name) == 0) {
            hmp_printf(call, "%s", found++ > 0 ? "\n" : "");
            hmp_print_disk(call, NULL, node, verbose);
        }
    }
    json_object_put(list);
    return found;
}

static void hmp_info_block(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *name = qmp_arg_str(args, "device");
    bool nodes = hmp_flag(args, "nodes"), verbose = hmp_flag(args, "verbose");
    unsigned found = nodes ? 0 : hmp_co_print_disks(call, name, verbose);
    if (found == 0 && (nodes || name != NULL)) {
        found = hmp_co_print_nodes(call, name, verbose);
    }
    if (found == 0 && name != NULL) {
        hmp_printf(call, "there is no disk '%s'; info block lists them\n", name);
    }
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
     HMP_PARAMS(HMP_PARAM("nodes", FLAG, .flag = 'n'), HMP_PARAM("verbose", FLAG, .flag = 'v'),
                HMP_PARAM("device", WORD, .optional = true, .complete = hmp_names_disks)),
     "disks; -n: nodes; -v: with their images", .run = hmp_info_block},
    {"info blockstats", NULL, NULL, "statistics of disk I/O", .qmp = "query-blockstats",
     .print = hmp_print_blockstats},
    {"info jobs", NULL, NULL, "jobs", .qmp = "query-jobs", .print = hmp_print_jobs},
    {"info block-jobs", NULL, NULL, "jobs on disks", .qmp = "query-block-jobs",
     .print = hmp_print_block_jobs},
    {0},
};
/* clang-format on */
