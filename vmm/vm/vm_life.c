/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>
#include <stdio.h>
#include "util/job/job.h"
#include "util/log.h"
#include "block/nbd/nbd.h"
#include "hw/chardev/chardev_set.h"
#include "vmm/board/board.h"
#include "vmm/vm/vm.h"

#define VM_QUIT_COMPLETE_NS (INT64_C(4) * 1000000000)
#define VM_QUIT_BOUND_NS (INT64_C(5) * 1000000000)
#define VM_PANICKED 1 /* pvpanic's bit for a panic without a crash kernel */

void vm_set_ending(Vm *vm, const VmEnding *ending)
{
    vm->life.ending = ending;
}

/* ---- moves of the run state ---- */

static RUNS_IN_MAIN void vm_take_kept_events(Vm *vm)
{
    vm->life.kept_panicked = false;
    if (vm->life.kept_events != 0) {
        atomic_fetch_or(&vm->life.events, vm->life.kept_events);
        vm->life.kept_events = 0;
        aio_bh_schedule(&vm->life.event_bh);
    }
}

void vm_run_changed(Vm *vm, RunPhase phase, StopReason reason)
{
    if (phase == RUN_RUNNING) {
        vm_take_kept_events(vm);
    }
    VM_ANNOUNCE(vm, run_changed, phase, reason);
}

void vm_was_loaded(Vm *vm, VmPending pending)
{
    vm->life.kept_panicked = pending.panicked;
    vm->life.kept_events = pending.events;
}

void vm_was_reset(Vm *vm)
{
    vm_was_loaded(vm, (VmPending){.events = 0});
    VM_ANNOUNCE(vm, reset, vm->life.reset_cause);
}

/* ---- the end ---- */

/* Of two callers, the second waits for the completion that the first has begun. */
static coroutine_fn RUNS_IN_MAIN void vm_quit_co_complete(Vm *vm, bool stopped)
{
    VmLife *life = &vm->life;
    if (!life->completing) {
        life->completing = true;
        if (stopped) {
            block_co_complete_all();
        } else {
            block_co_complete_all_held();
        }
        life->completed = true;
        co_queue_wake_all(&life->completion);
    }
    while (!life->completed) {
        co_queue_wait(&life->completion, "the completion of images");
    }
}

/* The VM may still run, so its requests are held. What hangs may hold the operation lock. Nothing is
 * left to wait for when all images are complete. */
static void vm_quit_without_stop(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    bool first = !vm->life.completing;
    vm_quit_co_complete(vm, false);
    if (first) {
        log_warn("the VM's storage did not drain within %d s: images are completed, exiting anyway",
                 (int)(VM_QUIT_COMPLETE_NS / 1000000000));
    }
    aio_context_quit(vm->ctx);
}

/* What hangs costs the other disks nothing: their images are completed before skiff leaves. */
static void vm_quit_overdue(void *opaque)
{
    enter_main();
    Vm *vm = opaque;
    if (aio_now_ns(vm->ctx) < vm->life.quit_ns + VM_QUIT_BOUND_NS) {
        aio_timer_arm(&vm->life.quit_timer, vm->life.quit_ns + VM_QUIT_BOUND_NS);
        co_start(vm->ctx, vm_quit_without_stop, vm);
        return;
    }
    log_warn("the VM's storage did not drain within %d s: exiting anyway",
             (int)(VM_QUIT_BOUND_NS / 1000000000));
    aio_context_quit(vm->ctx);
}

static void vm_quit_run(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    jobs_cancel_all();
    jobs_co_settle();  /* they end under the operation lock */
    nbd_co_shutdown(); /* and so do exports */
    vm_listeners_co_leave(vm);
    vm_operation_begin(&vm->run);
    vm_stopped_put(&vm->run, co_vm_stop(&vm->run, STOP_SHUTDOWN));
    vm_quit_co_complete(vm, true);
    vm_operation_end(&vm->run);
    aio_context_quit(vm->ctx);
}

