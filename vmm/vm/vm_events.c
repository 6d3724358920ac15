/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to the guest, and what skiff makes of it: power-off, reset, panic, debug-exit,
 * triple fault, failure, time-out, signals. Everything arrives as a message and is decided in main.
 * The exit status table is in vmm/exit_status.h.
 */
#include <stdatomic.h>
#include <stdio.h>
#include "util/job/job.h"
#include "util/log.h"
#include "hw/chardev/chardev_set.h"
#include "vmm/dump/dump.h"
#include "vmm/process/notify.h"
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/vm/vm.h"
#include "vmm/vm/vm_hotplug.h"

#define VM_QUIT_BOUND_NS (INT64_C(5) * 1000000000)
#define VM_PANICKED 1 /* pvpanic's bit for a panic with nothing to follow */

const char *const vm_cause_names[VM_CAUSE_COUNT + 1] = {
    "none",    "host-error",     "host-qmp-quit", "host-qmp-system-reset", "host-signal",
    "host-ui", "guest-shutdown", "guest-reset",   "guest-panic",           NULL,
};

/* ---- telling ---- */

/* SHUTDOWN and RESET. */
static RUNS_IN_MAIN void vm_tell_cause(const char *event, VmCause cause)
{
    struct json_object *data = json_object_new_object();
    qmp_put_bool(data, "guest", cause >= VM_CAUSE_GUEST_SHUTDOWN);
    qmp_put_str(data, "reason", vm_cause_names[cause]);
    qmp_event_emit(event, data);
}

/* A guest that was kept as it had panicked goes on: with what it had asked for meanwhile. */
static RUNS_IN_MAIN void vm_release_kept(Vm *vm)
{
    vm->kept_panicked = false;
    if (vm->kept_events != 0) {
        atomic_fetch_or(&vm->events, vm->kept_events);
        vm->kept_events = 0;
        aio_bh_schedule(&vm->event_bh);
    }
}

/* STOP and RESUME, but not for the stop and start that a reset is made of, nor at the end; once
 * each however often the run state tells. */
static void vm_tell_run_change(VmListener *l, RunPhase phase, StopReason reason)
{
    enter_main();
    Vm *vm = (Vm *)((char *)l - offsetof(Vm, event_listener));
    bool running = phase == RUN_RUNNING;
    if (running) {
        vm_release_kept(vm);
    }
    if ((!running && phase != RUN_STOPPED) || running == vm->told_running || vm->run.brief ||
        vm->quitting) {
        return;
    }
    vm->told_running = running;
    qmp_event_emit(running ? "RESUME" : "STOP", NULL);
}

static void vm_tell_reset(VmListener *l)
{
    enter_main();
    Vm *vm = (Vm *)((char *)l - offsetof(Vm, event_listener));
    vm->kept_panicked = false;
    vm->kept_events = 0;
    vm_tell_cause("RESET", vm->reset_cause);
}

static RUNS_IN_MAIN void vm_tell_panic(const char *event, const char *action)
{
    struct json_object *data = json_object_new_object();
    qmp_put_str(data, "action", action);
    qmp_event_emit(event, data);
}

/* ---- the end ---- */

static void vm_quit_overdue(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    log_warn("the VM's storage did not come to rest within %d s: leaving anyway",
             (int)(VM_QUIT_BOUND_NS / 1000000000));
    aio_context_quit(vm->ctx);
}

static void vm_quit_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    jobs_cancel_all();
    jobs_co_settle(); /* they end under the operation lock */
    vm_operation_begin(&vm->run);
    vm_stopped_put(&vm->run, co_vm_stop(&vm->run, STOP_SHUTDOWN));
    vm_operation_end(&vm->run);
    aio_context_quit(vm->ctx);
}

void vm_quit_because(Vm *vm, ExitStatus status, VmCause cause)
{
    if (vm->quitting) {
        return;
    }
    vm->quitting = true;
    vm->exit_status = vm_exec_exit_status(vm, status);
    run_state_leave(&vm->run);
    vm_tell_cause("SHUTDOWN", cause);
    notify_stopping();
    dump_cancel();
    if (!vm->built) { /* no guest has run; what the start-up waits for may never come */
        aio_context_quit(vm->ctx);
        return;
    }
    aio_timer_arm(&vm->quit_timer, aio_now_ns(vm->ctx) + VM_QUIT_BOUND_NS);
    co_start(vm->ctx, vm_quit_run, vm);
}

