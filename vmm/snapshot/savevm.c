/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/savevm.h"

#include "util/log.h"
#include "vmm/snapshot/live_ram.h"
#include "vmm/snapshot/machine_disks.h"
#include "vmm/snapshot/machine_state.h"

#define SAVEVM_SETTLE_NS (INT64_C(100) * 1000000)

static struct Savevm {
    VmListener listener; /* ACTIVE */
    Vm *vm;              /* of the last save */
    SavevmState state;
    uint64_t number;     /* of the last save */
    StateTarget *target; /* ACTIVE; NULL: only stops the VM */
    LiveRam live;
    bool cancelled;
    bool owes_start; /* COMPLETED */
    GError *error;   /* FAILED */
    int64_t begin_ns, end_ns, pause_ns;
    uint64_t bytes;
    CoQueue ended; /* waits for the end of ACTIVE */
} savevm;

/* ---- the states ---- */

static const bool savevm_moves[SAVEVM_STATE_COUNT][SAVEVM_STATE_COUNT] = {
    [SAVEVM_NONE] = {[SAVEVM_ACTIVE] = true},
    [SAVEVM_ACTIVE] = {[SAVEVM_NONE] = true, [SAVEVM_COMPLETED] = true, [SAVEVM_FAILED] = true},
    [SAVEVM_COMPLETED] = {[SAVEVM_NONE] = true},
    [SAVEVM_FAILED] = {[SAVEVM_NONE] = true, [SAVEVM_ACTIVE] = true},
};

static RUNS_IN_MAIN void assert_savevm(void)
{
    const struct Savevm *s = &savevm;
    if (s->state != SAVEVM_ACTIVE && (s->target != NULL || s->live.logging || s->cancelled)) {
        bug_abort("invariants 1, 4: a save that is not active has a file, a log or a cancel");
    }
    if (s->owes_start && s->state != SAVEVM_COMPLETED) {
        bug_abort("invariant 5: a save that is not completed owes the VM a start");
    }
    if ((s->error != NULL) != (s->state == SAVEVM_FAILED)) {
        bug_abort("a save has an error and has not failed, or the reverse");
    }
}

static RUNS_IN_MAIN void savevm_move(SavevmState from, SavevmState to)
{
    if (savevm.state != from || !savevm_moves[from][to]) {
        bug_abort("a save moves from state %d to %d, and is in %d", from, to, savevm.state);
    }
    savevm.state = to;
    if (from == SAVEVM_FAILED) {
        g_clear_error(&savevm.error);
    }
    assert_savevm();
}

/* Takes @error. */
static RUNS_IN_MAIN void savevm_fail(GError *error)
{
    savevm.error = error;
    savevm_move(SAVEVM_ACTIVE, SAVEVM_FAILED);
}

SavevmInfo savevm_info(void)
{
    const struct Savevm *s = &savevm;
    bool active = s->state == SAVEVM_ACTIVE;
    return (SavevmInfo){
        .state = s->state,
        .error = s->error != NULL ? s->error->message : NULL,
        .bytes = s->target != NULL ? state_target_bytes(s->target) : s->bytes,
        .total_ns = (active ? aio_now_ns(s->vm->ctx) : s->end_ns) - s->begin_ns,
        .pause_ns = s->pause_ns,
        .passes = s->live.passes,
    };
}

static RUNS_IN_MAIN void savevm_cancel(void)
{
    if (savevm.state == SAVEVM_ACTIVE) {
        savevm.cancelled = true;
        if (savevm.target != NULL) {
            state_target_cancel(savevm.target);
        }
    }
}

static void savevm_vm_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    if (leaving) {
        savevm_cancel();
    }
}

/* The file that was made is removed before skiff is gone; one that hangs is given up (state_target_co_leave()). */
static void savevm_vm_leave(VmListener *l)
{
    enter_main();
    enter_coroutine();
    while (savevm.state == SAVEVM_ACTIVE) {
        co_queue_wait(&savevm.ended, "the end of a save");
    }
}

