/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest has: RAM, address spaces, devices, vCPUs. The board builds it; what happens to it
 * is the VM's (vmm/vm). All in main.
 */
#ifndef SKIFF_VMM_MACHINE_MACHINE_H
#define SKIFF_VMM_MACHINE_MACHINE_H

#include "hw/core/device.h"
#include "hw/pci/pci.h"
#include "vmm/arch/arch.h"
#include "vmm/backends/backends.h"
#include "vmm/vcpu/vcpu.h"

typedef struct Board Board; /* what the board's file keeps */

typedef struct VmMachine {
    const MachineConfig *config;
    Backends *backends;
    Kvm kvm;
    MemoryBackend *memory; /* the machine's RAM */
    GuestRam ram;
    AddressSpace *mmio, *pio;
    MachineOps ops;
    Machine hw; /* as devices see it */
    DeviceEnv env;
    Board *board;
    PciBus *pci;
    GPtrArray *devices; /* Device, in the order they were made: started in it, stopped in reverse */
    unsigned anonymous_devices, board_devices; /* counted, for Device.path */
    VcpuSet *vcpus;
} VmMachine;

/* An empty machine. @config and @backends are borrowed for as long as it lives. */
void machine_init(VmMachine *m, const MachineConfig *config, Backends *backends) RUNS_IN_MAIN;
/* The machine's RAM: the backend that -machine names, or anonymous memory of the size that -m says.
 */
bool machine_choose_memory(VmMachine *m, GError **error) RUNS_IN_MAIN;
/* Fills in `ops`, `hw` and `env`, which devices are handed; the VM adds its callbacks. */
void machine_fill_env(VmMachine *m, AioContext *main_ctx) RUNS_IN_MAIN;

/* object-del. Refused while something uses it. Under the operation lock: devices stay as they are.
 */
bool machine_co_del_object(VmMachine *m, const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- machine_devices.c ---- */
/* Makes, configures, realizes and keeps a device of the board. @opts (borrowed) without "driver";
 * NULL: defaults. NULL + error. */
Device *machine_co_add_device(VmMachine *m, const char *type, const char *id, const OptDict *opts,
                              GError **error) coroutine_fn RUNS_IN_MAIN;
/* All of -device, then @implied (OptDict, as of -device; NULL: none). */
bool machine_co_add_user_devices(VmMachine *m, const GPtrArray *implied, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* machine_co_add_device() for a user's device: @opts with "driver", which has been checked, and
 * "id", which is free. */
Device *machine_co_make_user_device(VmMachine *m, const OptDict *opts, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* By its id, or by its path ("/machine/peripheral/ID"). */
Device *machine_find_device(VmMachine *m, const char *id) RUNS_IN_MAIN;
/* The user's type whose name is nearest, or NULL. */
const char *machine_nearest_device_type(const char *name) ANY_THREAD;
/* The path of the device's virtio part among QEMU's objects: "/machine/peripheral/ID/virtio-backend",
 * with a number where it has no id. To be freed. */
char *machine_device_backend_path(const Device *dev) ANY_THREAD;

#endif