void vm_quit(Vm *vm, ExitStatus status)
{
    vm_quit_because(vm, status, VM_CAUSE_HOST_QMP_QUIT);
}

static void vm_timeout(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    if (vm->quitting) { /* it has ended in time; only its storage has not */
        return;
    }
    vm->show_console = true;
    log_error("-timeout: the VM has run for %u s", vm->config->timeout_s);
    vm_quit_because(vm, EXIT_STATUS_TIMEOUT, VM_CAUSE_HOST_ERROR);
}

/* ---- events ---- */

/* The guest will do nothing more. */
static RUNS_IN_MAIN void vm_end(Vm *vm, ExitStatus status, VmCause cause)
{
    if (!vm_exec_guest_ended(vm, status, cause)) {
        vm_quit_because(vm, status, cause);
    }
}

/* Where the guest has come to its end: exits or, under -no-shutdown, stops. */
static RUNS_IN_MAIN void vm_guest_ended(Vm *vm, ExitStatus status, VmCause cause, StopReason reason)
{
    if (vm->actions.no_shutdown) {
        vm_tell_cause("SHUTDOWN", cause);
        run_state_request_stop(&vm->run, reason);
    } else {
        vm_end(vm, status, cause);
    }
}

static RUNS_IN_MAIN void vm_reset_or_end(Vm *vm, ExitStatus status_without_reboot, VmCause cause)
{
    if (vm->actions.no_reboot || vm->exec != NULL) {
        vm_guest_ended(vm, status_without_reboot, cause, STOP_SHUTDOWN);
        return;
    }
    vm->reset_cause = cause;
    run_state_request_reset(&vm->run);
}

void vm_reset(Vm *vm, VmCause cause)
{
    vm_reset_or_end(vm, EXIT_STATUS_RESET, cause);
}

void vm_power_down(Vm *vm)
{
    qmp_event_emit("POWERDOWN", NULL);
    board_press_power_button(vm);
}

/* False when the guest goes on, or stops to be looked at. */
static RUNS_IN_MAIN bool vm_guest_panicked(Vm *vm)
{
    int64_t bits = atomic_exchange(&vm->panic_bits, 0);
    PanicAction action = vm->actions.panic;
    if ((bits & VM_PANICKED) == 0) { /* "crash loaded": the guest's own kdump kernel takes over */
        log_info("the guest reports that it crashed and goes on with its crash kernel");
        vm_tell_panic("GUEST_CRASHLOADED", "run");
        return false;
    }
    log_error("the guest has panicked");
    vm->show_console = !chardev_is_stdio(vm->console);
    if (action == PANIC_PAUSE || (action == PANIC_SHUTDOWN && vm->actions.no_shutdown)) {
        vm_tell_panic("GUEST_PANICKED", "pause");
        vm->kept_panicked = true;
        run_state_request_stop(&vm->run, STOP_GUEST_PANICKED);
        return false;
    } else if (action == PANIC_NONE) {
        vm_tell_panic("GUEST_PANICKED", "run");
        return false;
    } else {
        vm_tell_panic("GUEST_PANICKED", "poweroff");
        vm_end(vm, EXIT_STATUS_PANIC, VM_CAUSE_GUEST_PANIC);
    }
    return true;
}

/* Events are bits: VmRequest values as they are, VcpuEvent values above them. */
enum {
    EVENT_TRIPLE_FAULT = 16,
    EVENT_FAILED,
    EVENT_DEBUG,
};

/* What the guest does to end its run. */
#define GUEST_ENDS (1u << EVENT_TRIPLE_FAULT | 1u << VM_REQUEST_POWEROFF | 1u << VM_REQUEST_RESET)

static bool vm_event_take(unsigned events, unsigned event)
{
    return (events & (1u << event)) != 0;
}

