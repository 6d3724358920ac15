/* SPDX-License-Identifier: Apache-2.0 */
/* The sections of a machine's state that rooms above the VM have (vmm/vm/vm_state_part.h). */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_STATE_PARTS_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_STATE_PARTS_H

#include "util/state/state_stream.h"
#include "vmm/vm/vm.h"

bool machine_state_parts_save(const Vm *vm, StateWriter *w, GError **error) RUNS_IN_MAIN;
/* The decoded and checked objects of all parts, in their order; NULL for one that the stream does not have. NULL +
 * error. */
GPtrArray *machine_state_parts_stage(const Vm *vm, StateStream *s, GError **error) RUNS_IN_MAIN;
void machine_state_parts_apply(const Vm *vm, const GPtrArray *objects) RUNS_IN_MAIN;

#endif
