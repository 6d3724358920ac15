/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that come and go while the VM lives: device_add and device_del.
 *
 * Each is a control operation: a coroutine in main, under the VM operation lock. A device comes so:
 * realized (the guest sees it from then on), started if the VM runs, announced. It goes by the
 * guest's leave: the guest is asked, and ejects it, or not; the ejection is a message from a vCPU,
 * which does not wait. Main then takes the device apart: its queues come back, nothing is in
 * flight, it is unrealized, freed, and DEVICE_DELETED is told. What hangs from no slot (a port of
 * virtio-serial) goes at once. A reset of the guest counts as its leave.
 */
#ifndef SKIFF_VMM_VM_VM_HOTPLUG_H
#define SKIFF_VMM_VM_VM_HOTPLUG_H

#include "hw/core/device.h"

typedef struct Vm Vm;

/* In main. */
typedef struct VmHotplug {
    bool unplugging; /* a coroutine takes apart what the guest has ejected */
    bool ejected;    /* ... and has to look again */
} VmHotplug;

/* Under the operation lock. @opts (borrowed) with "driver". NULL + error in QEMU's words. */
Device *vm_co_plug(Vm *vm, const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: asks the guest for @dev, or takes it apart where the guest need not be
 * asked. */
bool vm_co_unplug(Vm *vm, Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* VM_REQUEST_UNPLUG: takes apart what the guest has ejected; returns at once. */
void vm_take_ejected(Vm *vm) RUNS_IN_MAIN;
/* At a reset (STOPPED, operation lock): takes apart what was asked for or ejected. */
void vm_co_finish_unplugs(Vm *vm) coroutine_fn RUNS_IN_MAIN;

#endif