void vm_quit_because(Vm *vm, ExitStatus status, VmCause cause)
{
    if (vm->life.quitting) {
        return;
    }
    vm->life.quitting = true;
    vm->life.exit_status = vm->life.ending != NULL
                               ? vm->life.ending->exit_status(vm->life.ending->opaque, status)
                               : status;
    run_state_leave(&vm->run);
    VM_ANNOUNCE(vm, ending, cause, true);
    if (!vm->built) { /* no guest has run; start-up may wait for ever */
        aio_context_quit(vm->ctx);
        return;
    }
    vm->life.quit_ns = aio_now_ns(vm->ctx);
    aio_timer_arm(&vm->life.quit_timer, vm->life.quit_ns + VM_QUIT_COMPLETE_NS);
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
    if (vm->life.quitting) { /* it has ended in time; only its storage has not drained */
        return;
    }
    vm->life.show_console = true;
    log_error("-timeout: the VM has run for %u s", vm->config->life.timeout_s);
    vm_quit_because(vm, EXIT_STATUS_TIMEOUT, VM_CAUSE_HOST_ERROR);
}

/* ---- events ---- */

/* The guest has ended. */
static RUNS_IN_MAIN void vm_end(Vm *vm, ExitStatus status, VmCause cause)
{
    const VmEnding *ending = vm->life.ending;
    if (ending == NULL || !ending->guest_ended(ending->opaque, status, cause)) {
        vm_quit_because(vm, status, cause);
    }
}

/* Ends the VM at the guest's end; under -no-shutdown, stops it. */
static RUNS_IN_MAIN void vm_guest_ended(Vm *vm, ExitStatus status, VmCause cause, StopReason reason)
{
    if (vm->life.actions.no_shutdown) {
        VM_ANNOUNCE(vm, ending, cause, false);
        run_state_request_stop(&vm->run, reason);
    } else {
        vm_end(vm, status, cause);
    }
}

static RUNS_IN_MAIN void vm_reset_or_end(Vm *vm, ExitStatus status_without_reboot, VmCause cause)
{
    if (vm->life.actions.no_reboot || vm->life.ending != NULL) {
        vm_guest_ended(vm, status_without_reboot, cause, STOP_SHUTDOWN);
        return;
    }
    vm->life.reset_cause = cause;
    run_state_request_reset(&vm->run);
}

void vm_reset(Vm *vm, VmCause cause)
{
    vm_reset_or_end(vm, EXIT_STATUS_RESET, cause);
}

void vm_power_down(Vm *vm)
{
    VM_ANNOUNCE(vm, power_asked);
    board_press_power_button(&vm->machine);
}

/* False when the guest continues, or is stopped for inspection. */
static RUNS_IN_MAIN bool vm_guest_panicked(Vm *vm)
{
    int64_t bits = atomic_exchange(&vm->life.panic_bits, 0);
    PanicAction action = vm->life.actions.panic;
    if ((bits & VM_PANICKED) == 0) { /* "crash loaded": the guest's own kdump kernel takes over */
        log_info("the guest reports a crash and continues with its crash kernel");
        VM_ANNOUNCE(vm, panicked, true, VM_PANIC_RUN);
        return false;
    }
    log_error("the guest has panicked");
    vm->life.show_console = !chardev_is_stdio(vm->backends.console);
    if (action == PANIC_PAUSE || (action == PANIC_SHUTDOWN && vm->life.actions.no_shutdown)) {
        VM_ANNOUNCE(vm, panicked, false, VM_PANIC_PAUSE);
        vm->life.kept_panicked = true;
        run_state_request_stop(&vm->run, STOP_GUEST_PANICKED);
        return false;
    } else if (action == PANIC_NONE) {
        VM_ANNOUNCE(vm, panicked, false, VM_PANIC_RUN);
        return false;
    } else {
        VM_ANNOUNCE(vm, panicked, false, VM_PANIC_POWEROFF);
        vm_end(vm, EXIT_STATUS_PANIC, VM_CAUSE_GUEST_PANIC);
    }
    return true;
}

/* ---- watchdogs ---- */

