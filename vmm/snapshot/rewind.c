/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/rewind.h"

#include "migration/ram/ram_point.h"
#include "util/log.h"
#include "util/loop/sched_point.h"
#include "util/loop/worker.h"
#include "vmm/snapshot/machine_state.h"
#include "vmm/snapshot/rewind_disks.h"
#include "vmm/snapshot/rewind_int.h"

/* What is needed to go back. */
typedef struct RewindPoint {
    RamPoint *memory;
    MachineStateLoad *load;
    RewindDisks *disks;
    uint64_t changes; /* VmHotplug.changes */
} RewindPoint;

static WorkerLane rewind_lane; /* the stopped VM waits for it, not for other calls that hang */

static struct Rewind {
    RewindState state;
    VmListener listener;
    bool listening;
    RewindPoint point; /* HELD, REWINDING; in LOST it may have disks */
    RamPages dirty;    /* pages that differ from the copy, as far as they were taken from the log */
    bool logging;
    GError *error; /* LOST */
    uint64_t rewinds, pages;
    int64_t last_ns;
} rewinder;

/* ---- the states ---- */

static const bool rewind_moves[REWIND_STATE_COUNT][REWIND_STATE_COUNT] = {
    [REWIND_NONE] = {[REWIND_TAKING] = true},
    [REWIND_TAKING] = {[REWIND_NONE] = true, [REWIND_HELD] = true, [REWIND_LOST] = true},
    [REWIND_HELD] = {[REWIND_TAKING] = true,
                     [REWIND_REWINDING] = true,
                     [REWIND_NONE] = true,
                     [REWIND_LOST] = true},
    [REWIND_REWINDING] = {[REWIND_HELD] = true, [REWIND_LOST] = true},
    [REWIND_LOST] = {[REWIND_NONE] = true, [REWIND_TAKING] = true},
};

static RUNS_IN_MAIN void assert_rewind(void)
{
    const struct Rewind *r = &rewinder;
    bool held = r->state == REWIND_HELD || r->state == REWIND_REWINDING;
    bool none = r->state == REWIND_NONE || r->state == REWIND_LOST;
    bool has =
        r->point.memory != NULL && r->point.load != NULL && r->point.disks != NULL && r->logging;
    if ((held && !has) || (none && (r->point.memory != NULL || r->logging))) {
        bug_abort("invariant 2: a rewind in state %d has %s point", r->state, has ? "a" : "no");
    }
    if ((r->error != NULL) != (r->state == REWIND_LOST)) {
        bug_abort("a rewind has an error and is not lost, or the reverse");
    }
}

static RUNS_IN_MAIN void rewind_move(const Vm *vm, RewindState from, RewindState to)
{
    if (!held_has(&vm->run.operation)) {
        bug_abort("invariant 1: a rewind moves without the VM operation lock");
    }
    if (rewinder.state != from || !rewind_moves[from][to]) {
        bug_abort("a rewind moves from state %d to %d, and is in %d", from, to, rewinder.state);
    }
    rewinder.state = to;
    if (to != REWIND_LOST) {
        g_clear_error(&rewinder.error);
    }
    assert_rewind();
}

RewindInfo rewind_info(void)
{
    const struct Rewind *r = &rewinder;
    return (RewindInfo){
        .state = r->state,
        .error = r->error != NULL ? r->error->message : NULL,
        .copies_on_write = r->point.memory != NULL && ram_point_copies_on_write(r->point.memory),
        .rewinds = r->rewinds,
        .pages = r->pages,
        .last_ns = r->last_ns,
    };
}

/* ---- memory ---- */

typedef struct RewindCall {
    const GuestRam *ram;
    RamPoint *memory;
    GError *error;
} RewindCall;

static int rewind_copy_memory(void *opaque)
{
    RewindCall *c = opaque;
    enter_worker();
    c->memory = ram_point_new(c->ram, &c->error);
    return 0;
}

static int rewind_free_memory(void *opaque)
{
    enter_worker();
    ram_point_free(opaque);
    return 0;
}

static int rewind_check_memory(void *opaque)
{
    enter_worker();
    return ram_point_check(rewinder.point.memory);
}

static int rewind_restore_memory(void *opaque)
{
    enter_worker();
    return ram_point_restore(rewinder.point.memory, &rewinder.dirty);
}

