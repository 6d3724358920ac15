/* SPDX-License-Identifier: Apache-2.0 */
#include "block/nbd/nbd.h"
#include "vmm/vm/vm.h"

static void vm_exports_co_begin(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_begin(&((Vm *)opaque)->run);
}

static void vm_exports_co_end(void *opaque)
{
    enter_main();
    enter_coroutine();
    vm_operation_end(&((Vm *)opaque)->run);
}

static void vm_exports_deleted(void *opaque, const char *id)
{
    enter_main();
    VM_ANNOUNCE((Vm *)opaque, export_deleted, id);
}

void vm_exports_init(Vm *vm)
{
    static const NbdHost host = {.co_operation_begin = vm_exports_co_begin,
                                 .co_operation_end = vm_exports_co_end,
                                 .export_deleted = vm_exports_deleted};
    nbd_init(vm->ctx, &host, vm);
}