/* ---- saving ---- */

/* A party that writes RAM cannot log: the passes of a running guest are not possible. */
static coroutine_fn RUNS_IN_MAIN bool savevm_start_log(GError **error)
{
    g_autoptr(GError) why = NULL;
    bool busy;
    if (live_ram_co_start_log(&savevm.live, &busy, &why)) {
        return true;
    }
    if (busy) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    log_warn("savevm-start: the VM is stopped for the whole save: %s", why->message);
    return true;
}

/* With the VM stopped. Saving vCPUs may complete an access of theirs and write memory, so memory comes after. */
static coroutine_fn RUNS_IN_MAIN bool savevm_copy_stopped(const VmStopped *token, GError **error)
{
    g_autoptr(GByteArray) stream = machine_state_co_save(savevm.vm, token, error);
    return stream != NULL && live_ram_co_copy_last(&savevm.live, token, error) &&
           state_target_co_complete(savevm.target, stream, error);
}

/* Gives the file up; it is closed, unless that hangs and the save is cancelled. */
static coroutine_fn RUNS_IN_MAIN void savevm_leave_target(void)
{
    if (savevm.target != NULL) {
        savevm.bytes = state_target_bytes(savevm.target);
        state_target_co_leave(savevm.target);
        savevm.target = NULL;
    }
}

/* The save has its result; @error NULL: it is complete. Ends ACTIVE. */
static RUNS_IN_MAIN void savevm_finish(GError *error)
{
    bool cancelled = savevm.cancelled;
    savevm.cancelled = false;
    if (error == NULL) {
        savevm_move(SAVEVM_ACTIVE, SAVEVM_COMPLETED);
    } else if (cancelled) {
        g_error_free(error);
        savevm_move(SAVEVM_ACTIVE, SAVEVM_NONE);
    } else {
        log_warn("savevm-start: %s", error->message);
        savevm_fail(error);
    }
    vm_unlisten(savevm.vm, &savevm.listener);
    co_queue_wake_all(&savevm.ended);
}

/* The save has failed. No lock is held, since the file may take its time. Takes @error. */
static coroutine_fn RUNS_IN_MAIN void savevm_give_up(GError *error)
{
    savevm_leave_target();
    savevm.end_ns = aio_now_ns(savevm.vm->ctx);
    savevm_finish(error);
}

/* Stops the VM, and leaves it stopped if everything is written. */
static coroutine_fn RUNS_IN_MAIN void savevm_stop_and_complete(void)
{
    RunState *rs = &savevm.vm->run;
    GError *error = NULL;
    vm_operation_begin(rs);
    int64_t begin_ns = aio_now_ns(savevm.vm->ctx);
    VmStopped *token = co_vm_stop(rs, STOP_SAVE_VM);
    if (savevm.target != NULL && savevm_copy_stopped(token, &error)) {
        savevm_leave_target();
    }
    live_ram_co_stop_log(&savevm.live);
    vm_stopped_put(rs, token);
    savevm.end_ns = aio_now_ns(savevm.vm->ctx);
    savevm.pause_ns = savevm.end_ns - begin_ns;
    if (error == NULL) {
        savevm_finish(NULL);
        savevm.owes_start = rs->run_requested;
        rs->run_requested = false;
    }
    co_vm_resume(rs);
    vm_operation_end(rs);
    if (error != NULL) {
        savevm_give_up(error);
    }
}

static void savevm_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    GError *error = NULL;
    if (savevm.target != NULL && !savevm_start_log(&error)) {
        savevm_give_up(error);
        return;
    }
    if (!savevm.live.logging || live_ram_co_copy(&savevm.live, &error)) {
        savevm_stop_and_complete();
        return;
    }
    vm_operation_begin(&savevm.vm->run);
    live_ram_co_stop_log(&savevm.live);
    vm_operation_end(&savevm.vm->run);
    savevm_give_up(error);
}