static coroutine_fn RUNS_IN_MAIN void rewind_clear_point(RewindPoint *p)
{
    if (p->memory != NULL) {
        co_run_in_lane(&rewind_lane, rewind_free_memory, p->memory);
    }
    machine_state_load_free(p->load);
    rewind_disks_co_free(p->disks);
    *p = (RewindPoint){.memory = NULL};
}

/* Adds what the log has to the set. */
static RUNS_IN_MAIN bool rewind_take_dirty(Vm *vm, uint64_t *pages, GError **error)
{
    if (!guest_ram_log_sync(&vm->machine.ram, error)) {
        return false;
    }
    *pages = ram_pages_take_dirty(&rewinder.dirty, &vm->machine.ram);
    return true;
}

static RUNS_IN_MAIN bool rewind_make_set(const GuestRam *ram, GError **error)
{
    for (unsigned i = 0; i < ram->count; i++) {
        if (rewinder.dirty.maps[i] == NULL &&
            ram_pages_add(&rewinder.dirty, i, ram->blocks[i].size) < 0) {
            return rewind_refuse(error, "no memory for the set of dirty pages");
        }
    }
    return true;
}

/* From now on all writes are in the set or in the log. */
static coroutine_fn RUNS_IN_MAIN bool rewind_start_log(Vm *vm, GError **error)
{
    uint64_t pages;
    if (rewinder.logging) {
        return rewind_take_dirty(vm, &pages, error);
    }
    if (!rewind_make_set(&vm->machine.ram, error)) {
        return false;
    }
    rewinder.logging = guest_ram_co_log_start(&vm->machine.ram, error);
    return rewinder.logging;
}

static coroutine_fn RUNS_IN_MAIN void rewind_stop_log(Vm *vm)
{
    if (rewinder.logging) {
        guest_ram_co_log_stop(&vm->machine.ram);
        rewinder.logging = false;
    }
    ram_pages_free(&rewinder.dirty);
}

/* ---- the end of skiff ---- */

static void rewind_vm_ending(VmListener *l, VmCause cause, bool leaving)
{
    enter_main();
    const RewindDisks *d = rewinder.point.disks;
    if (leaving && d != NULL && rewind_disks_count(d) > 0) {
        log_warn("what was written to disks since the rewind point is dropped: x-rewind-end would "
                 "have kept it");
    }
}

static RUNS_IN_MAIN void rewind_listen(Vm *vm, bool on)
{
    if (on && !rewinder.listening) {
        rewinder.listener = (VmListener){.ending = rewind_vm_ending};
        vm_listen(vm, &rewinder.listener);
    } else if (!on && rewinder.listening) {
        vm_unlisten(vm, &rewinder.listener);
    }
    rewinder.listening = on;
}

/* ---- the point ---- */

/* The point cannot be gone back to any more. Its disks stay as the guest sees them. Takes @error. */
static coroutine_fn RUNS_IN_MAIN void rewind_lose(Vm *vm, GError *error)
{
    log_error("x-rewind: %s", error->message);
    RewindPoint rest = rewinder.point;
    rest.disks = NULL;
    rewinder.point = (RewindPoint){.disks = rewinder.point.disks};
    rewind_stop_log(vm);
    rewind_clear_point(&rest);
    g_clear_error(&rewinder.error);
    rewinder.error = error;
    if (rewinder.state != REWIND_LOST) {
        rewind_move(vm, rewinder.state, REWIND_LOST);
    }
}

/* The state of all but RAM and disks. */
static coroutine_fn RUNS_IN_MAIN MachineStateLoad *rewind_save(Vm *vm, const VmStopped *token,
                                                               GError **error)
{
    g_autoptr(GByteArray) stream = machine_state_co_save(vm, token, error);
    return stream != NULL ? machine_state_stage(vm, stream, error) : NULL;
}

/* Everything but the disks. Saving vCPUs may complete an access of theirs and write memory, so memory comes after. */
static coroutine_fn RUNS_IN_MAIN bool rewind_make_point(Vm *vm, const VmStopped *token,
                                                        RewindPoint *p, GError **error)
{
    p->changes = vm->hotplug.changes;
    p->load = rewind_save(vm, token, error);
    if (p->load == NULL || !rewind_start_log(vm, error)) {
        return false;
    }
    RewindCall call = {.ram = &vm->machine.ram};
    co_run_in_lane(&rewind_lane, rewind_copy_memory, &call);
    p->memory = call.memory;
    if (call.error != NULL) {
        g_propagate_error(error, call.error);
    }
    return p->memory != NULL;
}

