/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM: everything one skiff process runs, and who owns what. There is one; it lives until the
 * process ends.
 *
 * Built by vm_co_build() as a coroutine on the main loop (start-up runs the normal loop), then
 * driven through its run state. vm_events.c decides what a power-off, reset, panic or failure does,
 * and with which status the process ends.
 */
#ifndef SKIFF_VMM_VM_VM_H
#define SKIFF_VMM_VM_VM_H

#include "hw/core/device.h"
#include "hw/pci/pci.h"
#include "util/loop/iothread.h"
#include "vmm/arch/arch.h"
#include "vmm/config.h"
#include "vmm/exit_status.h"
#include "vmm/backends/memory.h"
#include "hw/core/run_state.h"
#include "vmm/vcpu/vcpu.h"

typedef struct Board Board; /* the architecture's board file keeps what it needs there */

/* Who wants to know what happens to the VM: QMP, the gdbstub. All called in main; none yields. */
typedef struct VmListener {
    /* RunStateOps.changed. */
    void (*run_changed)(struct VmListener *l, RunPhase phase, StopReason reason);
    /* The machine was reset and has not started again. Under the operation lock. */
    void (*reset)(struct VmListener *l);
    struct VmListener *next;
} VmListener;

/* Why the VM ends or is reset: QEMU's ShutdownCause, of which from VM_CAUSE_GUEST_SHUTDOWN on are
 * the guest's doing. */
typedef enum VmCause {
    VM_CAUSE_NONE,
    VM_CAUSE_HOST_ERROR, /* KVM cannot go on; the time is over */
    VM_CAUSE_HOST_QMP_QUIT,
    VM_CAUSE_HOST_QMP_SYSTEM_RESET,
    VM_CAUSE_HOST_SIGNAL,
    VM_CAUSE_HOST_UI,
    VM_CAUSE_GUEST_SHUTDOWN,
    VM_CAUSE_GUEST_RESET,
    VM_CAUSE_GUEST_PANIC,
    VM_CAUSE_COUNT,
} VmCause;
extern const char *const vm_cause_names[VM_CAUSE_COUNT + 1]; /* "none", "host-error", ...; NULL */

/* What is made of the guest's deeds: -no-reboot, -no-shutdown, -action, then QMP's set-action. */
typedef struct VmActions {
    bool no_reboot, no_shutdown;
    PanicAction panic;
} VmActions;

/* A monitor on a chardev: QMP (control) or for humans. */
typedef struct VmMonitor {
    char *chardev;      /* its id */
    const char *option; /* by which it was asked for, without dash; static */
    bool control, pretty;
} VmMonitor;

typedef struct Vm {
    const VmConfig *config;
    AioContext *ctx; /* main's */
    Kvm kvm;
    GPtrArray *iothreads;       /* IoThread; [0] is the default one */
    GPtrArray *memory_backends; /* MemoryBackend, by -object */
    MemoryBackend *memory;      /* the machine's RAM */
    GuestRam ram;
    AddressSpace *mmio, *pio;
    MachineOps machine_ops;
    Machine machine;
    DeviceEnv env;
    Board *board;
    PciBus *pci;
    GPtrArray *devices; /* Device, in the order they were made: started in it, stopped in reverse */
    unsigned anonymous_devices, board_devices; /* counted, for Device.path */
    bool unplugging;     /* a coroutine takes apart what the guest has ejected; see vm_hotplug.h */
    bool ejected;        /* ... and has to look again */
    GPtrArray *drives;   /* of -drive */
    GPtrArray *serials;  /* char *: chardev id of each serial port; NULL: there is no such port */
    char *debugcon;      /* chardev id, or NULL */
    GPtrArray *monitors; /* VmMonitor */
    Chardev *console;    /* the first serial port's; its last lines are shown on a time-out */
    VcpuSet *vcpus;
    RunState run;

    VmListener *listeners;
    bool built; /* vm_co_build() has succeeded */

    VmActions actions;
    VmListener event_listener;
    bool told_running;   /* by the last of STOP and RESUME */
    VmCause reset_cause; /* of the reset that waits or is under way */
    bool kept_panicked; /* stopped, or about to be, as it has panicked: until it starts or resets */
    unsigned kept_events; /* what the guest asked for beyond that, for when it goes on */

    /* ending: main */
    AioTimer timeout_timer;
    AioTimer quit_timer;
    bool quitting;
    ExitStatus exit_status;
    bool show_console; /* its last lines belong on standard error */

    /* -exec: main */
    struct Exec *exec;
    ExitStatus exec_end; /* what became of the VM, were it not for the command */
    VmCause exec_cause;
    bool exec_guest_over;
    bool exec_succeeded; /* the command's status is skiff's */

    /* messages from vCPUs and devices: bits by VmRequest / VcpuEvent */
    AioBh event_bh;
    _Atomic unsigned events;
    _Atomic int64_t debug_exit_value, panic_bits;
} Vm;