static void vm_watchdog_nmi(void *opaque)
{
    enter_main();
    enter_coroutine();
    Vm *vm = opaque;
    g_autoptr(GError) error = NULL;
    if (!vm_co_press_nmi(vm, &error)) {
        log_limited(&vm->life.watchdog_log, "watchdog: no NMI: %s", error->message);
    }
    vm->life.nmi_pressed = false;
}

/* Performs the action of -action watchdog=. False when the guest continues, or is stopped. */
static RUNS_IN_MAIN bool vm_watchdog_expired(Vm *vm)
{
    WatchdogAction action = vm->life.actions.watchdog;
    VM_ANNOUNCE(vm, watchdog_expired, action);
    switch (action) {
    case WATCHDOG_RESET:
        log_limited(&vm->life.watchdog_log, "the guest's watchdog expired: resetting");
        vm_reset_or_end(vm, EXIT_STATUS_WATCHDOG, VM_CAUSE_GUEST_RESET);
        return true;
    case WATCHDOG_POWEROFF:
        log_limited(&vm->life.watchdog_log, "the guest's watchdog expired: exiting");
        vm_end(vm, EXIT_STATUS_WATCHDOG, VM_CAUSE_GUEST_SHUTDOWN);
        return true;
    case WATCHDOG_SHUTDOWN:
        vm_power_down(vm);
        break;
    case WATCHDOG_PAUSE:
        run_state_request_stop(&vm->run, STOP_WATCHDOG);
        break;
    case WATCHDOG_DEBUG:
        log_limited(&vm->life.watchdog_log, "watchdog: timer fired");
        break;
    case WATCHDOG_NONE:
        break;
    case WATCHDOG_INJECT_NMI:
        /* Where a vCPU waits for a hung flash, another one may let the watchdog expire without end. */
        if (!vm->life.nmi_pressed) {
            vm->life.nmi_pressed = true;
            co_start(vm->ctx, vm_watchdog_nmi, vm);
        }
        break;
    }
    return false;
}

/* ---- all together ---- */

/* Events are bits: VmRequest values as they are, VcpuEvent values above them. Saved states have those of
 * GUEST_ENDS. */
enum {
    EVENT_TRIPLE_FAULT = 16,
    EVENT_FAILED,
    EVENT_DEBUG,
};

/* Events with which the guest ends its run, or may end it. */
#define GUEST_ENDS                                                                                 \
    (1u << EVENT_TRIPLE_FAULT | 1u << VM_REQUEST_POWEROFF | 1u << VM_REQUEST_RESET |               \
     1u << VM_REQUEST_WATCHDOG)

static bool vm_event_take(unsigned events, unsigned event)
{
    return (events & (1u << event)) != 0;
}

/* A guest that triple-faults again within this time after its reset has made no progress. */
#define VM_TRIPLE_FAULT_AGAIN_NS (INT64_C(1) * 1000000000)
#define VM_TRIPLE_FAULTS_REPORTED 3

/* Logs the triple faults of a guest that continues after each; if it repeats them at once, only the
 * first ones. */
static RUNS_IN_MAIN void vm_report_triple_fault(Vm *vm)
{
    VmLife *life = &vm->life;
    int64_t now = aio_now_ns(vm->ctx);
    bool again = life->triple_faults > 0 && now - life->triple_fault_ns < VM_TRIPLE_FAULT_AGAIN_NS;
    life->triple_fault_ns = now;
    life->triple_faults = again ? life->triple_faults + 1 : 1;
    if (life->triple_faults < VM_TRIPLE_FAULTS_REPORTED) {
        log_warn("triple fault: resetting");
    } else if (life->triple_faults == VM_TRIPLE_FAULTS_REPORTED) {
        log_error("the guest triple-faults again and again, right after each reset; this is "
                  "reported once. With -no-reboot skiff exits instead, with status %d",
                  EXIT_STATUS_TRIPLE_FAULT);
    }
}