/* The disks stay as they are, without the point's overlays. */
static coroutine_fn RUNS_IN_MAIN bool rewind_keep_disks(const VmStopped *token, GError **error)
{
    RewindDisks *d = rewinder.point.disks;
    if (d == NULL) {
        return true;
    }
    if (!rewind_disks_co_commit(d, token, error) || !rewind_disks_co_remove(d, token, error)) {
        return false;
    }
    rewinder.point.disks = NULL;
    rewind_disks_co_free(d);
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool rewind_make_disks(const VmStopped *token, RewindPoint *p,
                                                        GError **error)
{
    p->disks = rewind_disks_co_open(error);
    return p->disks != NULL && rewind_disks_co_insert(p->disks, token, error);
}

/* @made takes the place of the earlier point. */
static coroutine_fn RUNS_IN_MAIN void rewind_hold(Vm *vm, RewindPoint made)
{
    RewindPoint old = rewinder.point;
    rewinder.point = made;
    ram_pages_clear(&rewinder.dirty, &vm->machine.ram);
    rewinder.rewinds = rewinder.pages = 0;
    rewinder.last_ns = 0;
    rewind_listen(vm, true);
    rewind_move(vm, REWIND_TAKING, REWIND_HELD);
    rewind_clear_point(&old);
}

/* An earlier point is still held, unless its disks could not be kept, or are no longer there. */
static coroutine_fn RUNS_IN_MAIN void rewind_not_made(Vm *vm, RewindPoint *made, bool disks_touched,
                                                      const GError *error)
{
    rewind_clear_point(made);
    if (rewinder.point.memory == NULL) {
        rewind_stop_log(vm);
    }
    if (disks_touched || (rewinder.point.disks != NULL && rewinder.point.memory == NULL)) {
        rewind_lose(vm, g_error_copy(error));
    } else {
        rewind_move(vm, REWIND_TAKING, rewinder.point.memory != NULL ? REWIND_HELD : REWIND_NONE);
    }
}

static coroutine_fn RUNS_IN_MAIN bool rewind_take_point(Vm *vm, GError **error)
{
    RunState *rs = &vm->run;
    GError *failure = NULL;
    RewindPoint made = {.memory = NULL};
    bool disks_touched = false;
    rewind_move(vm, rewinder.state, REWIND_TAKING);
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    VM_ANNOUNCE(vm, memory_used, true);
    bool ok = rewind_make_point(vm, token, &made, &failure);
    if (ok) {
        disks_touched = rewinder.point.disks != NULL;
        ok = rewind_keep_disks(token, &failure) && rewind_make_disks(token, &made, &failure);
    }
    if (ok) {
        rewind_hold(vm, made);
    } else {
        rewind_not_made(vm, &made, disks_touched, failure);
        g_propagate_error(error, failure);
    }
    VM_ANNOUNCE(vm, memory_used, false);
    vm_stopped_put(rs, token);
    co_vm_resume(rs);
    return ok;
}

bool rewind_co_point(Vm *vm, GError **error)
{
    vm_operation_begin(&vm->run);
    bool ok = rewind_check_quiet(vm, error) && rewind_take_point(vm, error);
    vm_operation_end(&vm->run);
    return ok;
}

/* ---- back ---- */

static RUNS_IN_MAIN bool rewind_memory_failed(int ret, GError **error)
{
    if (ret < 0) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "memory cannot go back to the rewind point: %s%s", g_strerror(-ret),
                    ret == -ESRCH ? "; the process that held it was killed" : "");
    }
    return ret < 0;
}

/* Everything that may fail without a change. What vCPUs have asked for until they stopped is dropped by the load. */
static coroutine_fn RUNS_IN_MAIN bool rewind_prepare(Vm *vm, GError **error)
{
    VmPending dropped;
    return vm_take_pending(vm, &dropped, error) &&
           !rewind_memory_failed(co_run_in_lane(&rewind_lane, rewind_check_memory, NULL), error) &&
           rewind_take_dirty(vm, &rewinder.pages, error);
}

