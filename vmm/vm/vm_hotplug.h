/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices that are plugged and unplugged while the VM lives: device_add and device_del.
 *
 * Each begins as a control operation: a coroutine in main, under the VM operation lock. A new device is
 * realized (the guest sees it from then on), started if the VM runs, and announced. To remove a
 * device, main requests it from the guest, which ejects it or not; the ejection is a message from a
 * vCPU, which does not wait. A device without a slot (a SCSI disk, a port of virtio-serial), and one
 * that the guest has not found, is removed without a request. A reset of the guest counts as the
 * ejection.
 *
 * A removal is a coroutine of its own (vm_removal.c):
 *
 *   marked: Device.leaving    under the lock
 *     | its children are gone
 *   retiring                  no lock: takes back its queues, waits for what is in flight, however long
 *     |
 *   retired                   under the lock, by the coroutine or by a reset: unrealized, freed,
 *                             DEVICE_DELETED
 *
 * Invariants
 *   1. A device that leaves is not started, gets no children, and keeps its id, slot and disk until it
 *      is freed.
 *   2. Nothing waits for storage under the lock: an operation meets a device that leaves with its
 *      queues at home or taken back, and may stop it again.
 *   3. Each device is freed once, under the lock, after the devices on its buses.
 */
#ifndef SKIFF_VMM_VM_VM_HOTPLUG_H
#define SKIFF_VMM_VM_VM_HOTPLUG_H

#include "hw/core/device.h"

typedef struct Vm Vm;
typedef struct VmRemoval VmRemoval;

/* In main. */
typedef struct VmHotplug {
    bool unplugging;     /* a coroutine looks for ejected devices */
    bool ejected;        /* ... and has to scan again */
    GPtrArray *removals; /* VmRemoval; not done */
    CoQueue progress;    /* woken when a removal is retired or done */
    GPtrArray *plugged;  /* Device that came since the start; borrowed */
    char *removed;       /* the first of the start's devices that has gone; NULL: none has */
    uint64_t changes;    /* devices that have come or gone since the start */
} VmHotplug;

void vm_hotplug_init(Vm *vm) RUNS_IN_MAIN;
/* No removal is under way. */
void vm_hotplug_clear(Vm *vm) RUNS_IN_MAIN;

/* False + error names a device that is being removed: its state is half gone. */
bool vm_check_no_removal(const Vm *vm, GError **error) RUNS_IN_MAIN;
/* The first device that came or went since the start, "device 'ID' was ...", so that the command line makes another
 * machine. NULL: none. The caller owns it. */
char *vm_devices_changed(const Vm *vm) RUNS_IN_MAIN;
/* Before vm_co_plug(), without the operation lock: waits for a process that is to serve the device. *@opened: the
 * device, or NULL if there is nothing to wait for. False + error, as of vm_co_plug(). */
bool vm_co_open_device(Vm *vm, const OptDict *opts, Device **opened, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock. @opts (borrowed) with "driver"; @opened (taken) is of vm_co_open_device(). NULL + error in
 * QEMU's words. */
Device *vm_co_plug(Vm *vm, const OptDict *opts, Device *opened, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Under the operation lock: requests @dev from the guest, or begins its removal where no request is
 * needed. *@removal: that, for vm_removal_co_settle(); NULL: none was begun. */
bool vm_unplug(Vm *vm, Device *dev, VmRemoval **removal, GError **error) RUNS_IN_MAIN;
/* Without the lock: waits for the end of the removal, at most so long. Returns whether it has ended;
 * otherwise it goes on. Frees the caller's reference. */
bool vm_removal_co_settle(VmRemoval *r, int64_t timeout_ns) coroutine_fn RUNS_IN_MAIN;
/* VM_REQUEST_UNPLUG: starts the removal of ejected devices; returns at once. */
void vm_take_ejected(Vm *vm) RUNS_IN_MAIN;
/* At a reset (STOPPED, operation lock): removes requested and ejected devices, and those that leave. */
void vm_co_finish_unplugs(Vm *vm) coroutine_fn RUNS_IN_MAIN;

/* Of vm_hotplug.c and vm_removal.c; under the operation lock. */
/* Begins the removal of @dev and of the devices on its buses. */
VmRemoval *vm_begin_removal(Vm *vm, Device *dev) RUNS_IN_MAIN;
/* Removes a device that was never started. No event. */
void vm_co_drop_device(Vm *vm, Device *dev) coroutine_fn RUNS_IN_MAIN;

#endif
