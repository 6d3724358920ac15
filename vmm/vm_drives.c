/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/vm.h"

bool vm_co_open_drives(Vm *vm, GError **error)
{
    if (vm->config->drives->len == 0 && vm->config->blockdevs->len == 0) {
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "this version has no disks");
    return false;
}

void vm_co_drain_drives(Vm *vm)
{
    (void)vm;
}
