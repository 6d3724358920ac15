/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID feature bits by name, shared by -cpu and the leaves' construction. */
#ifndef SKIFF_VMM_ARCH_X86_64_CPUID_INT_H
#define SKIFF_VMM_ARCH_X86_64_CPUID_INT_H

#include "vmm/arch/x86_64/cpuid.h"

typedef enum CpuidRegister { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX } CpuidRegister;

/* What decides about a feature when the user does not. */
typedef enum X86FeatureSource {
    X86_FEATURE_FROM_HOST,    /* as KVM offers */
    X86_FEATURE_FROM_MACHINE, /* the machine or the topology provides it on any host */
    X86_FEATURE_OPT_IN,       /* as KVM offers, but only when requested */
    X86_FEATURE_HINT,         /* off unless requested, on any host */
} X86FeatureSource;

/* XSAVE state components that several features use. Intel SDM vol. 1 §13.1 */
typedef enum X86State {
    X86_STATE_NONE, /* x87 and SSE, or nothing to save */
    X86_STATE_AVX,
    X86_STATE_MPX,
    X86_STATE_AVX512,
    X86_STATE_PKRU,
    X86_STATE_AMX,
} X86State;

typedef struct X86Feature {
    const char *name;
    uint32_t function, index;
    CpuidRegister reg;
    uint8_t bit;
    X86FeatureSource source;
    X86State state;
} X86Feature;

/* Several rows may share a name (kvmclock has two bits); they go together. */
extern const X86Feature x86_features[];
extern const unsigned x86_feature_count;

/* Maps other spellings of a feature, in QEMU and the kernel, to its row's name; otherwise returns
 * @name. */
const char *x86_feature_canonical_name(const char *name);

/* ---- entries: arrays of struct kvm_cpuid_entry2 ---- */
/* NULL when there is none. */
struct kvm_cpuid_entry2 *x86_cpuid_find(GArray *entries, uint32_t function, uint32_t index);
uint32_t *x86_cpuid_register(struct kvm_cpuid_entry2 *e, CpuidRegister reg);
/* Zero for a missing leaf, as on the processor. */
uint32_t x86_cpuid_get(GArray *entries, uint32_t function, uint32_t index, CpuidRegister reg);
/* All four registers; @e may be NULL. */
void x86_cpuid_clear(struct kvm_cpuid_entry2 *e);

/* Makes leaf 0xd and the features consistent: an XSAVE component whose feature is off is removed,
 * and so are the features whose component is missing; the latter are added to @missing if -cpu
 * requested them. Called after the features of @model are applied. */
void x86_cpuid_fix_xsave(GArray *entries, const X86CpuModel *model, GString *missing);

/* Bits that the code uses itself. */
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
#define CPUID7_EBX_INTEL_PT (1u << 25)
#define CPUID7_ECX_PKU (1u << 3)
#define CPUID7_EDX_ARCH_LBR (1u << 19)
#define CPUID7_EDX_AMX_TILE (1u << 24)
#define CPUIDD1_EAX_XSAVEC (1u << 1)
#define CPUIDD1_EAX_XSAVES (1u << 3)
#define CPUID81_ECX_CMP_LEGACY (1u << 1)
#define CPUID81_ECX_TOPOEXT (1u << 22)
#define CPUID81_ECX_PERFCTR_CORE (1u << 23)

#endif
