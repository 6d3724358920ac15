/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trays of CD drives: moves are sent as messages to main, announced there.
 *
 * A guest could move a tray faster than main handles messages: at most VM_TRAYS_MAX are under way,
 * and the others are not announced.
 */
#include <stdatomic.h>
#include "hw/scsi/scsi_medium.h"
#include "vmm/vm/vm.h"

#define VM_TRAYS_MAX 64u

static _Atomic unsigned vm_trays_posted;

typedef struct VmTrayMessage {
    Vm *vm;
    char *drive, *id; /* copies: the device may have been deleted */
    bool open;
} VmTrayMessage;

static void vm_tray_announce(void *opaque)
{
    enter_main();
    VmTrayMessage *m = opaque;
    atomic_fetch_sub(&vm_trays_posted, 1);
    const char *drive = backends_drive_of_medium(&m->vm->backends, m->drive);
    VM_ANNOUNCE(m->vm, tray_moved, drive, m->id, m->open);
    g_free(m->drive);
    g_free(m->id);
    g_free(m);
}

void vm_tray_moved(void *opaque, const Device *dev, bool open)
{
    Vm *vm = opaque;
    if (atomic_fetch_add(&vm_trays_posted, 1) >= VM_TRAYS_MAX) {
        atomic_fetch_sub(&vm_trays_posted, 1);
        return;
    }
    VmTrayMessage *m = g_new0(VmTrayMessage, 1);
    m->vm = vm;
    m->drive = g_strdup(((const ScsiLun *)(const void *)dev)->drive);
    m->id = g_strdup(dev->id != NULL ? dev->id : dev->path != NULL ? dev->path : dev->type->name);
    m->open = open;
    aio_post(vm->ctx, vm_tray_announce, m);
}
