/* SPDX-License-Identifier: Apache-2.0 */
/* The job snapshot-load, and -loadvm (snapshot_job.h). */
#include <errno.h>
#include <string.h>
#include "util/log.h"
#include "util/loop/sched_point.h"
#include "vmm/snapshot/machine_outside.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/snapshot_job_int.h"
#include "vmm/snapshot/state_load.h"

/* A set of snapshots, and its state. */
typedef struct SnapshotLoad {
    SnapshotJob common; /* first: snapshot_job_int.h */
    char **ids;         /* in each of `names`, which are those of different nodes */
    unsigned state;     /* which of them has the state */
    BlockNode *node;    /* of the state area; owned */
    StateLoad load;
    BlockSnapshotRun **runs; /* of the disks that are prepared */
    bool changing;           /* a cancel comes too late */
} SnapshotLoad;

/* ---- under the operation lock ---- */

static coroutine_fn RUNS_IN_MAIN void load_close(SnapshotLoad *l)
{
    if (l->load.blk != NULL) {
        blk_co_free(g_steal_pointer(&l->load.blk));
    }
    if (l->node != NULL) {
        block_co_unref(g_steal_pointer(&l->node));
    }
}

static coroutine_fn RUNS_IN_MAIN bool load_open_state(SnapshotLoad *l, const SnapshotDisks *d,
                                                      GError **error)
{
    while (d->nodes[l->state] != d->state) {
        l->state++;
    }
    l->node = block_node_co_open_snapshot_state(d->state, l->ids[l->state], NULL, error);
    if (l->node == NULL) {
        return false;
    }
    l->load.blk = blk_co_new_for("the load of a snapshot", NULL, l->node, false, error);
    return l->load.blk != NULL;
}

/* Finds the set, keeps the names of the nodes once each, and opens the state. */
static coroutine_fn RUNS_IN_MAIN bool load_open(SnapshotLoad *l, GError **error)
{
    g_autofree SnapshotDisks *d = snapshot_job_disks(&l->common, error);
    if (d == NULL || !machine_outside_check(l->common.vm->machine.devices, error)) {
        return false;
    }
    l->ids = snapshot_disks_find_set(d, l->common.tag, error);
    if (l->ids == NULL) {
        return false;
    }
    g_strfreev(l->common.names);
    l->common.names = g_new0(char *, d->count + 1);
    for (unsigned i = 0; i < d->count; i++) {
        l->common.names[i] = g_strdup(block_node_name(d->nodes[i]));
    }
    l->load.ram = &l->common.vm->machine.ram;
    l->load.fd = -1;
    return load_open_state(l, d, error);
}

/* What is read before anything is changed. */
static coroutine_fn RUNS_IN_MAIN bool load_read_state(SnapshotLoad *l, GError **error)
{
    return state_load_co_stream(&l->load, error) && state_load_co_check_memory(&l->load, error);
}

/* Whether each disk still has the snapshot of the save whose state was read, which stays while its area is open. */
static RUNS_IN_MAIN bool load_check_set(const SnapshotLoad *l, GError **error)
{
    g_autofree SnapshotDisks *d = snapshot_job_disks(&l->common, error);
    if (d == NULL) {
        return false;
    }
    g_auto(GStrv) ids = snapshot_disks_set_of(d, l->state, l->ids[l->state]);
    if (ids == NULL || !g_strv_equal((const char *const *)ids, (const char *const *)l->ids)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "Snapshot '%s' has changed while it was being loaded", l->common.tag);
        return false;
    }
    return true;
}

/* Begins all loads, without a change: nothing can be found to refuse half-way. */
static coroutine_fn RUNS_IN_MAIN bool load_prepare_disks(SnapshotLoad *l, GError **error)
{
    l->runs = g_new0(BlockSnapshotRun *, g_strv_length(l->common.names));
    for (unsigned i = 0; l->common.names[i] != NULL; i++) {
        BlockNode *n = block_node_find(l->common.names[i]);
        if (n == NULL) {
            g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION, "No block device node '%s'",
                        l->common.names[i]);
            return false;
        }
        l->runs[i] = block_node_co_snapshot_prepare_apply(n, l->ids[i], error);
        if (l->runs[i] == NULL) {
            g_prefix_error(error, "Could not load snapshot '%s' on '%s': ", l->common.tag,
                           l->common.names[i]);
            return false;
        }
    }
    return true;
}

static coroutine_fn RUNS_IN_MAIN void load_end_disks(SnapshotLoad *l)
{
    for (unsigned i = 0; l->runs != NULL && l->common.names[i] != NULL; i++) {
        if (l->runs[i] != NULL) {
            block_snapshot_co_end(l->runs[i], NULL);
        }
    }
    g_clear_pointer(&l->runs, g_free);
}

