/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUID leaves that describe the processors' topology, and the processor's own place in it. */
#ifndef SKIFF_VMM_ARCH_X86_64_CPUID_TOPOLOGY_H
#define SKIFF_VMM_ARCH_X86_64_CPUID_TOPOLOGY_H

#include "vmm/arch/x86_64/cpuid.h"

#define X86_LEAF_CACHES 4u
#define X86_LEAF_TOPOLOGY 0xbu
#define X86_LEAF_TOPOLOGY_V2 0x1fu
#define X86_LEAF_AMD_FEATURES 0x80000001u
#define X86_LEAF_AMD_SIZES 0x80000008u
#define X86_LEAF_AMD_CACHES 0x8000001du
#define X86_LEAF_AMD_TOPOLOGY 0x8000001eu
#define X86_BIT_TSC_DEADLINE 24 /* leaf 1, ECX */

/* Fills what all processors have in common into @entries (struct kvm_cpuid_entry2). Adds missing
 * leaves. */
void x86_cpuid_fill_topology(GArray *entries, const SmpTopology *topology, bool is_amd) ANY_THREAD;
/* Writes the APIC id of processor @index into all leaves that carry it. */
void x86_cpuid_personalize(struct kvm_cpuid2 *cpuid, const SmpTopology *topology, unsigned index)
    ANY_THREAD;

#endif
