/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: disks and jobs. */
#include <string.h>
#include "block/chain/chain_commit.h"
#include "block/graph.h"
#include "vmm/monitor/commands/qmp_block.h"
#include "vmm/monitor/hmp/hmp_complete.h"

/* @device is the id of a -drive, or a node name. */
static void hmp_block_resize(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, "device", qmp_arg_str(args, "device"));
    qmp_put_str(qmp, "node-name", qmp_arg_str(args, "device"));
    qmp_put_int(qmp, "size", qmp_arg_int(args, "size", 0));
    json_object_put(hmp_co_qmp(call, "block_resize", qmp));
}

/* The arguments of a command that makes an image for the -drive @device: its name is @file of @args and
 * of the command. */
static RUNS_IN_MAIN struct json_object *hmp_new_image_args(struct json_object *args,
                                                           const char *file)
{
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, "device", qmp_arg_str(args, "device"));
    qmp_put_str(qmp, file, qmp_arg_str(args, file));
    if (qmp_arg_has(args, "format")) {
        qmp_put_str(qmp, "format", qmp_arg_str(args, "format"));
    }
    qmp_put_str(qmp, "mode", qmp_arg_bool(args, "reuse", false) ? "existing" : "absolute-paths");
    return qmp;
}

static void hmp_snapshot_blkdev(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    if (!qmp_arg_has(args, "snapshot-file")) {
        hmp_printf(call, "Error: Parameter 'snapshot-file' is missing\n");
        return;
    }
    struct json_object *qmp = hmp_new_image_args(args, "snapshot-file");
    json_object_put(hmp_co_qmp(call, "blockdev-snapshot-sync", qmp));
}

static void hmp_drive_mirror(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = hmp_new_image_args(args, "target");
    qmp_put_str(qmp, "sync", qmp_arg_bool(args, "full", false) ? "full" : "top");
    json_object_put(hmp_co_qmp(call, "drive-mirror", qmp));
}

static void hmp_drive_backup(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = hmp_new_image_args(args, "target");
    qmp_put_str(qmp, "sync", qmp_arg_bool(args, "full", false) ? "full" : "top");
    qmp_put_bool(qmp, "compress", qmp_arg_bool(args, "compress", false));
    json_object_put(hmp_co_qmp(call, "drive-backup", qmp));
}

/* The disk is the id of a -drive, or a device. */
static void hmp_block_set_io_throttle(HmpCall *call, struct json_object *args)
{
    static const char *const limits[] = {"bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"};
    enter_main();
    enter_coroutine();
    const char *disk = qmp_arg_str(args, "device");
    bool drive = backends_drive_node(&call->vm->backends, disk) != NULL;
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, drive ? "device" : "id", disk);
    for (unsigned i = 0; i < G_N_ELEMENTS(limits); i++) {
        qmp_put_int(qmp, limits[i], qmp_arg_int(args, limits[i], 0));
    }
    json_object_put(hmp_co_qmp(call, "block_set_io_throttle", qmp));
}

/* Waits for the job without the operation lock. */
static coroutine_fn RUNS_IN_MAIN bool hmp_commit_one(HmpCall *call, BlockNode *n, const char *name)
{
    g_autoptr(GError) error = NULL;
    vm_operation_begin(&call->vm->run);
    g_autofree char *id = hmp_job_id("commit");
    Job *job = chain_commit_co_start(n, id, &error);
    if (job != NULL) {
        job_ref(job);
    }
    vm_operation_end(&call->vm->run);
    g_autofree char *why = job != NULL ? hmp_co_job_end(job) : g_strdup(error->message);
    if (why != NULL) {
        hmp_printf(call, "'commit' error for '%s': %s\n", name, why);
    }
    return why == NULL;
}

