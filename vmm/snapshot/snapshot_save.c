/* SPDX-License-Identifier: Apache-2.0 */
/* The job snapshot-save (snapshot_job.h has its steps). */
#include <errno.h>
#include <string.h>
#include "hw/core/vm_clock.h"
#include "migration/ram/ram_blank.h"
#include "util/log.h"
#include "vmm/snapshot/live_ram.h"
#include "vmm/snapshot/machine_outside.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/snapshot_job.h"
#include "vmm/snapshot/snapshot_job_int.h"

typedef struct SnapshotSave {
    SnapshotJob common; /* first: snapshot_job_int.h */
    bool replaces;
    SnapshotOlder *older;
    Job *job; /* borrowed; of the step under way */
    unsigned count;
    unsigned state;          /* index of the run of the image with the state */
    BlockSnapshotRun **runs; /* from PREPARE to END; owned */
    StateTarget *target;     /* from PREPARE until memory is written */
    LiveRam live;
    FrozenRam frozen;
    bool freezes; /* memory is to be frozen; else it is copied in passes */
    bool is_frozen;
    GByteArray *stream;
    bool storing; /* the snapshot tables are being written */
    SnapshotSaveInfo info;
} SnapshotSave;

static RUNS_IN_MAIN bool save_is_cancelled(const SnapshotSave *s, GError **error)
{
    bool cancelled = job_is_cancelled(s->job);
    if (cancelled) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INTR, "cancelled");
    }
    return cancelled;
}

/* ---- PREPARE ---- */

static RUNS_IN_MAIN bool save_check_tag(const SnapshotSave *s, const SnapshotDisks *d,
                                        GError **error)
{
    if (s->replaces || snapshot_disks_having(d, s->common.tag) == 0) {
        return true;
    }
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_OPTION,
                "Snapshot '%s' already exists in one or more devices", s->common.tag);
    return false;
}

/* Begins the snapshots. Those that are begun when one fails are undone by the caller. */
static coroutine_fn RUNS_IN_MAIN bool save_prepare_disks(SnapshotSave *s, const SnapshotDisks *d,
                                                         uint64_t state_bytes, GError **error)
{
    BlockSnapshotInfo info = block_snapshot_info_now(s->common.tag);
    info.vm_clock_ns =
        (uint64_t)vm_clock_now_ns(); /* all have the same times: snapshot_disks_find_set() */
    s->runs = g_new0(BlockSnapshotRun *, d->count);
    snapshot_disks_warn_of_temporary(d, &s->common.vm->backends, s->common.tag);
    for (unsigned i = 0; i < d->count; i++) {
        snapshot_older_note(s->older, d->nodes[i]);
        info.vm_state_size = d->nodes[i] == d->state ? state_bytes : 0;
        s->state = d->nodes[i] == d->state ? i : s->state;
        s->runs[i] = block_node_co_snapshot_prepare(d->nodes[i], &info, error);
        if (s->runs[i] == NULL) {
            g_prefix_error(error, "Failed to create snapshot '%s' on device '%s': ", s->common.tag,
                           block_node_name(d->nodes[i]));
            return false;
        }
        s->count++;
    }
    return true;
}

/* A RamImageReadFn, which counts the job's progress. */
static int save_read(void *opaque, unsigned block, uint64_t offset, void *buf, size_t len)
{
    enter_worker();
    const SnapshotSave *s = opaque;
    job_progress_add(s->job, len);
    if (s->is_frozen) {
        return frozen_ram_read(&s->frozen, block, offset, buf, len);
    }
    ram_copy_live(buf, s->common.vm->machine.ram.blocks[block].host + offset, len);
    return 0;
}

/* A RamImageBlankFn. What is not read makes progress, too. */
static int save_blank(void *opaque, unsigned block, uint64_t offset, uint64_t pages, uint64_t *bits)
{
    enter_worker();
    const SnapshotSave *s = opaque;
    int ret = 0;
    if (s->is_frozen) {
        ret = frozen_ram_blank(&s->frozen, block, offset, pages, bits);
    } else {
        ram_blank_find(&s->common.vm->machine.ram.blocks[block], 0, offset / GUEST_RAM_PAGE, pages,
                       bits);
    }
    if (s->is_frozen || s->live.passes <= 1) {
        job_progress_add(s->job, ram_blank_count(bits, pages) * GUEST_RAM_PAGE);
    }
    return ret;
}

