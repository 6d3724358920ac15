/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by vcpu.c (threads, parking) and vcpu_exit.c (exits). */
#ifndef SKIFF_VMM_VCPU_VCPU_INT_H
#define SKIFF_VMM_VCPU_VCPU_INT_H

#include <stdatomic.h>
#include "vmm/vcpu/vcpu.h"

enum { VCPU_REQ_PARK = 1, VCPU_REQ_END = 2, VCPU_REQ_CALL = 4 };

typedef struct VcpuCall {
    VcpuCallFn *fn;
    void *opaque;
    CoToken caller;
    struct VcpuCall *next;
} VcpuCall;

struct Vcpu {
    VcpuSet *set;
    unsigned index;
    char name[16];
    pthread_t thread;
    _Atomic pid_t thread_id;
    bool started;
    int fd;
    struct kvm_run *run;
    ArchVcpu *arch;
    GError *create_error;
    bool halted;       /* the vCPU's own: runs no guest code until parked */
    bool exit_pending; /* the vCPU's own: KVM_RUN must complete the last exit */
    bool held;         /* main: stays parked when the others run */
    /* BQL: the wait that a request ends (pended_cancel()); NULL: none. It is on the stack of the
     * vCPU, which clears this under the BQL before it returns from the access. */
    PendedWaiter *cancellable;

    _Atomic unsigned requests;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    VcpuCall *calls;           /* lock: oldest first; VCPU_REQ_CALL is set while there are any */
    unsigned parking;          /* lock: counts the requests to park */
    unsigned reported_parking; /* lock: the last of them that was reported to main */
};

struct VcpuSet {
    VcpuSetConfig config;
    Vcpu *vcpus;
    unsigned count;
    const VcpuDebugger *_Atomic debugger;
    void *debugger_opaque;     /* before debugger is set */
    bool parked;               /* main's view */
    _Atomic bool braked;       /* vcpus_brake() */
    _Atomic unsigned unparked; /* vCPUs that have yet to park */
    CoToken parker;
};

/* Runs the guest until an exit, and handles the exit. */
void vcpu_run_once(Vcpu *v) RUNS_IN_VCPU;

#endif