/* Of several simultaneous events, the most specific one decides. */
static RUNS_IN_MAIN void vm_take_guest_events(Vm *vm, unsigned events)
{
    if (vm_event_take(events, EVENT_FAILED)) {
        vm_guest_ended(vm, EXIT_STATUS_INTERNAL, VM_CAUSE_HOST_ERROR, STOP_INTERNAL_ERROR);
        return;
    }
    if (vm_event_take(events, VM_REQUEST_DEBUG_EXIT)) {
        uint64_t value = (uint64_t)atomic_load(&vm->life.debug_exit_value);
        vm_end(vm, (ExitStatus)exit_status_debug_exit(value), VM_CAUSE_GUEST_SHUTDOWN);
        return;
    }
    if (vm_event_take(events, VM_REQUEST_NO_SMM)) {
        log_error("the firmware needs SMM (it is a build for secure boot), which skiff does not "
                  "offer: use a build without SMM, such as OVMF_CODE_4M.fd");
        vm_end(vm, EXIT_STATUS_USAGE, VM_CAUSE_HOST_ERROR);
        return;
    }
    if (vm_event_take(events, VM_REQUEST_PANIC) && vm_guest_panicked(vm)) {
        return;
    }
    if (vm->life.kept_panicked) { /* later events must not end a VM that is kept for inspection */
        vm->life.kept_events |= events & GUEST_ENDS;
        return;
    }
    if (vm_event_take(events, VM_REQUEST_WATCHDOG) && !vm_event_take(events, VM_REQUEST_POWEROFF) &&
        vm_watchdog_expired(vm)) {
        return;
    }
    /* A vCPU that requested one of these stays halted until it happens. */
    if (vm_event_take(events, EVENT_TRIPLE_FAULT)) {
        if (!vm->life.actions.no_reboot) {
            vm_report_triple_fault(vm);
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
    unsigned events = atomic_exchange(&vm->life.events, 0);
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

bool vm_take_pending(Vm *vm, VmPending *pending, GError **error)
{
    vm_take_events(vm); /* vCPUs are parked: there is no further one */
    if (vm->life.quitting) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "skiff ends: no state is saved any more");
        return false;
    }
    *pending = (VmPending){.events = vm->life.kept_events, .panicked = vm->life.kept_panicked};
    if (run_state_will_reset(&vm->run)) {
        pending->events |= 1u << VM_REQUEST_RESET;
    }
    return true;
}

bool vm_pending_events_are_valid(uint32_t events)
{
    return (events & ~GUEST_ENDS) == 0;
}

void vm_request(void *opaque, int request, int64_t detail)
{
    Vm *vm = opaque;
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
        atomic_store(&vm->life.debug_exit_value, detail);
        vcpu_halt_self();
        break;
    case VM_REQUEST_PANIC:
        atomic_fetch_or(&vm->life.panic_bits, detail);
        break;
    case VM_REQUEST_NO_SMM:
    case VM_REQUEST_RESET:
    case VM_REQUEST_POWEROFF:
        vcpu_halt_self();
        break;
    default:
        break;
    }
    atomic_fetch_or(&vm->life.events, 1u << event);
    aio_bh_schedule(&vm->life.event_bh);
}

void vm_vcpu_event(void *opaque, int event)
{
    vm_request(opaque, event, event == VM_REQUEST_PANIC ? VM_PANICKED : 0);
}

void vm_life_init(Vm *vm)
{
    vm->life.actions = (VmActions){.no_reboot = vm->config->life.no_reboot,
                                   .no_shutdown = vm->config->life.no_shutdown,
                                   .panic = vm->config->life.panic,
                                   .watchdog = vm->config->life.watchdog};
    co_queue_init(&vm->life.completion);
    aio_bh_init(&vm->life.event_bh, vm->ctx, vm_take_events, vm);
    aio_timer_init(&vm->life.quit_timer, vm->ctx, vm_quit_overdue, vm);
    aio_timer_init(&vm->life.timeout_timer, vm->ctx, vm_timeout, vm);
    if (vm->config->life.timeout_s != 0) {
        aio_timer_arm(&vm->life.timeout_timer,
                      aio_now_ns(vm->ctx) + vm->config->life.timeout_s * INT64_C(1000000000));
    }
}