/* As in QEMU: disks that have no backing file are left out, and the first error ends the command. */
static coroutine_fn RUNS_IN_MAIN void hmp_commit_all(HmpCall *call)
{
    unsigned count, disks = 0;
    g_autofree BlockBackend **list = blk_list(&count);
    g_autofree BlockNode **nodes = g_new(BlockNode *, count);
    for (unsigned i = 0; i < count; i++) {
        BlockNode *n = block_node_below_jobs(blk_root(list[i]));
        if (!blk_read_only(list[i]) && chain_can_commit(n)) {
            block_node_ref(n);
            nodes[disks++] = n;
        }
    }
    bool ok = true;
    for (unsigned i = 0; i < disks; i++) {
        ok = ok && hmp_commit_one(call, nodes[i], "all");
        block_co_unref(nodes[i]);
    }
}

static void hmp_commit(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *device = qmp_arg_str(args, "device");
    if (strcmp(device, "all") == 0) {
        hmp_commit_all(call);
        return;
    }
    BlockNode *n = qmp_find_node_of(call->vm, device, NULL);
    if (n == NULL) {
        hmp_printf(call, "Device '%s' not found\n", device);
        return;
    }
    block_node_ref(n);
    hmp_commit_one(call, n, device);
    block_co_unref(n);
}

static void hmp_block_stream(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = json_object_new_object();
    qmp_put_str(qmp, "device", qmp_arg_str(args, "device"));
    qmp_put_str(qmp, "job-id", qmp_arg_str(args, "device"));
    qmp_put_int(qmp, "speed", qmp_arg_int(args, "speed", 0));
    if (qmp_arg_has(args, "base")) {
        qmp_put_str(qmp, "base", qmp_arg_str(args, "base"));
    }
    json_object_put(hmp_co_qmp(call, "block-stream", qmp));
}

/* Sets what names the CD drive @name: an id or path of a device, else the id of a -drive. */
static RUNS_IN_MAIN struct json_object *hmp_medium_args(HmpCall *call, struct json_object *args)
{
    const char *name = qmp_arg_str(args, "device");
    struct json_object *qmp = json_object_new_object();
    bool is_device = machine_find_device(&call->vm->machine, name) != NULL;
    qmp_put_str(qmp, is_device ? "id" : "device", name);
    qmp_put_bool(qmp, "force", qmp_arg_bool(args, "force", false));
    return qmp;
}

static void hmp_eject(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    json_object_put(hmp_co_qmp(call, "eject", hmp_medium_args(call, args)));
}

static void hmp_change(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *qmp = hmp_medium_args(call, args);
    static const char *const names[] = {"filename", "format", "read-only-mode"};
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (qmp_arg_has(args, names[i])) {
            qmp_put_str(qmp, names[i], qmp_arg_str(args, names[i]));
        }
    }
    json_object_put(hmp_co_qmp(call, "blockdev-change-medium", qmp));
}

/* clang-format off */
#define HMP_JOB(name, qmp_name, member, text)                                                      \
    {name, NULL, HMP_PARAMS(HMP_PARAM(member, WORD)), text, .qmp = qmp_name}

