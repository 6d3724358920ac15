/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a stopped machine, but for its RAM, as one stream (util/state/state_stream.h), and back.
 *
 *   HEAD           program, version; architecture, accelerator, machine, memory (bytes), cpus; cpu (-cpu's text);
 *                  directory and option.NNN (machine_options.h): the command line of this machine; changed: why it
 *                  does not make it again; addresses (machine_addresses.h)
 *   /machine       "vm": the VM's clock, whether it ran or why not. "x86-chips": interrupt controllers, timers
 *   /machine/cpu/N the vCPUs
 *   PATH           the devices (migration/device_state.h)
 *   /exec          and others: what rooms above the VM have (vmm/vm/vm_state_part.h)
 *
 *   stage   decodes the stream and checks each section against this machine; nothing changes
 *   apply   RAM has been loaded: vCPUs, chips, devices, then the run state's reason
 *
 * A machine whose devices or disks are no longer those of its command line is saved, too: its state goes to one that has
 * the same devices, by whatever way it has come to them.
 *
 * Invariants
 *   1. All but `stage` run under the VM operation lock with a VmStopped token: nothing of the machine runs.
 *   2. `apply` changes the whole machine, or leaves all as it was, but for RAM, which is the caller's.
 *   3. Saved and loaded vCPUs have no exit pending: the access of a vCPU that was parked in one is complete.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_STATE_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_STATE_H

#include "util/state/state_stream.h"
#include "vmm/vm/vm.h"

/* A finished stream, which the caller owns. NULL + error: something cannot be saved, and is named. */
GByteArray *machine_state_co_save(Vm *vm, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;

/* A load that was checked. The machine keeps its devices while it exists. */
typedef struct MachineStateLoad MachineStateLoad;
/* NULL + error names the first contradiction to this machine. @stream is not needed any more. */
MachineStateLoad *machine_state_stage(Vm *vm, const GByteArray *stream, GError **error)
    RUNS_IN_MAIN;
/* Whether the machine was to run when it was saved. Otherwise `apply` sets the reason why not. */
bool machine_state_ran(const MachineStateLoad *l) RUNS_IN_MAIN;
/* Loads what was staged, as often as wanted. False + error: KVM or a device refuses a part. */
bool machine_state_co_apply(Vm *vm, MachineStateLoad *l, const VmStopped *token, GError **error)
    coroutine_fn RUNS_IN_MAIN;
void machine_state_load_free(MachineStateLoad *l) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(MachineStateLoad, machine_state_load_free)

#endif
