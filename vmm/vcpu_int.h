/* SPDX-License-Identifier: Apache-2.0 */
/* The vCPU's inside: vcpu.c (threads, parking) and vcpu_exit.c (exits). */
#ifndef SKIFF_VMM_VCPU_INT_H
#define SKIFF_VMM_VCPU_INT_H

#include <stdatomic.h>
#include "vmm/vcpu.h"

enum { VCPU_REQ_PARK = 1, VCPU_REQ_END = 2 };

typedef struct VcpuCall {
    void (*fn)(Vcpu *v, void *opaque); /* in the vCPU's thread */
    void *opaque;
    CoToken caller;
} VcpuCall;

struct Vcpu {
    VcpuSet *set;
    unsigned index;
    char name[16];
    pthread_t thread;
    bool started;
    int fd;
    struct kvm_run *run;
    ArchVcpu *arch;
    GError *create_error;
    bool halted;       /* the vCPU's own: runs nothing until parked */
    bool exit_pending; /* the vCPU's own: the last exit must be finished by KVM_RUN */

    _Atomic unsigned requests;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    VcpuCall *call;        /* lock */
    unsigned parking;      /* lock: counts the requests to park */
    unsigned told_parking; /* lock: the last of them that main was told of */
};

struct VcpuSet {
    VcpuSetConfig config;
    Vcpu *vcpus;
    unsigned count;
    bool parked;               /* main's view */
    _Atomic unsigned unparked; /* vCPUs that have yet to park */
    CoToken parker;
};

/* Runs the guest until it leaves, and handles that. */
void vcpu_run_once(Vcpu *v) RUNS_IN_VCPU;

#endif
