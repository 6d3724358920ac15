/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/snapshot_job_int.h"

void snapshot_job_init(SnapshotJob *j, const SnapshotJobConfig *config)
{
    *j = (SnapshotJob){.vm = config->vm,
                       .tag = g_strdup(config->tag),
                       .state = g_strdup(config->state),
                       .names = g_strdupv((char **)(uintptr_t)config->names)};
}

void snapshot_job_clear(SnapshotJob *j)
{
    g_free(j->tag);
    g_free(j->state);
    g_strfreev(j->names);
}

SnapshotDisks *snapshot_job_disks(const SnapshotJob *j, GError **error)
{
    if (j->tag[0] == '\0') {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "The name of the snapshot is empty");
        return NULL;
    }
    return snapshot_disks_find((const char *const *)j->names, j->state, error);
}

bool snapshot_co_operate(Vm *vm, BlockNode *n, const BlockSnapshotOp *op, GError **error)
{
    int ret;
    BlockSnapshotRun *run = block_node_co_snapshot_begin(n, op, &ret, error);
    if (run == NULL) {
        return false;
    }
    vm_operation_end(&vm->run);
    block_snapshot_co_run(run);
    vm_operation_begin(&vm->run);
    return block_snapshot_co_end(run, error) == 0;
}

Job *snapshot_job_new(const JobDriver *driver, const SnapshotJobConfig *config, void *state,
                      GError **error)
{
    JobConfig job_config = {
        .id = config->id, .home = config->vm->ctx, .manual_dismiss = !config->dismissed};
    Job *job = job_new(driver, &job_config, state, error);
    if (job != NULL) {
        job_start(job);
    }
    return job;
}