static bool save_urgent(void *opaque, unsigned *block, uint64_t *offset)
{
    const SnapshotSave *s = opaque;
    return s->is_frozen && frozen_ram_urgent(&s->frozen, block, offset);
}

static coroutine_fn RUNS_IN_MAIN bool save_open_target(SnapshotSave *s, GError **error)
{
    Vm *vm = s->common.vm;
    BlockNode *node = block_snapshot_co_open_state(s->runs[s->state], error);
    if (node == NULL) {
        return false;
    }
    s->target = state_target_new_on(node, s->common.tag, &vm->machine.ram, vm->ctx, error);
    block_co_unref(node);
    if (s->target == NULL) {
        return false;
    }
    state_target_set_source(s->target, save_read, save_blank, s);
    state_target_set_urgent(s->target, save_urgent);
    s->live = (LiveRam){.vm = vm, .target = s->target};
    job_progress_set_total(s->job, state_target_pages(s->target) * GUEST_RAM_PAGE);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool save_prepare_locked(SnapshotSave *s, GError **error)
{
    uint64_t bytes;
    g_autofree SnapshotDisks *d = snapshot_job_disks(&s->common, error);
    if (d != NULL && d->state == NULL) {
        d->state = snapshot_disks_largest(d);
    }
    return d != NULL && machine_outside_check(s->common.vm->machine.devices, error) &&
           save_check_tag(s, d, error) &&
           state_target_plan(&s->common.vm->machine.ram, &bytes, error) &&
           save_prepare_disks(s, d, bytes, error) && save_open_target(s, error);
}

static coroutine_fn RUNS_IN_MAIN bool save_prepare(SnapshotSave *s, GError **error)
{
    vm_operation_begin(&s->common.vm->run);
    bool ok = !save_is_cancelled(s, error) && save_prepare_locked(s, error);
    vm_operation_end(&s->common.vm->run);
    return ok && state_target_co_open(s->target, error);
}

/* ---- LIVE, FREEZE ---- */

/* Memory is not frozen. Takes @why. */
static RUNS_IN_MAIN void save_note_passes(SnapshotSave *s, GError *why)
{
    g_free(s->info.why_passes);
    s->info.why_passes = g_strdup(why->message);
    g_error_free(why);
    s->freezes = false;
}

/* False without @error: it cannot be frozen, and `freezes` is false now. */
static coroutine_fn RUNS_IN_MAIN bool save_freeze_memory(SnapshotSave *s, const VmStopped *token,
                                                         GError **error)
{
    GError *why = NULL;
    if (!s->freezes) {
        s->info.capture = s->live.logging ? "passes" : "stopped";
        return live_ram_co_copy_last(&s->live, token, error);
    }
    if (!frozen_ram_co_freeze(&s->frozen, token, &why)) {
        save_note_passes(s, why);
        return false;
    }
    s->is_frozen = true;
    s->info.capture = frozen_ram_ways[s->frozen.way];
    return true;
}

/* All disks at the instant of memory. */
static coroutine_fn RUNS_IN_MAIN bool save_switch_disks(SnapshotSave *s, GError **error)
{
    bool ok = true;
    g_autofree BlockNode **nodes = g_new(BlockNode *, s->count);
    for (unsigned i = 0; i < s->count; i++) {
        nodes[i] = block_snapshot_node(s->runs[i]);
    }
    BlockSection *section = block_nodes_co_drained_begin(nodes, s->count);
    for (unsigned i = 0; i < s->count && ok; i++) {
        ok = block_snapshot_co_switch(s->runs[i], error);
    }
    block_nodes_co_drained_end(section);
    return ok;
}

/* With the VM stopped. Saving vCPUs may complete an access of theirs and write memory, so memory comes after. */
static coroutine_fn RUNS_IN_MAIN bool save_freeze_stopped(SnapshotSave *s, const VmStopped *token,
                                                          GError **error)
{
    g_clear_pointer(&s->stream, g_byte_array_unref);
    if (!machine_outside_check(s->common.vm->machine.devices, error)) {
        return false; /* it has come since PREPARE */
    }
    s->stream = machine_state_co_save(s->common.vm, token, error);
    return s->stream != NULL && save_freeze_memory(s, token, error) && save_switch_disks(s, error);
}

static coroutine_fn RUNS_IN_MAIN bool save_freeze(SnapshotSave *s, GError **error)
{
    RunState *rs = &s->common.vm->run;
    bool ok = false;
    vm_operation_begin(rs);
    if (!save_is_cancelled(s, error)) {
        int64_t begin_ns = aio_now_ns(s->common.vm->ctx);
        VmStopped *token = co_vm_stop(rs, STOP_SAVE_VM);
        VM_ANNOUNCE(s->common.vm, memory_used, true);
        ok = save_freeze_stopped(s, token, error);
        VM_ANNOUNCE(s->common.vm, memory_used, false);
        live_ram_co_stop_log(&s->live);
        vm_stopped_put(rs, token);
        co_vm_resume(rs);
        s->info.pause_ns = aio_now_ns(s->common.vm->ctx) - begin_ns;
    }
    vm_operation_end(rs);
    return ok;
}

static coroutine_fn RUNS_IN_MAIN bool save_copy_live(SnapshotSave *s, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool busy;
    if (live_ram_co_start_log(&s->live, &busy, &why)) {
        return live_ram_co_copy(&s->live, error);
    }
    if (busy) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    log_warn("snapshot-save: the VM is stopped for the whole save: %s", why->message);
    return true;
}

/* What was prepared is of no use any more; the VM is not stopped. */
static coroutine_fn RUNS_IN_MAIN bool save_in_passes(SnapshotSave *s, bool prepared, GError **error)
{
    frozen_ram_co_free(&s->frozen);
    if (save_is_cancelled(s, error)) {
        return false;
    }
    if (prepared) {
        log_warn("snapshot-save: memory is copied in passes, and the VM is stopped for the last "
                 "one: %s",
                 s->info.why_passes);
    }
    return save_copy_live(s, error) && save_freeze(s, error);
}

static coroutine_fn RUNS_IN_MAIN bool save_live_and_freeze(SnapshotSave *s, GError **error)
{
    GError *why = NULL, *failure = NULL;
    bool prepared = frozen_ram_co_prepare(&s->frozen, &why);
    s->freezes = prepared;
    if (!prepared) {
        save_note_passes(s, why);
    }
    bool ok = prepared && save_freeze(s, &failure);
    if (!ok && failure == NULL) { /* not frozen */
        ok = save_in_passes(s, prepared, &failure);
    }
    if (s->live.logging) { /* a pass has failed */
        vm_operation_begin(&s->common.vm->run);
        live_ram_co_stop_log(&s->live);
        vm_operation_end(&s->common.vm->run);
    }
    if (failure != NULL) {
        g_propagate_error(error, failure);
    }
    return ok;
}

/* ---- MEMORY ---- */

/* Nothing reads the frozen memory any more when the target is closed. */
static coroutine_fn RUNS_IN_MAIN void save_leave_target(SnapshotSave *s)
{
    if (s->target != NULL) {
        s->info.bytes = state_target_bytes(s->target);
        state_target_co_leave(g_steal_pointer(&s->target));
    }
    s->is_frozen = false;
    frozen_ram_co_free(&s->frozen);
}

static coroutine_fn RUNS_IN_MAIN bool save_memory(SnapshotSave *s, GError **error)
{
    GError *failure = NULL;
    bool ok = (!s->is_frozen || state_target_co_pass(s->target, false, &failure)) &&
              state_target_co_complete(s->target, s->stream, &failure);
    if (!ok) {
        const char *why = frozen_ram_failure(&s->frozen);
        g_propagate_prefixed_error(error, failure, "%s%s", why != NULL ? why : "",
                                   why != NULL ? ": " : "");
    }
    save_leave_target(s);
    return ok;
}

/* ---- STORE, END ---- */

static coroutine_fn RUNS_IN_MAIN bool save_end_one(SnapshotSave *s, unsigned i, GError **error)
{
    GError *failure = NULL;
    BlockSnapshotRun *run = g_steal_pointer(&s->runs[i]);
    vm_operation_begin(&s->common.vm->run);
    BlockNode *n = block_snapshot_node(run);
    g_autofree char *name = g_strdup(block_node_name(n));
    bool ok = block_snapshot_co_end(run, &failure) == 0;
    vm_operation_end(&s->common.vm->run);
    if (!ok) {
        g_propagate_prefixed_error(
            error, failure, "Failed to create snapshot '%s' on device '%s': ", s->common.tag, name);
    }
    return ok;
}

/* The image with the state comes last. */
static coroutine_fn RUNS_IN_MAIN bool save_store(SnapshotSave *s, GError **error)
{
    bool ok = true;
    if (save_is_cancelled(s, error)) {
        return false;
    }
    s->storing = true;
    for (unsigned i = 0; i < s->count && ok; i++) {
        unsigned at = (s->state + 1 + i) % s->count;
        block_snapshot_co_run(s->runs[at]);
        ok = save_end_one(s, at, error);
    }
    return ok;
}

/* ---- the job ---- */

static coroutine_fn RUNS_IN_MAIN bool save_run_steps(SnapshotSave *s, GError **error)
{
    if (!save_prepare(s, error) || !save_live_and_freeze(s, error)) {
        return false;
    }
    for (unsigned i = 0; i < s->count; i++) {
        block_snapshot_co_raise(s->runs[i]);
    }
    return save_memory(s, error) && save_store(s, error);
}

/* The tables have what they had before. Snapshots that were stored when a later one failed are deleted. */
static coroutine_fn RUNS_IN_MAIN void save_undo(SnapshotSave *s)
{
    save_leave_target(s);
    for (unsigned i = 0; i < s->count; i++) {
        if (s->runs[i] != NULL) {
            block_snapshot_cancel(s->runs[i]);
            block_snapshot_co_run(s->runs[i]);
            save_end_one(s, i, NULL);
        }
    }
    for (unsigned i = 0; i < g_strv_length(s->common.names) && s->storing; i++) {
        snapshot_older_co_delete_others(s->older, s->common.vm, s->common.names[i]);
    }
}

static unsigned saves_running; /* main */

bool snapshot_save_is_running(void)
{
    return saves_running > 0;
}

static int save_run(Job *job, GError **error)
{
    enter_main();
    enter_coroutine();
    SnapshotSave *s = job_state(job);
    s->job = job;
    saves_running++;
    bool ok = job_co_pause_point(job) && save_run_steps(s, error);
    if (ok) {
        snapshot_older_co_delete(s->older, s->common.vm);
    } else {
        save_undo(s);
    }
    saves_running--;
    return ok ? 0 : job_is_cancelled(job) ? -ECANCELED : -EIO;
}

static bool save_cancel(Job *job, bool force)
{
    enter_main();
    SnapshotSave *s = job_state(job);
    if (s->storing) {
        return false;
    }
    if (s->target != NULL) {
        state_target_cancel(s->target);
    }
    frozen_ram_cancel(&s->frozen); /* at once, also while the file hangs */
    return true;
}

static void save_free(void *state)
{
    SnapshotSave *s = state;
    g_clear_pointer(&s->stream, g_byte_array_unref);
    g_free(s->info.why_passes);
    g_free(s->runs);
    snapshot_older_free(s->older);
    snapshot_job_clear(&s->common);
    g_free(s);
}

static const JobDriver snapshot_save_driver = {
    .type = "snapshot-save",
    .co_run = save_run,
    .cancel = save_cancel,
    .free = save_free,
};

const SnapshotSaveInfo *snapshot_save_info(const Job *job)
{
    return job_driver(job) == &snapshot_save_driver ? &((SnapshotSave *)job_state(job))->info
                                                    : NULL;
}

Job *snapshot_save_start(const SnapshotJobConfig *config, GError **error)
{
    SnapshotSave *s = g_new0(SnapshotSave, 1);
    snapshot_job_init(&s->common, config);
    s->replaces = config->replaces;
    s->frozen = (FrozenRam){.vm = config->vm, .way = config->capture};
    s->older = snapshot_older_new(config->tag);
    uint64_t bytes;
    g_autofree SnapshotDisks *d = snapshot_job_disks(&s->common, error);
    bool ok = d != NULL && save_check_tag(s, d, error) &&
              state_target_plan(&config->vm->machine.ram, &bytes, error);
    Job *job = ok ? snapshot_job_new(&snapshot_save_driver, config, s, error) : NULL;
    if (job == NULL) {
        save_free(s);
    }
    return job;
}
