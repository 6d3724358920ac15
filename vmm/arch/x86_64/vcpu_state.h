/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is saved of an x86-64 vCPU: all that KVM keeps for it.
 *
 * Reading has side effects in KVM, which fix the order: KVM_GET_MP_STATE lets a waiting INIT or SIPI
 * happen, which changes registers, and KVM_GET_VCPU_EVENTS may move the payload of an exception to
 * CR2 or DR6. So these come first. The order of writing:
 *
 *   CPUID, TSC frequency    the other calls are checked against them
 *   MP state                before the registers: KVM resets a vCPU that becomes uninitialized
 *   IA32_FEATURE_CONTROL    0, which leaves VMX operation, then the saved value, which CR4.VMXE needs
 *   SREGS, REGS             the APIC base determines the mode of the local APIC
 *   XCRs, XSAVE, debug registers
 *   MSRs                    all but IA32_TSC_DEADLINE; the TSC continues where it was
 *   nested state            needs CR4, EFER and the VMX MSRs
 *   local APIC              needs the APIC base
 *   IA32_TSC_DEADLINE       ignored unless the local APIC's timer is in that mode; needs the TSC
 *   events                  last: nothing above may deliver or drop them
 *
 * Guest RAM is loaded before: KVM reads PAE's page directory pointers and writes the guest's clocks.
 * Source: KVM api.rst; Intel SDM vol. 3 "APIC", vol. 1 §13.
 */
#ifndef SKIFF_VMM_ARCH_X86_64_VCPU_STATE_H
#define SKIFF_VMM_ARCH_X86_64_VCPU_STATE_H

#include "util/state/state.h"
#include "vmm/arch/arch.h"
#include "vmm/arch/x86_64/arch_vcpu.h"

#define X86_STATE_MAX_CPUID 256
#define X86_STATE_MAX_MSRS 1024
/* Bytes: today's largest, with AMX's tiles, is 11008. */
#define X86_STATE_MAX_XSAVE 16384
/* The header and two pages of VMX. */
#define X86_STATE_MAX_NESTED (128 + 2 * 4096)

struct ArchVcpuState {
    uint32_t apic_id;
    uint32_t tsc_khz; /* 0: unknown */
    uint32_t mp_state;
    uint32_t cpuid_used;
    struct kvm_cpuid_entry2 cpuid[X86_STATE_MAX_CPUID];
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_lapic_state lapic;
    uint32_t xcrs_used;
    uint32_t xsave_used; /* standard format, not compacted */
    struct kvm_xcr xcrs[KVM_MAX_XCRS];
    uint8_t xsave[X86_STATE_MAX_XSAVE];
    uint32_t msrs_used;
    uint32_t nested_used; /* 0: KVM has no nested state */
    struct kvm_msr_entry msrs[X86_STATE_MAX_MSRS];
    uint8_t nested[X86_STATE_MAX_NESTED]; /* struct kvm_nested_state */
};

/* ---- MSRs (vcpu_msrs.c) ---- */
#define X86_MSR_IA32_TSC 0x10
#define X86_MSR_IA32_FEATURE_CONTROL 0x3a
#define X86_MSR_IA32_TSC_DEADLINE 0x6e0

/* Reads every MSR that a guest can change and KVM keeps: KVM's list but for what KVM computes, MTRRs, machine
 * check banks. */
bool x86_msrs_save(const ArchCpus *cpus, int vcpu_fd, ArchVcpuState *state, GError **error)
    RUNS_IN_VCPU;
/* False + error: an MSR occurs twice, or is one that this KVM does not have, with another value than
 * 0. Reads nothing of a vCPU. */
bool x86_msrs_check(const ArchCpus *cpus, const ArchVcpuState *state, GError **error) ANY_THREAD;
/* Writes those for which @wanted. False + error: KVM refuses one, which is named. One that has the
 * value already is not refused. */
bool x86_msrs_load(int vcpu_fd, const ArchVcpuState *state, bool (*wanted)(uint32_t msr),
                   GError **error) RUNS_IN_VCPU;

#endif
