/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What KVM keeps of a machine: its vCPUs and chips. Read and written as one.
 *
 * Each vCPU is read and written in its own thread, where it has no exit pending (vcpu.h, invariant 4): what an
 * access has returned is in its registers. They come before the chips.
 *
 * Invariant: a write that fails leaves all vCPUs and chips with the state that they had.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_PARTS_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_PARTS_H

#include "hw/core/run_state.h"
#include "util/state/state_stream.h"
#include "vmm/machine/machine.h"

typedef struct MachineParts {
    ArchVmState *chips;
    unsigned count;
    ArchVcpuState *vcpus[]; /* count of them */
} MachineParts;

MachineParts *machine_parts_new(unsigned vcpus) ANY_THREAD;
void machine_parts_free(MachineParts *parts) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineParts, machine_parts_free)

/* NULL + error: KVM refuses a part, which is named. */
MachineParts *machine_parts_co_read(VmMachine *m, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* With guest RAM loaded. @parts has been checked; @before was read before. False + error: KVM refuses a part, which
 * is named. */
bool machine_parts_co_write(VmMachine *m, const MachineParts *parts, const MachineParts *before,
                            const VmStopped *token, GError **error) coroutine_fn RUNS_IN_MAIN;
/* After a write that was successful: puts back what was read before it. Should KVM refuse that now, the log says
 * so, and the machine has a part of each state. */
void machine_parts_co_put_back(VmMachine *m, const MachineParts *before, const VmStopped *token)
    coroutine_fn RUNS_IN_MAIN;

/* As sections of a stream: "/machine" has the chips, "/machine/cpu/N" a vCPU. */
bool machine_parts_save(const MachineParts *parts, StateWriter *w, GError **error) ANY_THREAD;
/* Takes the sections and checks whether this machine's vCPUs can have them. NULL + error. */
MachineParts *machine_parts_load(VmMachine *m, StateStream *s, GError **error) RUNS_IN_MAIN;

#endif
