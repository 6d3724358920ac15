/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU's inside: vcpu.c (threads, parking) and vcpu_exit.c (exits). */
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
    bool halted;       /* the vCPU's own: runs nothing until parked */
    bool exit_pending; /* the vCPU's own: the last exit must be finished by KVM_RUN */
    bool held;         /* main: stays parked when the others are let go */

    _Atomic unsigned requests;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    VcpuCall *calls;       /* lock: oldest first; VCPU_REQ_CALL is set while there are any */
    unsigned parking;      /* lock: counts the requests to park */
    unsigned told_parking; /* lock: the last of them that main was told of */
};

struct VcpuSet {
    VcpuSetConfig config;
    Vcpu *vcpus;
    unsigned count;
    const VcpuDebugger *_Atomic debugger;
    void *debugger_opaque;     /* before debugger is set */
    bool parked;               /* main's view */
    _Atomic unsigned unparked; /* vCPUs that have yet to park */
    CoToken parker;
};

/* Runs the guest until it leaves, and handles that. */
void vcpu_run_once(Vcpu *v) RUNS_IN_VCPU;

#endif
