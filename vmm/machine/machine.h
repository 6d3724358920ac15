/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's hardware: RAM, address spaces, devices, vCPUs. The board builds it; vmm/vm operates
 * it. All in main.
 */
#ifndef SKIFF_VMM_MACHINE_MACHINE_H
#define SKIFF_VMM_MACHINE_MACHINE_H

#include "hw/core/device.h"
#include "hw/pci/pci.h"
#include "vmm/arch/arch.h"
#include "vmm/backends/backends.h"
#include "vmm/vcpu/vcpu.h"

typedef struct Board Board; /* the board's own state */

typedef struct VmMachine {
    const MachineConfig *config;
    Backends *backends;
    Kvm kvm;
    MemoryBackend *memory; /* the machine's RAM */
    GuestRam ram;
    AddressSpace *mmio, *pio;
    MachineOps ops;
    Machine hw; /* the machine as devices see it */
    DeviceEnv env;
    Board *board;
    PciBus *pci;
    GPtrArray *devices; /* Device, in order of creation: started in it, stopped in reverse */
    unsigned anonymous_devices, board_devices; /* counted, for Device.path */
    VcpuSet *vcpus;
} VmMachine;

/* Makes an empty machine. @config and @backends are borrowed for as long as it lives. */
void machine_init(VmMachine *m, const MachineConfig *config, Backends *backends) RUNS_IN_MAIN;
/* Chooses the machine's RAM: -machine's backend, or memory of -m's size: anonymous, or a memfd if a device
 * shares it with another process. */
bool machine_choose_memory(VmMachine *m, GError **error) RUNS_IN_MAIN;
/* Fills in `ops`, `hw` and `env`, which are passed to devices; the VM adds its callbacks. */
void machine_fill_env(VmMachine *m, AioContext *main_ctx) RUNS_IN_MAIN;

/* object-del. Refused while something uses the object. Under the operation lock, so devices do not
 * change. */
bool machine_co_del_object(VmMachine *m, const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- machine_devices.c ---- */
/* Creates, configures, realizes and keeps a device of the board. @opts (borrowed) without "driver";
 * NULL: defaults. NULL + error. */
Device *machine_co_add_device(VmMachine *m, const char *type, const char *id, const OptDict *opts,
                              GError **error) coroutine_fn RUNS_IN_MAIN;
/* Creates all of -device, then @implied (OptDict, as of -device; NULL: none). */
bool machine_co_add_user_devices(VmMachine *m, const GPtrArray *implied, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* machine_co_add_device() for a user's device: @opts has "driver", which was checked, and "id",
 * which is free. @opened (taken; NULL: none) was opened with the same @opts. */
Device *machine_co_make_user_device(VmMachine *m, const OptDict *opts, Device *opened,
                                    GError **error) coroutine_fn RUNS_IN_MAIN;
/* The part of it that may take seconds and needs no VM operation lock: device_co_open(). NULL + error. */
Device *machine_co_open_user_device(VmMachine *m, const OptDict *opts, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Closes and frees a device that was opened, and not taken. NULL is fine. */
void machine_co_drop_opened(Device *dev) coroutine_fn RUNS_IN_MAIN;
/* Finds a device by its id or its path ("/machine/peripheral/ID"). */
Device *machine_find_device(VmMachine *m, const char *id) RUNS_IN_MAIN;
/* The first device of type @type, or NULL. */
Device *machine_find_type(const VmMachine *m, const char *type) RUNS_IN_MAIN;
/* The device that provides bus @bus ("virtio-serial"): the one with the user's id (@wanted is "id" or
 * "id.0"), or with @wanted NULL the last of its kind. NULL: there is none. */
Device *machine_find_bus(VmMachine *m, const char *bus, const char *wanted) RUNS_IN_MAIN;
/* Why skiff lacks QEMU's device type @name, and what to use; NULL: nothing is known about it. */
const char *machine_lacking_device_type(const char *name) ANY_THREAD;
/* The user's type whose name is nearest, or NULL. */
const char *machine_nearest_device_type(const char *name) ANY_THREAD;
/* The QOM path of the device's virtio part: "/machine/peripheral/ID/virtio-backend", with a number
 * where it has no id. To be freed. */
char *machine_device_backend_path(const Device *dev) ANY_THREAD;

#endif
