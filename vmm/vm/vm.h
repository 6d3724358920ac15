/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM: operates the machine. It runs, stops, is reset, ends; devices are plugged and unplugged.
 * A process has one VM, which lives until the process ends. Each part is a struct in the header of
 * the file that owns it.
 *
 * startup.c builds it in a coroutine on the main loop (start-up runs the normal loop); then its run
 * state drives it. The rooms above it listen (vm_listener.h).
 */
#ifndef SKIFF_VMM_VM_VM_H
#define SKIFF_VMM_VM_VM_H

#include "vmm/machine/machine.h"
#include "vmm/vm/vm_hotplug.h"
#include "vmm/vm/vm_life.h"
#include "vmm/vm/vm_listener.h"
#include "vmm/vm/vm_state_part.h"

struct Vm {
    const VmConfig *config;
    AioContext *ctx; /* main's */
    Backends backends;
    VmMachine machine;
    RunState run;
    VmLife life;
    VmHotplug hotplug;
    VmListener *listeners;
    VmStatePart *state_parts;
    bool built; /* startup_co_build() has succeeded */
};

/* Makes an empty VM. @config and @ctx (main's) are borrowed for as long as it lives. */
void vm_init(Vm *vm, const VmConfig *config, AioContext *ctx) RUNS_IN_MAIN;
/* Builds the machine up to STOPPED, after its backends. @implied: further -device rows (OptDict),
 * created after the user's; NULL: none. On failure files stay open: the process ends. */
bool vm_co_build(Vm *vm, const GPtrArray *implied, GError **error) coroutine_fn RUNS_IN_MAIN;

/* Presses the NMI button, which is wired to LINT1 of every processor. The VM may run or be stopped. */
bool vm_co_press_nmi(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

/* ---- vm_tray.c ---- */
/* DeviceEnv.tray_moved: announces the move in main. @opaque is the Vm. */
void vm_tray_moved(void *opaque, const Device *dev, bool open) ANY_THREAD;

/* ---- vm_io_errors.c ---- */
/* DeviceEnv.io_error: announces the error in main. @opaque is the Vm. */
void vm_io_error(void *opaque, const Device *dev, const DeviceIoError *e) ANY_THREAD;
/* Clears the I/O-error status of every disk. Called before devices resume. */
void vm_io_errors_clear(void) RUNS_IN_MAIN;

/* ---- vm_jobs.c ---- */
/* Makes the VM the host of all jobs: they end under its operation lock, and it announces their
 * events. */
void vm_jobs_init(Vm *vm) RUNS_IN_MAIN;

/* ---- vm_exports.c ---- */
/* Makes the VM the host of the NBD server: exports end under its operation lock, and it announces
 * that. */
void vm_exports_init(Vm *vm) RUNS_IN_MAIN;

/* ---- vm_network.c ---- */
void vm_network_init(Vm *vm) RUNS_IN_MAIN;
/* Parameters of announce-self: @rounds announcements, the second one @initial_ms after the first; each
 * further delay is longer by @step_ms, up to @max_ms. */
typedef struct VmAnnounceParameters {
    int64_t initial_ms, max_ms, step_ms;
    unsigned rounds;
    GPtrArray *interfaces; /* char *: names of NICs; NULL: all */
} VmAnnounceParameters;
/* Begins announcements, in place of those with the same id; does not wait. Takes @p->interfaces. */
bool vm_announce_self(Vm *vm, const char *id, VmAnnounceParameters *p, GError **error) RUNS_IN_MAIN;

/* DeviceEnv.serial_port_changed: announces the change. @opaque is the Vm. Main. */
void vm_serial_port_changed(void *opaque, const Device *port, bool open) ANY_THREAD;

#endif