static coroutine_fn RUNS_IN_MAIN bool rewind_restore(Vm *vm, const VmStopped *token, GError **error)
{
    SP("rewind.memory", vm);
    if (rewind_memory_failed(co_run_in_lane(&rewind_lane, rewind_restore_memory, NULL), error)) {
        return false;
    }
    ram_pages_clear(&rewinder.dirty, &vm->machine.ram);
    SP("rewind.state", vm);
    if (!machine_state_co_apply(vm, rewinder.point.load, token, error)) {
        return false;
    }
    run_state_drop_reset(&vm->run, token);
    SP("rewind.disks", vm);
    return rewind_disks_co_empty(rewinder.point.disks, token, error);
}

/* With the VM stopped. Returns whether it is to run then, unless a stop comes. */
static coroutine_fn RUNS_IN_MAIN bool rewind_go_back(Vm *vm, const VmStopped *token, bool ran,
                                                     GError **error)
{
    GError *failure = NULL;
    if (!rewind_prepare(vm, &failure)) {
        g_propagate_error(error, g_error_copy(failure));
        rewind_lose(vm, failure);
        return ran;
    }
    rewind_move(vm, REWIND_HELD, REWIND_REWINDING);
    if (rewind_restore(vm, token, &failure)) {
        rewinder.rewinds++;
        rewind_move(vm, REWIND_REWINDING, REWIND_HELD);
        return machine_state_ran(rewinder.point.load);
    }
    run_state_set_loaded(&vm->run, token, STOP_INTERNAL_ERROR);
    g_propagate_error(error, g_error_copy(failure));
    rewind_lose(vm, failure);
    return false;
}

static coroutine_fn RUNS_IN_MAIN bool rewind_run(Vm *vm, GError **error)
{
    RunState *rs = &vm->run;
    GError *failure = NULL;
    bool ran = rs->run_requested;
    int64_t begin_ns = aio_now_ns(vm->ctx);
    rs->run_requested = true; /* a stop that comes from now on clears it */
    VmStopped *token = co_vm_stop(rs, STOP_PAUSED);
    VM_ANNOUNCE(vm, memory_used, true);
    bool runs = rewind_go_back(vm, token, ran, &failure);
    VM_ANNOUNCE(vm, memory_used, false);
    vm_stopped_put(rs, token);
    rs->run_requested = rs->run_requested && runs;
    co_vm_resume(rs);
    rewinder.last_ns = aio_now_ns(vm->ctx) - begin_ns;
    if (failure != NULL) {
        g_propagate_error(error, failure);
        return false;
    }
    return true;
}

static RUNS_IN_MAIN bool rewind_check_held(const Vm *vm, GError **error)
{
    if (rewinder.state == REWIND_LOST) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "the rewind point is lost: %s; x-rewind-point takes another",
                    rewinder.error->message);
        return false;
    }
    if (rewinder.state != REWIND_HELD) {
        return rewind_refuse(error, "there is no rewind point: x-rewind-point takes one");
    }
    return rewinder.point.changes == vm->hotplug.changes ||
           rewind_refuse(error, "a device was plugged in or removed since the rewind point: "
                                "x-rewind-point takes another");
}

bool rewind_co_back(Vm *vm, GError **error)
{
    vm_operation_begin(&vm->run);
    bool ok = rewind_check_held(vm, error) && rewind_check_quiet(vm, error) &&
              rewind_disks_check(rewinder.point.disks, error) && rewind_run(vm, error);
    vm_operation_end(&vm->run);
    return ok;
}

/* ---- the end ---- */

/* The VM is stopped while disks get what was written since. */
static coroutine_fn RUNS_IN_MAIN bool rewind_give_up(Vm *vm, GError **error)
{
    GError *failure = NULL;
    VmStopped *token = co_vm_stop(&vm->run, STOP_PAUSED);
    if (rewind_keep_disks(token, &failure)) {
        rewind_stop_log(vm);
        rewind_clear_point(&rewinder.point);
        rewind_listen(vm, false);
        rewind_move(vm, rewinder.state, REWIND_NONE);
    } else {
        g_propagate_error(error, g_error_copy(failure));
        rewind_lose(vm, failure);
    }
    vm_stopped_put(&vm->run, token);
    co_vm_resume(&vm->run);
    return rewinder.state == REWIND_NONE;
}

bool rewind_co_end(Vm *vm, GError **error)
{
    vm_operation_begin(&vm->run);
    bool ok = (rewinder.state != REWIND_NONE || rewind_refuse(error, "there is no rewind point")) &&
              rewind_give_up(vm, error);
    vm_operation_end(&vm->run);
    return ok;
}
