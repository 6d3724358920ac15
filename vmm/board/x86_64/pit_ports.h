/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ports of the PIT and the speaker until KVM serves them: the guest's first access creates the
 * PIT.
 *
 *   absent --first access--> creating --created--> present
 *                                +------failed---> failed
 *
 * The first access is pended. A worker creates the PIT, since that waits for the kernel; the vCPU
 * waits without the BQL, and so do others that access these ports meanwhile. Then the accesses are
 * applied to the PIT, and later ones do not leave the kernel. A PIT that cannot be created ends the
 * VM.
 */
#ifndef SKIFF_VMM_BOARD_X86_64_PIT_PORTS_H
#define SKIFF_VMM_BOARD_X86_64_PIT_PORTS_H

#include "hw/core/address_space.h"
#include "util/loop/aio.h"
#include "util/loop/worker.h"
#include "vmm/kvm/kvm.h"

typedef enum PitPortsState {
    PIT_PORTS_ABSENT,
    PIT_PORTS_CREATING,
    PIT_PORTS_PRESENT,
    PIT_PORTS_FAILED,
} PitPortsState;

typedef struct PitPorts {
    Kvm *kvm;
    AioContext *ctx;
    void (*failed)(void *opaque); /* the VM is to end; called in main */
    void *opaque;
    IoRegion counters, speaker;
    PitPortsState state; /* BQL */
    Pended pended;       /* accesses that wait for the creation */
    AioBh create;
    WorkerLane lane;
    GError *error;
} PitPorts;

/* Maps the ports in @pio. @ctx is main's. All arguments are borrowed for as long as the ports are
 * mapped. */
void pit_ports_init(PitPorts *p, Kvm *kvm, AddressSpace *pio, AioContext *ctx,
                    void (*failed)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* Nothing is being created. */
void pit_ports_fini(PitPorts *p) RUNS_IN_MAIN;

#endif
