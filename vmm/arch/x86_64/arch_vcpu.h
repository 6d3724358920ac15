/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64 vCPUs: CPUID, power-on state, reset, register dump. */
#ifndef SKIFF_VMM_ARCH_X86_64_ARCH_VCPU_H
#define SKIFF_VMM_ARCH_X86_64_ARCH_VCPU_H

#include "vmm/arch/arch.h"
#include "vmm/arch/smp.h"
#include "vmm/arch/x86_64/cpuid.h"

struct ArchCpus {
    X86Cpuid *cpuid;
    SmpTopology topology;
    const Kvm *kvm;
    struct kvm_msr_list *msr_list; /* MSRs that KVM saves */
};

/* Queries KVM's CPUID and applies -cpu and -smp. */
bool x86_cpus_init(ArchCpus *cpus, const Kvm *kvm, const X86CpuModel *model,
                   const SmpTopology *topology, GError **error) ANY_THREAD;

#endif
