/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs: threads that run the guest, and how main parks them.
 *
 * A vCPU's thread either runs the guest, dispatches one register access, waits for a pended access,
 * or is parked. main parks and unparks all of them together. It waits for them only in
 * vcpus_co_park(), where it yields; that wait ends because a vCPU waits only for loops, and because
 * a wait for a peer (a console's reader) is cancelled.
 *
 *   from        what happens                                          to
 *   PARKED      vcpus_unpark()                                        IN_GUEST
 *   IN_GUEST    kicked (immediate_exit, signal)                       PARKED
 *   IN_GUEST    KVM_RUN returns with an access                        IN_ACCESS (BQL held)
 *   IN_ACCESS   MMIO_DONE                                             IN_GUEST
 *   IN_ACCESS   MMIO_PENDING                                          IN_PENDED (no lock held)
 *   IN_PENDED   Completion signalled                                  IN_ACCESS, once more
 *   IN_PENDED   requested to park or call (pended_cancel())           IN_ACCESS, once more, with must_retire
 *   IN_ACCESS   requested an end of the run (reset, power-off, ...)   HALTED
 *   HALTED      kicked                                                PARKED
 *   IN_GUEST    kicked, while braked                                  BRAKED (no lock held)
 *   BRAKED      vcpus_brake(false), or a request                      IN_GUEST, which sees the request
 *
 * Invariants
 *   1. A parked vCPU has no pending exit: KVM_RUN was entered with immediate_exit after its last
 *      access.
 *   2. A vCPU that parks holds nothing.
 *   3. Every parking is reported to main exactly once.
 *   4. Calls (vcpus_co_call) run in the vCPU's thread, outside KVM_RUN, with no exit pending. They
 *      do not depend on whether it is parked or runs, and do not change it.
 *   5. A held vCPU is parked.
 *   6. A braked vCPU does not enter the guest, but parks, runs calls and ends as if it were there. An exit that KVM has
 *      yet to complete may be pending meanwhile.
 */
#ifndef SKIFF_VMM_VCPU_VCPU_H
#define SKIFF_VMM_VCPU_VCPU_H

#include <glib.h>
#include <stdbool.h>
#include "hw/core/address_space.h"
#include "util/loop/coroutine.h"
#include "vmm/arch/arch.h"

typedef struct VcpuSet VcpuSet;

/* A request from a vCPU's thread that ends the run: VmRequest values and these. */
typedef enum VcpuEvent {
    VCPU_EVENT_TRIPLE_FAULT = 100,
    VCPU_EVENT_FAILED, /* KVM has failed; the registers were printed */
    VCPU_EVENT_DEBUG,  /* a breakpoint, watchpoint or single step: VcpuDebugger */
} VcpuEvent;

/* Runs in the vCPU's thread; begins with enter_vcpu(). Must not block. */
typedef void VcpuCallFn(Vcpu *v, void *opaque);

/* A debugger's hooks in the vCPUs' threads, outside KVM_RUN and with no lock held. They must not
 * block. */
typedef struct VcpuDebugger {
    /* KVM_EXIT_DEBUG. False: the exit was the guest's own, and the vCPU continues. Otherwise the
     * run ends with VCPU_EVENT_DEBUG. */
    bool (*debug_exit)(Vcpu *v, const struct kvm_debug_exit_arch *exit, void *opaque);
    /* KVM_EXIT_IO. True: it was a breakpoint; the exit is complete, and the run ends with
     * VCPU_EVENT_DEBUG. */
    bool (*io_exit)(Vcpu *v, struct kvm_run *run, void *opaque);
    /* Called when a parked vCPU is about to run: sets debug registers. */
    void (*resumed)(Vcpu *v, void *opaque);
} VcpuDebugger;

typedef struct VcpuSetConfig {
    Kvm *kvm;
    const ArchCpus *cpus;
    unsigned count;
    AddressSpace *mmio, *pio;
    void (*event)(void *opaque, int event); /* any thread; returns at once */
    void *opaque;
} VcpuSetConfig;

/* Starts the threads and waits (as a coroutine) until each has created its vCPU and is parked. */
VcpuSet *vcpus_co_new(const VcpuSetConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Ends the threads and joins them. All vCPUs are parked. */
void vcpus_free(VcpuSet *set) RUNS_IN_MAIN;
/* Returns when all are parked. */
void vcpus_co_park(VcpuSet *set) coroutine_fn RUNS_IN_MAIN;
/* Lets all vCPUs run. All are parked. */
void vcpus_unpark(VcpuSet *set) RUNS_IN_MAIN;
bool vcpus_parked(const VcpuSet *set) ANY_THREAD;
unsigned vcpus_count(const VcpuSet *set) ANY_THREAD;
/* VcpuSetConfig.cpus */
const ArchCpus *vcpus_arch(const VcpuSet *set) ANY_THREAD;
/* Resets all vCPUs to power-on state, the first with @boot (NULL: the reset vector). All are
 * parked. */
bool vcpus_co_reset(VcpuSet *set, const BootState *boot, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Runs @fn in the thread of vCPU @index and waits until it has returned, whether the VM runs or
 * not. A vCPU in the guest leaves it and resumes afterwards; one that waits for a pended access
 * runs the call after that access. */
void vcpus_co_call(VcpuSet *set, unsigned index, VcpuCallFn *fn, void *opaque)
    coroutine_fn RUNS_IN_MAIN;
/* A held vCPU stays parked when the others run (gdb runs one thread). All are parked. */
void vcpus_hold(VcpuSet *set, unsigned index, bool held) RUNS_IN_MAIN;

/* Keeps all vCPUs out of the guest from now on, or lets them in again: memory that is held for a snapshot is bounded
 * so. Returns at once; a vCPU leaves the guest soon. One caller at a time. */
void vcpus_brake(VcpuSet *set, bool on) ANY_THREAD;

/* Permanent; @debugger and @opaque live as long as the vCPUs. */
void vcpus_set_debugger(VcpuSet *set, const VcpuDebugger *debugger, void *opaque) RUNS_IN_MAIN;

/* ---- for calls ---- */
int vcpu_fd(const Vcpu *v) RUNS_IN_VCPU;
unsigned vcpu_index(const Vcpu *v) ANY_THREAD;
ArchVcpu *vcpu_arch(Vcpu *v) RUNS_IN_VCPU;
pid_t vcpu_thread_id(const VcpuSet *set, unsigned index) ANY_THREAD; /* the kernel's id */
/* Whether it is halted by HLT, from the interrupt controller (KVM_GET_MP_STATE). */
bool vcpu_is_halted(const Vcpu *v) RUNS_IN_VCPU;

/* The calling vCPU runs no more guest code until it is parked and unparked. Does nothing in other
 * threads. */
void vcpu_halt_self(void) ANY_THREAD;

#endif
