/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest does to itself, and what skiff makes of it: power-off, reset, panic, debug-exit,
 * triple fault, failure, time-out, signals. Everything arrives as a message and is decided in main.
 * The exit status table is in vmm/exit_status.h.
 */
#ifndef SKIFF_VMM_VM_VM_LIFE_H
#define SKIFF_VMM_VM_VM_LIFE_H

#include "util/loop/aio.h"
#include "vmm/config.h"
#include "vmm/exit_status.h"
#include "vmm/vm/vm_listener.h"

/* What is done about the guest's deeds: -no-reboot, -no-shutdown, -action, then QMP's set-action. */
typedef struct VmActions {
    bool no_reboot, no_shutdown;
    PanicAction panic;
} VmActions;

/* Decides about the guest's end before the VM does: -exec. While one is set, a reset of the guest is
 * its end. All in main. */
typedef struct VmEnding {
    /* The guest has come to its end, which is @status. True: the hook calls vm_quit_because()
     * later. */
    bool (*guest_ended)(void *opaque, ExitStatus status, VmCause cause);
    /* What skiff exits with when the VM's end is @status. */
    ExitStatus (*exit_status)(void *opaque, ExitStatus status);
    void *opaque;
} VmEnding;

typedef struct VmLife {
    VmActions actions;
    const VmEnding *ending; /* or NULL */
    VmCause reset_cause;    /* of the reset that waits or is under way */
    bool kept_panicked; /* stopped, or about to be, as it has panicked: until it starts or resets */
    unsigned triple_faults;  /* in a row, each soon after the reset by the one before */
    int64_t triple_fault_ns; /* the last one's time */
    unsigned kept_events;    /* what the guest asked for beyond that, for when it goes on */

    AioTimer timeout_timer; /* -timeout */
    AioTimer quit_timer;    /* VM_QUIT_BOUND_NS */
    bool quitting;
    ExitStatus exit_status;
    bool show_console; /* its last lines belong on standard error */

    /* messages from vCPUs and devices: bits by VmRequest / VcpuEvent */
    AioBh event_bh;
    _Atomic unsigned events;
    _Atomic int64_t debug_exit_value, panic_bits;
} VmLife;

void vm_life_init(Vm *vm) RUNS_IN_MAIN;
/* @ending (borrowed) is asked from now on; NULL: none. */
void vm_set_ending(Vm *vm, const VmEnding *ending) RUNS_IN_MAIN;

/* Something happened in the guest: a VmRequest or VcpuEvent. A message, taken up in main. @opaque is
 * the Vm: Machine.request. */
void vm_request(void *opaque, int request, int64_t detail) ANY_THREAD;
/* The same, as VcpuSetConfig.event. */
void vm_vcpu_event(void *opaque, int event) ANY_THREAD;

/* Ends the VM in an orderly way, but within VM_QUIT_BOUND_NS whatever its storage does; at once
 * when it is not built yet. The first status counts. */
void vm_quit_because(Vm *vm, ExitStatus status, VmCause cause) RUNS_IN_MAIN;
/* The same, at the request of a monitor. */
void vm_quit(Vm *vm, ExitStatus status) RUNS_IN_MAIN;
/* Asks for a reset, as the guest may: under -no-reboot it is the end. */
void vm_reset(Vm *vm, VmCause cause) RUNS_IN_MAIN;
/* Asks the guest to power off, as a person would; the guest decides. */
void vm_power_down(Vm *vm) RUNS_IN_MAIN;

/* RunStateOps.changed: announces the move. When the VM runs, what a guest that was kept panicked has
 * asked for is taken up first. */
void vm_run_changed(Vm *vm, RunPhase phase, StopReason reason) RUNS_IN_MAIN;
/* The machine was reset and has not started: what the guest had asked for is void. Announces it. */
void vm_was_reset(Vm *vm) RUNS_IN_MAIN;

#endif