/* ---- commands ---- */

static RUNS_IN_MAIN void savevm_begin(Vm *vm, StateTarget *target)
{
    savevm.vm = vm;
    savevm.listener = (VmListener){.ending = savevm_vm_ending, .co_leave = savevm_vm_leave};
    vm_listen(vm, &savevm.listener);
    co_queue_init(&savevm.ended);
    savevm.begin_ns = aio_now_ns(vm->ctx);
    savevm.pause_ns = 0;
    savevm.bytes = 0;
    savevm.target = target;
    savevm.live = (LiveRam){.vm = vm, .target = target};
    savevm.number++;
    savevm_move(savevm.state, SAVEVM_ACTIVE);
}

/* The state goes on only with disks that are as they are now. */
static RUNS_IN_MAIN void savevm_warn_of_disks(void)
{
    g_autofree char *names = machine_disks_temporary(&savevm.vm->backends);
    if (names != NULL) {
        log_warn(
            "savevm-start: what the guest has written to disk %s is in a temporary file, and is "
            "lost when skiff ends: a machine can go on from the state only with a copy of the "
            "disk (drive-backup) that is made before savevm-end",
            names);
    }
}

static coroutine_fn RUNS_IN_MAIN bool savevm_start(Vm *vm, const char *path, bool cached,
                                                   GError **error)
{
    if (savevm.state == SAVEVM_ACTIVE || savevm.state == SAVEVM_COMPLETED || vm->life.quitting) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
                    vm->life.quitting ? "skiff quits" : "VM snapshot already started");
        return false;
    }
    StateTarget *target = NULL;
    if (path != NULL && atomic_load(&vm->machine.ram.logging)) { /* by a rewind point */
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_EXIST,
                    "a rewind point is held: x-rewind-end gives it up");
        return false;
    }
    if (path != NULL) {
        target = state_target_new(path, &vm->machine.ram, vm->ctx, error);
        if (target == NULL) {
            return false;
        }
        if (cached) {
            state_target_keep_cached(target);
        }
    }
    savevm_begin(vm, target);
    GError *failure = NULL;
    if (target != NULL && !state_target_co_open(target, &failure)) {
        g_propagate_error(error, g_error_copy(failure));
        savevm_give_up(failure);
        return false;
    }
    if (target != NULL) {
        savevm_warn_of_disks();
    }
    co_start(vm->ctx, savevm_run, NULL);
    return true;
}

bool savevm_co_start(Vm *vm, const char *path, GError **error)
{
    return savevm_start(vm, path, false, error);
}

bool savevm_co_start_cached(Vm *vm, const char *path, GError **error)
{
    return savevm_start(vm, path, true, error);
}

void savevm_co_wait(void)
{
    while (savevm.state == SAVEVM_ACTIVE) {
        co_queue_wait(&savevm.ended, "the end of a save");
    }
}

bool savevm_co_end(Vm *vm, GError **error)
{
    int64_t deadline = aio_now_ns(vm->ctx) + SAVEVM_CANCEL_NS;
    if (savevm.state == SAVEVM_NONE) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT, "VM snapshot not started");
        return false;
    }
    savevm_cancel();
    uint64_t number = savevm.number;
    while (savevm.number == number && savevm.state == SAVEVM_ACTIVE &&
           co_queue_wait_until(&savevm.ended, "the end of a save", deadline)) {
    }
    if (savevm.number != number) {
        return true; /* that save has ended, and another user has begun the next */
    }
    if (savevm.state == SAVEVM_COMPLETED || savevm.state == SAVEVM_FAILED) {
        bool start = savevm.owes_start;
        savevm.owes_start = false;
        savevm_move(savevm.state, SAVEVM_NONE);
        if (start) {
            run_state_request_start(&vm->run);
            run_state_co_settle(&vm->run, SAVEVM_SETTLE_NS);
        }
    }
    return true;
}