static coroutine_fn RUNS_IN_MAIN bool load_apply_disks(SnapshotLoad *l, GError **error)
{
    for (unsigned i = 0; l->common.names[i] != NULL; i++) {
        if (block_snapshot_co_apply(g_steal_pointer(&l->runs[i]), error) < 0) {
            g_prefix_error(error, "Could not load snapshot '%s' on '%s': ", l->common.tag,
                           l->common.names[i]);
            return false;
        }
    }
    return true;
}

/* With all prepared and the VM stopped. What the guest has asked for until then is dropped with it. */
static coroutine_fn RUNS_IN_MAIN bool load_change(SnapshotLoad *l, MachineStateLoad *load,
                                                  const VmStopped *token, GError **error)
{
    Vm *vm = l->common.vm;
    VmPending dropped;
    if (!vm_take_pending(vm, &dropped, error)) {
        return false;
    }
    l->changing = true;
    SP("snapshot.load", vm);
    if (load_apply_disks(l, error) && state_load_co_memory(&l->load, error) &&
        machine_state_co_apply(vm, load, token, error)) {
        run_state_drop_reset(&vm->run, token);
        return true;
    }
    log_error("snapshot-load: the machine has parts of two states: it stays stopped until a reset");
    run_state_set_loaded(&vm->run, token, STOP_INTERNAL_ERROR);
    vm->run.run_requested = false;
    return false;
}

/* Stops the VM, for @reason. The caller lets it run again. */
static coroutine_fn RUNS_IN_MAIN bool load_apply(SnapshotLoad *l, StopReason reason, GError **error)
{
    Vm *vm = l->common.vm;
    if (snapshot_save_is_running()) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "the machine is being saved: wait for the end of that job, or cancel it");
        return false;
    }
    g_autoptr(MachineStateLoad) load = machine_state_stage(vm, l->load.stream, error);
    bool ok = load != NULL && load_check_set(l, error) && load_prepare_disks(l, error);
    if (ok) {
        VmStopped *token = co_vm_stop(&vm->run, reason);
        VM_ANNOUNCE(vm, memory_used, true);
        ok = load_change(l, load, token, error);
        VM_ANNOUNCE(vm, memory_used, false);
        vm_stopped_put(&vm->run, token);
    }
    load_end_disks(l);
    return ok;
}

/* ---- the job ---- */

static coroutine_fn RUNS_IN_MAIN bool load_read(SnapshotLoad *l, GError **error)
{
    vm_operation_begin(&l->common.vm->run);
    bool ok = load_open(l, error);
    vm_operation_end(&l->common.vm->run);
    return ok && load_read_state(l, error);
}

static int load_run(Job *job, GError **error)
{
    enter_main();
    enter_coroutine();
    SnapshotLoad *l = job_state(job);
    bool ok = load_read(l, error) && job_co_pause_point(job);
    vm_operation_begin(&l->common.vm->run);
    ok = ok && !job_is_cancelled(job) && load_apply(l, STOP_RESTORE_VM, error);
    load_close(l);
    co_vm_resume(&l->common.vm->run);
    vm_operation_end(&l->common.vm->run);
    return ok ? 0 : job_is_cancelled(job) ? -ECANCELED : -EIO;
}

static bool load_cancel(Job *job, bool force)
{
    enter_main();
    return !((SnapshotLoad *)job_state(job))->changing;
}

static void load_free(void *state)
{
    SnapshotLoad *l = state;
    g_clear_pointer(&l->load.stream, g_byte_array_unref);
    g_strfreev(l->ids);
    snapshot_job_clear(&l->common);
    g_free(l);
}

static const JobDriver snapshot_load_driver = {
    .type = "snapshot-load", .co_run = load_run, .cancel = load_cancel, .free = load_free};

Job *snapshot_load_start(const SnapshotJobConfig *config, GError **error)
{
    SnapshotLoad *l = g_new0(SnapshotLoad, 1);
    snapshot_job_init(&l->common, config);
    g_autofree SnapshotDisks *d = snapshot_job_disks(&l->common, error);
    g_auto(GStrv) ids = d != NULL ? snapshot_disks_find_set(d, config->tag, error) : NULL;
    Job *job = ids != NULL ? snapshot_job_new(&snapshot_load_driver, config, l, error) : NULL;
    if (job == NULL) {
        load_free(l);
    }
    return job;
}

/* ---- -loadvm ---- */

bool snapshot_load_co_at_start(Vm *vm, const char *tag, GError **error)
{
    g_auto(GStrv) names = snapshot_disks_all();
    const SnapshotJobConfig config = {.vm = vm, .tag = tag, .names = (const char *const *)names};
    SnapshotLoad *l = g_new0(SnapshotLoad, 1);
    snapshot_job_init(&l->common, &config);
    bool ok = load_open(l, error) && load_read_state(l, error) && load_apply(l, STOP_PAUSED, error);
    load_close(l);
    load_free(l);
    if (!ok) {
        g_prefix_error(error, "-loadvm %s: ", tag);
    }
    return ok;
}