/* ---- vm.c ---- */
void vm_init(Vm *vm, const VmConfig *config, AioContext *ctx) RUNS_IN_MAIN;
/* Builds the machine up to STOPPED. On failure what was opened stays open: the process ends. */
bool vm_co_build(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

/* @l lives until vm_unlisten(). Members may be NULL. */
void vm_listen(Vm *vm, VmListener *l) RUNS_IN_MAIN;
void vm_unlisten(Vm *vm, VmListener *l) RUNS_IN_MAIN;

/* ---- vm_objects.c: iothreads and memory backends ---- */
/* The default iothread and all of -object. */
bool vm_co_make_objects(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* @opts (borrowed) with "qom-type" and "id". */
bool vm_co_add_object(Vm *vm, const OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Refused while something uses it. Under the operation lock: devices stay as they are. */
bool vm_co_del_object(Vm *vm, const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;
IoThread *vm_find_iothread(Vm *vm, const char *id) RUNS_IN_MAIN;    /* NULL: none */
MemoryBackend *vm_find_memory(Vm *vm, const char *id) RUNS_IN_MAIN; /* NULL: none of -object */

/* ---- vm_devices.c ---- */
/* Makes, configures, realizes and keeps a device of the board. @opts (borrowed) without "driver";
 * NULL: defaults. NULL + error. */
Device *vm_co_add_device(Vm *vm, const char *type, const char *id, const OptDict *opts,
                         GError **error) coroutine_fn RUNS_IN_MAIN;
/* All of -device, and what -drive if=virtio implies. */
bool vm_co_add_user_devices(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same for a user's device: @opts with "driver", which has been checked, and "id", which is
 * free. */
Device *vm_co_make_user_device(Vm *vm, const OptDict *opts, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* By its id, or by its path ("/machine/peripheral/ID"). */
Device *vm_find_device(Vm *vm, const char *id) RUNS_IN_MAIN;
/* The user's type whose name is nearest, or NULL. */
const char *vm_nearest_device_type(const char *name) ANY_THREAD;

/* ---- vm_chardevs.c: -chardev, -serial, -debugcon, -nographic ---- */
bool vm_co_make_chardevs(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Makes the chardev that a short spelling asks for ("stdio", "unix:PATH,server=on"), for -@option.
 * *@id is its name, for the user to claim: @label, or that of chardev:ID; NULL: none is wanted.
 * "mon:" also adds a human monitor. */
bool vm_co_open_string(const char *text, const char *label, const char *option, char **id,
                       GError **error) coroutine_fn RUNS_IN_MAIN;
/* The same where a socket that is not told what to be is a server, for whose client nobody waits.
 */
bool vm_co_open_listening(const char *text, const char *label, const char *option, char **id,
                          GError **error) coroutine_fn RUNS_IN_MAIN;
/* DeviceEnv.release_chardev. */
void vm_release_chardev(Chardev *c) ANY_THREAD;
/* DeviceEnv.find_chardev. */
Chardev *vm_claim_chardev(const char *id, const char *user, GError **error) ANY_THREAD;

/* ---- vm_monitors.c: -qmp, -qmp-pretty, -monitor, -mon, and "mon:" of others ---- */
/* A human monitor to be opened on the chardev @id (taken), which @option made ("serial"; static).
 */
void vm_add_human_monitor(Vm *vm, char *id_taken, const char *option) RUNS_IN_MAIN;
/* Their chardevs. After those of vm_co_make_chardevs(). */
bool vm_co_make_monitors(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Once the machine is built, so that its commands find it: after the devices, whose ports of a
 * shared chardev get the input first. From here on input is read. */
bool vm_open_monitors(Vm *vm, GError **error) RUNS_IN_MAIN;

/* ---- vm_drives.c: -blockdev and -drive ---- */
bool vm_co_open_drives(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* What -drive says about the device that uses it (werror=, cache=) goes into @props where they do
 * not say otherwise; `drive` becomes the name of the drive's node. */
void vm_drives_apply_defaults(Vm *vm, OptDict *props) RUNS_IN_MAIN;
/* The devices of -drive if=virtio. */
bool vm_co_add_drive_devices(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The id of the -drive that made node @node_name; "": none did. */
const char *vm_drive_of_node(Vm *vm, const char *node_name) RUNS_IN_MAIN;
/* The node of -drive id=@id; borrowed; NULL: there is none. */
struct BlockNode *vm_drive_node(Vm *vm, const char *id) RUNS_IN_MAIN;
/* Waits until nothing is in flight on any backend, and flushes them. */
void vm_co_drain_drives(Vm *vm) coroutine_fn RUNS_IN_MAIN;

/* ---- vm_io_errors.c ---- */
/* I/O errors of devices become BLOCK_IO_ERROR events. DeviceEnv.io_error is set. */
void vm_io_errors_init(Vm *vm) RUNS_IN_MAIN;
/* The VM goes on, before its devices do: no disk has stopped it. */
void vm_io_errors_forget(void) RUNS_IN_MAIN;
/* The device's path among QEMU's objects: "/machine/peripheral/ID/virtio-backend", with a number
 * where it has no id. To be freed. */
char *vm_device_backend_path(const Device *dev) ANY_THREAD;

/* ---- vm_jobs.c ---- */
/* The VM becomes its jobs' host: they end under its operation lock and tell their events. */
void vm_jobs_init(Vm *vm) RUNS_IN_MAIN;

/* ---- vm_events.c ---- */
void vm_events_init(Vm *vm) RUNS_IN_MAIN;
/* Something happened in the guest: a VmRequest or VcpuEvent. A message, taken up in main. */
void vm_request(Vm *vm, int request, int64_t detail) ANY_THREAD;
/* The same, as VcpuSetConfig.event. */
void vm_vcpu_event(void *opaque, int event) ANY_THREAD;
/* Ends the VM in an orderly way, but within VM_QUIT_BOUND_NS whatever its storage does; at once
 * when it is not built yet. The first status counts. */
void vm_quit_because(Vm *vm, ExitStatus status, VmCause cause) RUNS_IN_MAIN;
/* Because somebody at a monitor wants it. */
void vm_quit(Vm *vm, ExitStatus status) RUNS_IN_MAIN;
/* Asks for a reset, as the guest may: -no-reboot has its say. */
void vm_reset(Vm *vm, VmCause cause) RUNS_IN_MAIN;
/* Asks the guest to power off, as a person would: it decides. */
void vm_power_down(Vm *vm) RUNS_IN_MAIN;

/* ---- vm_ports.c ---- */
/* DeviceEnv.serial_port_changed. */
void vm_serial_port_changed(const Device *dev, bool open) ANY_THREAD;
/* Of how many ports something is kept: those that are open, or were within a second. */
unsigned vm_ports_known(void) RUNS_IN_MAIN;

/* ---- vm_exec.c: -exec. Without it they do nothing, return true, NULL or what they were given ----
 */
bool vm_co_open_exec(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
bool vm_co_add_exec_devices(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The chardev of its port; NULL: @id is another one's. */
Chardev *vm_exec_chardev(Vm *vm, const char *id) RUNS_IN_MAIN;
void vm_exec_port_changed(const char *port_id, bool open) RUNS_IN_MAIN;
/* The guest has come to its end, which is @status: vm_quit() follows when all the command's output
 * is written. False: no -exec, the caller goes on. */
bool vm_exec_guest_ended(Vm *vm, ExitStatus status, VmCause cause) RUNS_IN_MAIN;
/* What skiff exits with when the VM's end is @status. */
ExitStatus vm_exec_exit_status(Vm *vm, ExitStatus status) RUNS_IN_MAIN;
/* Why the status is not the command's, without a newline. Owned by the caller. */
char *vm_exec_explain(const Vm *vm) RUNS_IN_MAIN;

/* ---- the board: vmm/<arch>/ ---- */
/* Lays out RAM, builds devices from the board's table, creates vCPUs. */
bool board_co_build(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* After all devices are there: assigns PCI resources, writes firmware tables, loads the kernel;
 * vCPUs to their boot state. STOPPED. Also at reset. */
bool board_co_reset(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Before the guest has run: a device has been plugged, and what is told to the guest at its start
 * is brought up to date. */
void board_device_added(Vm *vm) RUNS_IN_MAIN;

/* Asks the guest to power off, as a person would: it decides. */
void board_press_power_button(Vm *vm) RUNS_IN_MAIN;

#endif
