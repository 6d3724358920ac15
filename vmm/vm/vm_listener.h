/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Announcements of the VM to the rooms above it (QMP, the gdb stub, -notify, -exec, dumps). The VM
 * does not depend on them.
 *
 * All callbacks run in main and do not yield. A listener may remove itself from within a callback.
 */
#ifndef SKIFF_VMM_VM_VM_LISTENER_H
#define SKIFF_VMM_VM_VM_LISTENER_H

#include "hw/core/device.h"
#include "hw/core/run_state.h"
#include "util/job/job.h"
#include "vmm/config.h"

typedef struct Vm Vm;

/* Why the VM ends or is reset: QEMU's ShutdownCause. Causes from VM_CAUSE_GUEST_SHUTDOWN on come
 * from the guest. */
typedef enum VmCause {
    VM_CAUSE_NONE,
    VM_CAUSE_HOST_ERROR, /* KVM has failed; -timeout expired */
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

/* The reaction to a guest panic. */
typedef enum VmPanicAction {
    VM_PANIC_RUN,
    VM_PANIC_PAUSE,
    VM_PANIC_POWEROFF,
} VmPanicAction;

/* A failed request of a disk. Strings are borrowed. */
typedef struct VmIoError {
    const char *path; /* of the device: "/machine/peripheral/ID/virtio-backend" */
    const char *node; /* name of the block node */
    bool is_read;
    DeviceIoAction action;
    int error; /* errno value */
} VmIoError;

/* Members may be NULL. */
typedef struct VmListener VmListener;
struct VmListener {
    /* The run state has moved: RunStateOps.changed. */
    void (*run_changed)(VmListener *l, RunPhase phase, StopReason reason);
    /* The machine was reset and has not started again. Under the operation lock. */
    void (*reset)(VmListener *l, VmCause cause);
    /* The memory of the stopped VM is captured, or replaced. @begin: takes out what the listener has put there; else puts it
     * back, where memory is as it was. Under the operation lock. */
    void (*memory_used)(VmListener *l, bool begin);
    /* The guest has ended. @leaving: skiff exits; otherwise the VM stops (-no-shutdown). With
     * @leaving it is called once. */
    void (*ending)(VmListener *l, VmCause cause, bool leaving);
    /* A coroutine, after `ending` with @leaving: waits until what that has cancelled is over and cleared up. Removes @l.
     * skiff exits at the bound of its end whether or not it returns. */
    void (*co_leave)(VmListener *l);
    /* @crash_loaded: the guest's own crash kernel takes over. */
    void (*panicked)(VmListener *l, bool crash_loaded, VmPanicAction action);
    /* A watchdog device has expired. Called before the action. */
    void (*watchdog_expired)(VmListener *l, WatchdogAction action);
    /* The power button was pressed. */
    void (*power_asked)(VmListener *l);
    /* A device has gone. @id may be NULL. */
    void (*device_deleted)(VmListener *l, const char *id, const char *path);
    /* A request of a disk has failed. When there are too many to announce, the log has the number
     * of the others. */
    void (*io_error)(VmListener *l, const VmIoError *e);
    /* The guest has opened or closed its side of the virtio-serial port @id. */
    void (*port_changed)(VmListener *l, const char *id, bool open);
    /* The guest has changed the size of the balloon; @actual bytes of memory are left to it. */
    void (*balloon_changed)(VmListener *l, uint64_t actual);
    /* The tray of the drive @id, which is an id or a path, has moved. @drive: the id of its -drive,
     * or empty. */
    void (*tray_moved)(VmListener *l, const char *drive, const char *id, bool open);
    /* The guest has changed the receive filter of a NIC, for the first time since the filter was read. @id may
     * be NULL. */
    void (*rx_filter_changed)(VmListener *l, const char *id, const char *path);
    /* JobHost.event and JobHost.io_error. */
    void (*job)(VmListener *l, const Job *job, JobEvent event);
    void (*job_io_error)(VmListener *l, const Job *job, bool is_read, JobErrorAction action);
    /* A block export has gone. */
    void (*export_deleted)(VmListener *l, const char *id);

    /* set by vm_listen() */
    Vm *vm;
    VmListener *next;
};

/* Adds @l (borrowed) until vm_unlisten(). The newest listener is called first. */
void vm_listen(Vm *vm, VmListener *l) RUNS_IN_MAIN;
/* Does nothing if @l does not listen. */
void vm_unlisten(Vm *vm, VmListener *l) RUNS_IN_MAIN;

/* Calls `co_leave` of all listeners that have one. No operation lock is held. */
void vm_listeners_co_leave(Vm *vm) coroutine_fn RUNS_IN_MAIN;
/* Calls a member of all listeners of @vm (a Vm *): VM_ANNOUNCE(vm, reset, cause). */
#define VM_ANNOUNCE(vm, member, ...)                                                               \
    for (VmListener *l_ = (vm)->listeners, *next_; l_ != NULL; l_ = next_) {                       \
        next_ = l_->next;                                                                          \
        if (l_->member != NULL) {                                                                  \
            l_->member(l_, ##__VA_ARGS__);                                                         \
        }                                                                                          \
    }

#endif
