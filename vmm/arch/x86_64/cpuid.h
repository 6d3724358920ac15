/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's CPUID: what KVM offers on this host, changed by -cpu, with the topology of -smp. Any
 * thread; no KVM calls in here. Source: Intel SDM vol. 2A "CPUID", AMD APM vol. 3 appendix E, KVM
 * cpuid.rst.
 */
#ifndef SKIFF_VMM_ARCH_X86_64_CPUID_H
#define SKIFF_VMM_ARCH_X86_64_CPUID_H

#include <glib.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include "vmm/arch/smp.h"

/* ---- -cpu ---- */
#define X86_CPU_MAX_FEATURES 320
#define X86_VENDOR_LENGTH 12

typedef enum X86FeatureWish {
    X86_FEATURE_AS_HOST,
    X86_FEATURE_ON, /* required: an error when the host lacks it */
    X86_FEATURE_OFF,
} X86FeatureWish;

typedef struct X86CpuModel {
    uint8_t wish[X86_CPU_MAX_FEATURES]; /* X86FeatureWish, by index in the table of names */
    bool kvm;                           /* kvm=off hides the KVM leaves */
    bool pmu;                           /* pmu=off hides the performance counters */
    bool migratable;                    /* hides what other hosts may lack (invtsc) */
    unsigned phys_bits;                 /* 0: the host's */
    char vendor[X86_VENDOR_LENGTH + 1]; /* empty: the host's */
} X86CpuModel;

/* Parses `host|max[,+feature][,-feature][,feature=on|off][,kvm=on|off][,pmu=on|off]
 * [,migratable=on|off][,phys-bits=n][,host-phys-bits=on|off][,vendor=12 characters]`, names as QEMU spells them; NULL is `host`. */
bool x86_cpu_model_parse(const char *text, X86CpuModel *model, GError **error) ANY_THREAD;
/* Calls @each for every feature name, for -cpu help. */
void x86_cpu_feature_foreach(void (*each)(const char *name, void *opaque), void *opaque) ANY_THREAD;

/* ---- topology ---- */
/* APIC id of processor @index (0..cpus-1); its vCPU is created with the same id, since KVM's local
 * APIC starts with that. Fields of the id are as wide as the counts need. */
uint32_t x86_apic_id(const SmpTopology *topology, unsigned index) ANY_THREAD;

/* ---- CPUID ---- */
#define X86_BRAND_LEAF UINT32_C(0x80000002) /* the first of three */
#define X86_BRAND_LEAVES 3

/* KVM's capabilities, collected by the caller. */
typedef struct X86CpuidHost {
    const struct kvm_cpuid2 *supported; /* KVM_GET_SUPPORTED_CPUID */
    bool tsc_deadline;                  /* KVM_CAP_TSC_DEADLINE_TIMER */
    /* The host processor's name, EAX to EDX of each leaf; KVM does not report it. All zero: the
     * processor has none. */
    uint32_t brand[X86_BRAND_LEAVES][4];
} X86CpuidHost;

typedef struct X86Cpuid X86Cpuid;

/* The leaves that all processors share. NULL + error that names each feature requested with `+` and
 * not offered. */
X86Cpuid *x86_cpuid_new(const X86CpuidHost *host, const X86CpuModel *model,
                        const SmpTopology *topology, GError **error) ANY_THREAD;
void x86_cpuid_free(X86Cpuid *cpuid) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(X86Cpuid, x86_cpuid_free)
/* For KVM_SET_CPUID2 of processor @index; owned by the caller (g_free). */
struct kvm_cpuid2 *x86_cpuid_for_cpu(const X86Cpuid *cpuid, unsigned index) ANY_THREAD;
/* EAX and EDX of leaf 1, as SMBIOS identifies the processor. */
void x86_cpuid_signature(const X86Cpuid *cpuid, uint32_t *version, uint32_t *features) ANY_THREAD;
/* The guest's number of physical address bits; the board places its windows below that. */
unsigned x86_cpuid_phys_bits(const X86Cpuid *cpuid) ANY_THREAD;

#endif
