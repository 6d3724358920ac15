/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: snapshots of the machine in its disks. The names of commands and what they print are QEMU's. */
#include <time.h>
#include "block/image_text.h"
#include "vmm/monitor/hmp/hmp_int.h"
#include "vmm/snapshot/snapshot_job.h"

typedef Job *SnapshotStart(const SnapshotJobConfig *config, GError **error);

/* Starts the job for all disks and waits for it, without the operation lock. */
static coroutine_fn RUNS_IN_MAIN void hmp_snapshot_run(HmpCall *call, const char *tag,
                                                       SnapshotStart *start)
{
    g_autoptr(GError) error = NULL;
    vm_operation_begin(&call->vm->run);
    g_auto(GStrv) names = snapshot_disks_all();
    g_autofree char *id = hmp_job_id(call->command->name);
    const SnapshotJobConfig config = {
        .vm = call->vm,
        .id = id,
        .tag = tag,
        .names = (const char *const *)names,
        .replaces = true,
        .dismissed = true,
    };
    Job *job = start(&config, &error);
    if (job != NULL) {
        job_ref(job);
    }
    vm_operation_end(&call->vm->run);
    g_autofree char *why = job != NULL ? hmp_co_job_end(job) : g_strdup(error->message);
    if (why != NULL) {
        hmp_printf(call, "Error: %s\n", why);
    }
}

/* "vm-20261130120000" */
static char *hmp_snapshot_new_tag(void)
{
    char text[64];
    time_t now = time(NULL);
    struct tm tm = {0};
    localtime_r(&now, &tm);
    strftime(text, sizeof(text), "vm-%Y%m%d%H%M%S", &tm);
    return g_strdup(text);
}

static void hmp_savevm(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    const char *name = qmp_arg_str(args, "name");
    g_autofree char *tag = name != NULL ? g_strdup(name) : hmp_snapshot_new_tag();
    hmp_snapshot_run(call, tag, snapshot_save_start);
}

static void hmp_loadvm(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    hmp_snapshot_run(call, qmp_arg_str(args, "name"), snapshot_load_start);
}

static void hmp_delvm(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    hmp_snapshot_run(call, qmp_arg_str(args, "name"), snapshot_delete_start);
}

/* ---- info snapshots ---- */

/* Whether the snapshot can be loaded: it is the newest one of the machine with its name. */
static RUNS_IN_MAIN bool hmp_snapshot_loads(SnapshotDisks *d, unsigned disk, const char *tag,
                                            const char *id)
{
    g_auto(GStrv) ids = snapshot_disks_find_set(d, tag, NULL);
    d->state = NULL; /* chosen anew for each */
    return ids != NULL && strcmp(ids[disk], id) == 0;
}

/* Appends the snapshots of a disk that can be loaded and have the state there, or those that cannot be loaded. */
static RUNS_IN_MAIN void hmp_take_snapshots(GArray *rows, SnapshotDisks *d, unsigned disk,
                                            bool loads)
{
    const BlockImageInfo *image = block_node_image_info(d->nodes[disk]);
    for (unsigned i = 0; image != NULL && i < image->snapshot_count; i++) {
        BlockSnapshotInfo s = image->snapshots[i];
        if (hmp_snapshot_loads(d, disk, s.name, s.id) == loads && (!loads || s.vm_state_size > 0)) {
            if (loads) { /* each disk has another one */
                s.id = (char *)(uintptr_t) "--";
            }
            g_array_append_val(rows, s);
        }
    }
}

static RUNS_IN_MAIN void hmp_print_rows(HmpCall *call, const GArray *rows)
{
    BlockImageInfo shown = {.snapshots = (BlockSnapshotInfo *)(void *)rows->data,
                            .snapshot_count = rows->len};
    block_image_append_snapshot_table(call->out, &shown);
}

static RUNS_IN_MAIN void hmp_print_disks(HmpCall *call, SnapshotDisks *d)
{
    g_autoptr(GArray) rows = g_array_new(false, false, sizeof(BlockSnapshotInfo));
    for (unsigned i = 0; i < d->count; i++) {
        hmp_take_snapshots(rows, d, i, true);
    }
    if (rows->len > 0) {
        hmp_printf(call, "List of snapshots present on all disks:\n");
        hmp_print_rows(call, rows);
    } else {
        hmp_printf(call, "There is no suitable snapshot available\n");
    }
    for (unsigned i = 0; i < d->count; i++) {
        g_array_set_size(rows, 0);
        hmp_take_snapshots(rows, d, i, false);
        if (rows->len > 0) {
            hmp_printf(call, "\nList of partial (non-loadable) snapshots on '%s':\n",
                       block_node_name(d->nodes[i]));
            hmp_print_rows(call, rows);
        }
    }
}

static void hmp_info_snapshots(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    vm_operation_begin(&call->vm->run);
    g_auto(GStrv) names = snapshot_disks_all();
    g_autofree SnapshotDisks *d = snapshot_disks_find((const char *const *)names, NULL, &error);
    if (d == NULL) {
        hmp_error(call, error);
    } else {
        hmp_print_disks(call, d);
    }
    vm_operation_end(&call->vm->run);
}

/* clang-format off */
const HmpCommand hmp_snapshot_commands[] = {
    {"savevm", NULL, HMP_PARAMS(HMP_PARAM("name", WORD, .optional = true)),
     "save the machine in its disks; the same name replaces", .run = hmp_savevm},
    {"loadvm", NULL, HMP_PARAMS(HMP_PARAM("name", WORD)),
     "make machine and disks as savevm has saved them", .run = hmp_loadvm},
    {"delvm", NULL, HMP_PARAMS(HMP_PARAM("name", WORD)), "delete what savevm has saved",
     .run = hmp_delvm},
    {"info snapshots", NULL, NULL, "what savevm has saved in the disks", .run = hmp_info_snapshots},
    {0},
};
/* clang-format on */
