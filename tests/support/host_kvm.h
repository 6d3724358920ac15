/* SPDX-License-Identifier: Apache-2.0 */
/* For tests on /dev/kvm: a VM and the shared state of its vCPUs, of the host's model. The test
 * creates the vCPUs itself. Any failure ends the program. */
#ifndef SKIFF_TESTS_SUPPORT_HOST_KVM_H
#define SKIFF_TESTS_SUPPORT_HOST_KVM_H

#include "vmm/arch/x86_64/arch_vcpu.h"
#include "vmm/arch/x86_64/boot_state.h"

/* Start address of small guests of machine code, and the reset state for it: 32 bits, flat. */
#define HOST_KVM_CODE 0x1000u
extern const BootState host_kvm_boot;

/* @ram is the guest's RAM; @count vCPUs, one per core. */
RUNS_IN_MAIN void host_kvm_open(Kvm *kvm, ArchCpus *cpus, const GuestRam *ram, unsigned count);
/* A vCPU in real mode. Its code, at HOST_KVM_CODE of @ram, stores AL at DS:BX, loads AH from there and
 * does port I/O, again and again. */
typedef struct HostVcpu {
    int fd;
    struct kvm_run *run;
    size_t run_size;
} HostVcpu;
void host_vcpu_open(HostVcpu *v, const Kvm *kvm, uint8_t *ram);
void host_vcpu_close(HostVcpu *v);
/* The code begins anew at the next run, and stores @value at @gpa, below 1 MiB. */
void host_vcpu_begin(HostVcpu *v, uint32_t gpa, uint8_t value);

/* Called after the vCPUs are gone. */
RUNS_IN_MAIN void host_kvm_close(Kvm *kvm, ArchCpus *cpus);

#endif
