/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm/vm.h"

const char *const vm_cause_names[VM_CAUSE_COUNT + 1] = {
    "none",    "host-error",     "host-qmp-quit", "host-qmp-system-reset", "host-signal",
    "host-ui", "guest-shutdown", "guest-reset",   "guest-panic",           NULL,
};

void vm_listen(Vm *vm, VmListener *l)
{
    l->vm = vm;
    l->next = vm->listeners;
    vm->listeners = l;
}

void vm_unlisten(Vm *vm, VmListener *l)
{
    for (VmListener **at = &vm->listeners; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            return;
        }
    }
}

static RUNS_IN_MAIN VmListener *vm_listener_to_leave(const Vm *vm)
{
    VmListener *l = vm->listeners;
    while (l != NULL && l->co_leave == NULL) {
        l = l->next;
    }
    return l;
}

void vm_listeners_co_leave(Vm *vm)
{
    for (VmListener *l; (l = vm_listener_to_leave(vm)) != NULL;) {
        l->co_leave(l); /* it is removed: others may have come and gone */
    }
}

void vm_add_state_part(Vm *vm, VmStatePart *part)
{
    part->next = vm->state_parts;
    vm->state_parts = part;
}
