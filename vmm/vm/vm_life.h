/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Actions of the guest on itself, and skiff's reactions: power-off, reset, panic, debug-exit,
 * triple fault, watchdog, failure, time-out, signals. Everything arrives as a message and is decided in main.
 * The exit status table is in vmm/exit_status.h.
 */
#ifndef SKIFF_VMM_VM_VM_LIFE_H
#define SKIFF_VMM_VM_VM_LIFE_H

#include "util/log.h"
#include "util/loop/aio.h"
#include "vmm/config.h"
#include "vmm/exit_status.h"
#include "vmm/vm/vm_listener.h"

/* The reactions to guest actions: -no-reboot, -no-shutdown, -action, then QMP's set-action. */
typedef struct VmActions {
    bool no_reboot, no_shutdown;
    PanicAction panic;
    WatchdogAction watchdog;
} VmActions;

/* Hooks of -exec, called before the VM decides about the guest's end. While they are set, a reset
 * of the guest is its end. All in main. */
typedef struct VmEnding {
    /* The guest has ended, with @status. True: the hook calls vm_quit_because() later. */
    bool (*guest_ended)(void *opaque, ExitStatus status, VmCause cause);
    /* Returns skiff's exit status when the VM's end is @status. */
    ExitStatus (*exit_status)(void *opaque, ExitStatus status);
    void *opaque;
} VmEnding;

typedef struct VmLife {
    VmActions actions;
    const VmEnding *ending;  /* or NULL */
    VmCause reset_cause;     /* of the reset that waits or is under way */
    bool kept_panicked;      /* stopped, or about to be, by its panic: until it starts or resets */
    unsigned triple_faults;  /* in a row, each soon after the reset by the one before */
    int64_t triple_fault_ns; /* the last one's time */
    LogLimit watchdog_log;
    bool nmi_pressed;     /* by the watchdog; not every vCPU has it yet */
    unsigned kept_events; /* the guest's further requests, handled when it resumes */

    AioTimer timeout_timer; /* -timeout */
    AioTimer quit_timer;    /* VM_QUIT_COMPLETE_NS, then VM_QUIT_BOUND_NS */
    int64_t quit_ns;        /* when the end was requested */
    bool completing;        /* images are being completed, or are complete */
    bool completed;         /* they are complete, or cannot be */
    CoQueue completion;     /* waits for that */
    bool quitting;
    ExitStatus exit_status;
    bool show_console; /* its last lines are to be printed on standard error */

    /* messages from vCPUs and devices: bits by VmRequest / VcpuEvent */
    AioBh event_bh;
    _Atomic unsigned events;
    _Atomic int64_t debug_exit_value, panic_bits;
} VmLife;

void vm_life_init(Vm *vm) RUNS_IN_MAIN;
/* Sets the hooks for the guest's end. @ending is borrowed; NULL: none. */
void vm_set_ending(Vm *vm, const VmEnding *ending) RUNS_IN_MAIN;

/* Machine.request: an event in the guest (a VmRequest or VcpuEvent), sent as a message to main.
 * @opaque is the Vm. */
void vm_request(void *opaque, int request, int64_t detail) ANY_THREAD;
/* The same, as VcpuSetConfig.event. */
void vm_vcpu_event(void *opaque, int event) ANY_THREAD;

/* Ends the VM in an orderly way, within VM_QUIT_BOUND_NS whatever its storage does; at once when it
 * is not built yet. The first status counts. */
void vm_quit_because(Vm *vm, ExitStatus status, VmCause cause) RUNS_IN_MAIN;
/* The same, requested by a monitor. */
void vm_quit(Vm *vm, ExitStatus status) RUNS_IN_MAIN;
/* Requests a reset, as the guest may: under -no-reboot it ends the VM. */
void vm_reset(Vm *vm, VmCause cause) RUNS_IN_MAIN;
/* Presses the power button: requests a power-off, which the guest may ignore. */
void vm_power_down(Vm *vm) RUNS_IN_MAIN;

/* RunStateOps.changed: announces the move. When the VM runs, first handles the requests that a
 * panicked guest made before it stopped. */
void vm_run_changed(Vm *vm, RunPhase phase, StopReason reason) RUNS_IN_MAIN;
/* Called when the machine was reset and has not started: drops the guest's requests. Announces
 * it. */
void vm_was_reset(Vm *vm) RUNS_IN_MAIN;
/* What the guest of a stopped VM has asked for and will get when the VM runs: it was asked for as the VM stopped,
 * or by a guest that is kept for inspection. A vCPU that has asked expects it. */
typedef struct VmPending {
    uint32_t events; /* bits: VmRequest and others; in saved states */
    bool panicked;   /* kept for inspection */
} VmPending;
/* False + error: skiff ends, so nothing is pending any more. */
bool vm_take_pending(Vm *vm, VmPending *pending, GError **error) RUNS_IN_MAIN;
/* Whether @events is what vm_take_pending() may have returned. */
bool vm_pending_events_are_valid(uint32_t events) ANY_THREAD;
/* Called when another state of the machine was loaded: its guest's requests take the place of those of the guest
 * that was there. */
void vm_was_loaded(Vm *vm, VmPending pending) RUNS_IN_MAIN;

#endif
