/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID feature bits by name, shared by -cpu and the leaves' construction. */
#ifndef SKIFF_VMM_X86_64_CPUID_INT_H
#define SKIFF_VMM_X86_64_CPUID_INT_H

#include "vmm/x86_64/cpuid.h"

typedef enum CpuidRegister { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX } CpuidRegister;

/* Who decides about a feature when the user does not. */
typedef enum X86FeatureSource {
    X86_FEATURE_FROM_HOST,    /* as KVM offers */
    X86_FEATURE_FROM_MACHINE, /* the machine or the topology provides it on any host */
    X86_FEATURE_OPT_IN,       /* as KVM offers, but only when asked for */
    X86_FEATURE_HINT,         /* off unless asked for, on any host */
} X86FeatureSource;

typedef struct X86Feature {
    const char *name;
    uint32_t function, index;
    CpuidRegister reg;
    uint8_t bit;
    X86FeatureSource source;
} X86Feature;

/* Several rows may share a name (kvmclock has two bits); they go together. */
extern const X86Feature x86_features[];
extern const unsigned x86_feature_count;

/* Other spellings of the same feature, in QEMU and the kernel: their row's name, or @name. */
const char *x86_feature_canonical_name(const char *name);

/* Bits the code asks for by itself. */
#define CPUID1_ECX_TSC_DEADLINE (1u << 24)
#define CPUID1_ECX_XSAVE (1u << 26)
#define CPUID1_ECX_OSXSAVE (1u << 27)
#define CPUID1_ECX_AVX (1u << 28)
#define CPUID1_ECX_HYPERVISOR (1u << 31)
#define CPUID1_ECX_PDCM (1u << 15)
#define CPUID1_EDX_HT (1u << 28)
#define CPUID7_EBX_SGX (1u << 2)
#define CPUID7_EBX_MPX (1u << 14)
#define CPUID7_EBX_AVX512F (1u << 16)
#define CPUID7_ECX_PKU (1u << 3)
#define CPUID7_EDX_AMX_TILE (1u << 24)
#define CPUID81_ECX_CMP_LEGACY (1u << 1)
#define CPUID81_ECX_TOPOEXT (1u << 22)
#define CPUID81_ECX_PERFCTR_CORE (1u << 23)

#endif