/* When several came at once, the one that tells most about what happened decides. */
static RUNS_IN_MAIN void vm_take_guest_events(Vm *vm, unsigned events)
{
    if (vm_event_take(events, EVENT_FAILED)) {
        vm_guest_ended(vm, EXIT_STATUS_INTERNAL, VM_CAUSE_HOST_ERROR, STOP_INTERNAL_ERROR);
        return;
    }
    if (vm_event_take(events, VM_REQUEST_DEBUG_EXIT)) {
        uint64_t value = (uint64_t)atomic_load(&vm->debug_exit_value);
        vm_end(vm, (ExitStatus)exit_status_debug_exit(value), VM_CAUSE_GUEST_SHUTDOWN);
        return;
    }
    if (vm_event_take(events, VM_REQUEST_PANIC) && vm_guest_panicked(vm)) {
        return;
    }
    if (vm->kept_panicked) { /* its last instructions are not to undo what it is kept for */
        vm->kept_events |= events & GUEST_ENDS;
        return;
    }
    /* Whoever asked for one of these stands still until he gets it. */
    if (vm_event_take(events, EVENT_TRIPLE_FAULT)) {
        if (!vm->actions.no_reboot) {
            log_warn("triple fault: resetting");
        }
        vm_reset_or_end(vm, EXIT_STATUS_TRIPLE_FAULT, VM_CAUSE_GUEST_RESET);
    } else if (vm_event_take(events, VM_REQUEST_POWEROFF)) {
        vm_guest_ended(vm, EXIT_STATUS_OK, VM_CAUSE_GUEST_SHUTDOWN, STOP_SHUTDOWN);
    } else if (vm_event_take(events, VM_REQUEST_RESET)) {
        vm_reset(vm, VM_CAUSE_GUEST_RESET);
    }
}

static void vm_take_events(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    unsigned events = atomic_exchange(&vm->events, 0);
    vm_take_guest_events(vm, events);
    if (vm_event_take(events, VM_REQUEST_UNPLUG)) {
        vm_take_ejected(vm);
    }
    if (vm_event_take(events, EVENT_DEBUG)) {
        run_state_request_stop(&vm->run, STOP_DEBUG);
    }
    if (vm_event_take(events, VM_REQUEST_STOP_IO_ERROR)) {
        run_state_request_stop(&vm->run, STOP_IO_ERROR);
    }
}

void vm_request(Vm *vm, int request, int64_t detail)
{
    unsigned event = (unsigned)request;
    switch (request) {
    case VCPU_EVENT_TRIPLE_FAULT:
        event = EVENT_TRIPLE_FAULT;
        break;
    case VCPU_EVENT_FAILED:
        event = EVENT_FAILED;
        break;
    case VCPU_EVENT_DEBUG:
        event = EVENT_DEBUG;
        break;
    case VM_REQUEST_DEBUG_EXIT:
        atomic_store(&vm->debug_exit_value, detail);
        vcpu_halt_self();
        break;
    case VM_REQUEST_PANIC:
        atomic_fetch_or(&vm->panic_bits, detail);
        break;
    case VM_REQUEST_RESET:
    case VM_REQUEST_POWEROFF:
        vcpu_halt_self();
        break;
    default:
        break;
    }
    atomic_fetch_or(&vm->events, 1u << event);
    aio_bh_schedule(&vm->event_bh);
}

void vm_vcpu_event(void *opaque, int event)
{
    vm_request(opaque, event, event == VM_REQUEST_PANIC ? VM_PANICKED : 0);
}

void vm_events_init(Vm *vm)
{
    vm->actions = (VmActions){.no_reboot = vm->config->no_reboot,
                              .no_shutdown = vm->config->no_shutdown,
                              .panic = vm->config->panic};
    vm_unlisten(vm, &vm->event_listener);
    vm->event_listener = (VmListener){.run_changed = vm_tell_run_change, .reset = vm_tell_reset};
    vm_listen(vm, &vm->event_listener);
    aio_bh_init(&vm->event_bh, vm->ctx, vm_take_events, vm);
    aio_timer_init(&vm->quit_timer, vm->ctx, vm_quit_overdue, vm);
    aio_timer_init(&vm->timeout_timer, vm->ctx, vm_timeout, vm);
    if (vm->config->timeout_s != 0) {
        aio_timer_arm(&vm->timeout_timer,
                      aio_now_ns(vm->ctx) + vm->config->timeout_s * INT64_C(1000000000));
    }
}
