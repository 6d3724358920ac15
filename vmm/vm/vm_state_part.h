/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a room above the VM has in the saved state of the machine, such as -exec: a section of its own. The state
 * of devices is not among it, nor that of KVM. All in main.
 */
#ifndef SKIFF_VMM_VM_VM_STATE_PART_H
#define SKIFF_VMM_VM_VM_STATE_PART_H

#include "util/state/state.h"
#include "vmm/vm/vm_listener.h"

typedef struct VmStatePart VmStatePart;
struct VmStatePart {
    const char *instance; /* of the section: "/exec" */
    const StateDesc *desc;
    /* Fills in @object, a struct of @desc, which is zero. The VM is stopped. */
    void (*save)(const VmStatePart *p, void *object);
    /* Whether the load of @object is possible; NULL: the stream has no such section. Changes nothing. False + error. */
    bool (*check)(const VmStatePart *p, const void *object, GError **error);
    /* Goes on from what has been checked, after all devices. */
    void (*load)(const VmStatePart *p, const void *object);
    VmStatePart *next; /* set by vm_add_state_part() */
};

/* @part is borrowed for as long as the VM lives. */
void vm_add_state_part(Vm *vm, VmStatePart *part) RUNS_IN_MAIN;

#endif