const HmpCommand hmp_block_commands[] = {
    {"block_resize", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks), HMP_PARAM("size", SIZE)),
     "resize a disk; without a suffix the size is in MiB", .run = hmp_block_resize},
    {"snapshot_blkdev", NULL,
     HMP_PARAMS(HMP_PARAM("reuse", FLAG, .flag = 'n'),
                HMP_PARAM("device", WORD, .complete = hmp_names_disks),
                HMP_PARAM("snapshot-file", WORD, .optional = true),
                HMP_PARAM("format", WORD, .optional = true)),
     "make an overlay for a disk in a new file; -n: in an existing image",
     .run = hmp_snapshot_blkdev},
    {"block_set_io_throttle", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks), HMP_PARAM("bps", INT),
                HMP_PARAM("bps_rd", INT), HMP_PARAM("bps_wr", INT), HMP_PARAM("iops", INT),
                HMP_PARAM("iops_rd", INT), HMP_PARAM("iops_wr", INT)),
     "limit a disk's bytes and requests a second; 0: no limit", .run = hmp_block_set_io_throttle},
    {"eject", NULL,
     HMP_PARAMS(HMP_PARAM("force", FLAG, .flag = 'f'), HMP_PARAM("device", WORD)),
     "take the medium out of a CD drive; -f although the guest keeps the tray closed",
     .run = hmp_eject},
    {"change", NULL,
     HMP_PARAMS(HMP_PARAM("force", FLAG, .flag = 'f'), HMP_PARAM("device", WORD),
                HMP_PARAM("filename", WORD), HMP_PARAM("format", WORD, .optional = true),
                HMP_PARAM("read-only-mode", WORD, .optional = true)),
     "put another image into a CD drive", .run = hmp_change},
    {"snapshot_blkdev_internal", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks), HMP_PARAM("name", WORD)),
     "create an internal snapshot of a qcow2 disk", .qmp = "blockdev-snapshot-internal-sync"},
    {"snapshot_delete_blkdev_internal", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks), HMP_PARAM("name", WORD),
                HMP_PARAM("id", WORD, .optional = true)),
     "delete an internal snapshot of a qcow2 disk",
     .qmp = "blockdev-snapshot-delete-internal-sync"},
    {"drive_mirror", NULL,
     HMP_PARAMS(HMP_PARAM("reuse", FLAG, .flag = 'n'), HMP_PARAM("full", FLAG, .flag = 'f'),
                HMP_PARAM("device", WORD, .complete = hmp_names_disks),
                HMP_PARAM("target", WORD), HMP_PARAM("format", WORD, .optional = true)),
     "mirror a disk to a new file; -n: to an existing image; -f: all of it, not only the top image",
     .run = hmp_drive_mirror},
    {"drive_backup", NULL,
     HMP_PARAMS(HMP_PARAM("reuse", FLAG, .flag = 'n'), HMP_PARAM("full", FLAG, .flag = 'f'),
                HMP_PARAM("compress", FLAG, .flag = 'c'),
                HMP_PARAM("device", WORD, .complete = hmp_names_disks),
                HMP_PARAM("target", WORD), HMP_PARAM("format", WORD, .optional = true)),
     "back up a disk to a new file; -n: to an existing image; -f: all of it, not only the top image; "
     "-c: compressed",
     .run = hmp_drive_backup},
    {"commit", NULL, HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks)),
     "move what a disk's overlay holds to the image below; all: of every disk",
     .run = hmp_commit},
    {"block_stream", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD, .complete = hmp_names_disks),
                HMP_PARAM("speed", SIZE, .optional = true),
                HMP_PARAM("base", WORD, .optional = true)),
     "copy to a disk what is below it, down to a base", .run = hmp_block_stream},
    {"block_job_cancel", NULL,
     HMP_PARAMS(HMP_PARAM("force", FLAG, .flag = 'f'), HMP_PARAM("device", WORD)),
     "cancel a block job; -f also when it is paused, and a ready mirror without its last copies",
     .qmp = "block-job-cancel"},
    HMP_JOB("block_job_complete", "block-job-complete", "device", "complete a ready block job"),
    HMP_JOB("block_job_pause", "block-job-pause", "device", "pause a block job"),
    HMP_JOB("block_job_resume", "block-job-resume", "device", "resume a paused block job"),
    {"block_job_set_speed", NULL,
     HMP_PARAMS(HMP_PARAM("device", WORD), HMP_PARAM("speed", SIZE)),
     "limit the speed of a block job, in MiB/s without a suffix", .qmp = "block-job-set-speed"},
    HMP_JOB("job_cancel", "job-cancel", "id", "cancel a job"),
    HMP_JOB("job_complete", "job-complete", "id", "complete a ready job"),
    HMP_JOB("job_pause", "job-pause", "id", "pause a job"),
    HMP_JOB("job_resume", "job-resume", "id", "resume a paused job"),
    HMP_JOB("job_finalize", "job-finalize", "id", "commit the result of a pending job"),
    HMP_JOB("job_dismiss", "job-dismiss", "id", "remove a concluded job"),
    {0},
};
/* clang-format on */
