/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that are plugged and unplugged while the VM lives: device_add and device_del.
 *
 * Each is a control operation: a coroutine in main, under the VM operation lock. A new device is
 * realized (the guest sees it from then on), started if the VM runs, and announced. To remove a
 * device, main requests it from the guest, which ejects it or not; the ejection is a message from a
 * vCPU, which does not wait. Then main removes the device: takes back its queues, waits until
 * nothing is in flight, unrealizes and frees it, and announces DEVICE_DELETED. A device without a
 * slot (a port of virtio-serial) is removed at once. A reset of the guest counts as the ejection.
 */
#ifndef SKIFF_VMM_VM_VM_HOTPLUG_H
#define SKIFF_VMM_VM_VM_HOTPLUG_H

#include "hw/core/device.h"

typedef struct Vm Vm;

/* In main. */
typedef struct VmHotplug {
    bool unplugging; /* a coroutine removes ejected devices */
    bool ejected;    /* ... and has to scan again */
} VmHotplug;

/* Under the operation lock. @opts (borrowed) with "driver". NULL + error in QEMU's words. */
Device *vm_co_plug(Vm *vm, const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: requests @dev from the guest, or removes it where no request is
 * needed. */
bool vm_co_unplug(Vm *vm, Device *dev, GError **error) coroutine_fn RUNS_IN_MAIN;
/* VM_REQUEST_UNPLUG: starts the removal of ejected devices; returns at once. */
void vm_take_ejected(Vm *vm) RUNS_IN_MAIN;
/* At a reset (STOPPED, operation lock): removes requested and ejected devices. */
void vm_co_finish_unplugs(Vm *vm) coroutine_fn RUNS_IN_MAIN;

#endif
