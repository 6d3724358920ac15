/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs: threads that run the guest, and how main stops them.
 *
 * A vCPU's thread either runs the guest, dispatches one register access, waits for a pended access,
 * or is parked. main parks all of them and starts all of them; it never waits for one except by
 * yielding in vcpus_co_park(), which ends because a vCPU waits only for loops.
 *
 *   from        what happens                                          to
 *   PARKED      vcpus_unpark()                                        IN_GUEST
 *   IN_GUEST    kicked (immediate_exit, signal)                       PARKED
 *   IN_GUEST    KVM_RUN returns with an access                        IN_ACCESS (BQL held)
 *   IN_ACCESS   MMIO_DONE                                             IN_GUEST
 *   IN_ACCESS   MMIO_PENDING                                          IN_PENDED (no lock held)
 *   IN_PENDED   Completion signalled                                  IN_ACCESS, once more
 *   IN_ACCESS   asked for what ends the run (reset, power-off, ...)   HALTED
 *   HALTED      kicked                                                PARKED
 *
 * Invariants
 *   1. A parked vCPU has no pending exit: KVM_RUN was entered with immediate_exit after its last
 * access.
 *   2. A vCPU that parks holds nothing.
 *   3. Every parking is told to main exactly once.
 *   4. Calls (vcpus_co_call) run in the vCPU's thread, outside KVM_RUN, with no exit pending. They
 * neither need nor change that it is parked or runs.
 *   5. A held vCPU is parked.
 */
#ifndef SKIFF_VMM_VCPU_VCPU_H
#define SKIFF_VMM_VCPU_VCPU_H

#include <glib.h>
#include <stdbool.h>
#include "hw/core/address_space.h"
#include "util/loop/coroutine.h"
#include "vmm/arch/arch.h"

typedef struct VcpuSet VcpuSet;

/* A request that ends the run, from a vCPU's thread: VmRequest values and these. */
typedef enum VcpuEvent {
    VCPU_EVENT_TRIPLE_FAULT = 100,
    VCPU_EVENT_FAILED, /* KVM cannot go on; the registers were printed */
    VCPU_EVENT_DEBUG,  /* a breakpoint, watchpoint or single step: VcpuDebugger */
} VcpuEvent;

/* In the vCPU's thread; begins with enter_vcpu(). Blocks on nothing. */
typedef void VcpuCallFn(Vcpu *v, void *opaque);

/* A debugger in the vCPUs' threads, outside KVM_RUN and with nothing held. Blocks on nothing. */
typedef struct VcpuDebugger {
    /* KVM_EXIT_DEBUG. False: that was the guest's own affair, and it goes on. Else the run ends
     * with VCPU_EVENT_DEBUG. */
    bool (*debug_exit)(Vcpu *v, const struct kvm_debug_exit_arch *exit, void *opaque);
    /* KVM_EXIT_IO. True: that was a breakpoint, and the run ends with VCPU_EVENT_DEBUG. The exit is
     * finished with by then. */
    bool (*io_exit)(Vcpu *v, struct kvm_run *run, void *opaque);
    /* It was parked and is about to run: the time to set debug registers. */
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
/* Parked: ends the threads and joins them. */
void vcpus_free(VcpuSet *set) RUNS_IN_MAIN;
/* Returns when all are parked. */
void vcpus_co_park(VcpuSet *set) coroutine_fn RUNS_IN_MAIN;
/* All parked: lets them run. */
void vcpus_unpark(VcpuSet *set) RUNS_IN_MAIN;
bool vcpus_parked(const VcpuSet *set) ANY_THREAD;
unsigned vcpus_count(const VcpuSet *set) ANY_THREAD;
/* Parked: power-on state, the first with @boot (NULL: the reset vector). */
bool vcpus_co_reset(VcpuSet *set, const BootState *boot, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Runs @fn in the thread of vCPU @index and waits until it returned: whether the VM runs or not. A
 * vCPU in the guest leaves it and goes on afterwards; one that waits for a pended access runs the
 * call after that. */
void vcpus_co_call(VcpuSet *set, unsigned index, VcpuCallFn *fn, void *opaque)
    coroutine_fn RUNS_IN_MAIN;
/* All parked: a held vCPU stays so when the others are let go (gdb runs one thread). */
void vcpus_hold(VcpuSet *set, unsigned index, bool held) RUNS_IN_MAIN;

/* For good; @debugger and @opaque live as long as the vCPUs. */
void vcpus_set_debugger(VcpuSet *set, const VcpuDebugger *debugger, void *opaque) RUNS_IN_MAIN;

/* ---- for calls ---- */
int vcpu_fd(const Vcpu *v) RUNS_IN_VCPU;
unsigned vcpu_index(const Vcpu *v) ANY_THREAD;
ArchVcpu *vcpu_arch(Vcpu *v) RUNS_IN_VCPU;
pid_t vcpu_thread_id(const VcpuSet *set, unsigned index) ANY_THREAD; /* the kernel's */
/* Halted by HLT, as the interrupt controller sees it (KVM_GET_MP_STATE). */
bool vcpu_is_halted(const Vcpu *v) RUNS_IN_VCPU;

/* The calling vCPU runs no more guest code until it was parked and unparked. Nothing in other
 * threads. */
void vcpu_halt_self(void) ANY_THREAD;

#endif
