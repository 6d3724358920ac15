/* SPDX-License-Identifier: Apache-2.0 */
/* The job snapshot-delete (snapshot_job.h). */
#include <errno.h>
#include "vmm/snapshot/snapshot_job_int.h"

bool snapshot_co_delete_one(Vm *vm, const char *node, const char *id, GError **error)
{
    const BlockSnapshotOp op = {.kind = BLOCK_SNAPSHOT_DELETE, .id = id};
    vm_operation_begin(&vm->run);
    BlockNode *n = block_node_find(node);
    if (n == NULL) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "No block device node '%s'", node);
    }
    bool ok = n != NULL && snapshot_co_operate(vm, n, &op, error);
    vm_operation_end(&vm->run);
    return ok;
}

/* Deletes the snapshots with the tag in one image, which may have several. */
static coroutine_fn RUNS_IN_MAIN bool delete_all_in(const SnapshotJob *j, const char *node,
                                                    GError **error)
{
    for (;;) {
        BlockNode *n = block_node_find(node);
        const BlockSnapshotInfo *info = n != NULL ? snapshot_disk_has(n, j->tag) : NULL;
        if (info == NULL) {
            return true;
        }
        g_autofree char *id = g_strdup(info->id);
        if (!snapshot_co_delete_one(j->vm, node, id, error)) {
            g_prefix_error(error, "Could not delete snapshot '%s' on '%s': ", j->tag, node);
            return false;
        }
    }
}

/* Whether the snapshot with the tag in this node, if there is one, has a machine's state. */
static RUNS_IN_MAIN bool delete_has_state(const char *node, const char *tag)
{
    BlockNode *n = block_node_find(node);
    const BlockSnapshotInfo *info = n != NULL ? snapshot_disk_has(n, tag) : NULL;
    return info != NULL && info->vm_state_size > 0;
}

/* Images with a state first. */
static int delete_run(Job *job, GError **error)
{
    enter_main();
    enter_coroutine();
    const SnapshotJob *j = job_state(job);
    unsigned count = g_strv_length(j->names);
    g_autofree bool *with_state = g_new0(bool, count);
    for (unsigned i = 0; i < count; i++) {
        with_state[i] = delete_has_state(j->names[i], j->tag);
    }
    for (unsigned i = 0; i < 2 * count; i++) {
        if (!job_co_pause_point(job)) {
            return -ECANCELED;
        }
        if (with_state[i % count] == (i < count) && !delete_all_in(j, j->names[i % count], error)) {
            return -EIO;
        }
    }
    return 0;
}

static void delete_free(void *state)
{
    snapshot_job_clear(state);
    g_free(state);
}

static const JobDriver snapshot_delete_driver = {
    .type = "snapshot-delete", .co_run = delete_run, .free = delete_free};

Job *snapshot_delete_start(const SnapshotJobConfig *config, GError **error)
{
    SnapshotJob *j = g_new0(SnapshotJob, 1);
    snapshot_job_init(j, config);
    g_autofree SnapshotDisks *d = snapshot_job_disks(j, error);
    Job *job = d != NULL ? snapshot_job_new(&snapshot_delete_driver, config, j, error) : NULL;
    if (job == NULL) {
        delete_free(j);
    }
    return job;
}
