/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of CPUID feature bits, as QEMU spells them. Intel SDM vol. 2A table 3-8 ff., AMD APM vol. 3
 * appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst. OSXSAVE and OSPKE are not here: they
 * mirror CR4.
 */
#include <string.h>

#include "vmm/arch/x86_64/cpuid_int.h"

#define F(name, function, index, reg, bit)                                                         \
    {                                                                                              \
        name, function, index, CPUID_##reg, bit, X86_FEATURE_FROM_HOST, X86_STATE_NONE             \
    }
/* Removed if the state that its instructions use is missing. */
#define S(name, function, index, reg, bit, state)                                                  \
    {                                                                                              \
        name, function, index, CPUID_##reg, bit, X86_FEATURE_FROM_HOST, X86_STATE_##state          \
    }

const X86Feature x86_features[] = {
    /* ---- leaf 0x1, EDX ---- */
    F("fpu", 0x1, 0, EDX, 0),
    F("vme", 0x1, 0, EDX, 1),
    F("de", 0x1, 0, EDX, 2),
    F("pse", 0x1, 0, EDX, 3),
    F("tsc", 0x1, 0, EDX, 4),
    F("msr", 0x1, 0, EDX, 5),
    F("pae", 0x1, 0, EDX, 6),
    F("mce", 0x1, 0, EDX, 7),
    F("cx8", 0x1, 0, EDX, 8),
    F("apic", 0x1, 0, EDX, 9),
    F("sep", 0x1, 0, EDX, 11),
    F("mtrr", 0x1, 0, EDX, 12),
    F("pge", 0x1, 0, EDX, 13),
    F("mca", 0x1, 0, EDX, 14),
    F("cmov", 0x1, 0, EDX, 15),
    F("pat", 0x1, 0, EDX, 16),
    F("pse36", 0x1, 0, EDX, 17),
    F("pn", 0x1, 0, EDX, 18),
    F("clflush", 0x1, 0, EDX, 19),
    F("ds", 0x1, 0, EDX, 21),
    F("acpi", 0x1, 0, EDX, 22),
    F("mmx", 0x1, 0, EDX, 23),
    F("fxsr", 0x1, 0, EDX, 24),
    F("sse", 0x1, 0, EDX, 25),
    F("sse2", 0x1, 0, EDX, 26),
    F("ss", 0x1, 0, EDX, 27),
    {"ht", 0x1, 0, CPUID_EDX, 28, X86_FEATURE_FROM_MACHINE, X86_STATE_NONE},
    F("tm", 0x1, 0, EDX, 29),
    F("ia64", 0x1, 0, EDX, 30),
    F("pbe", 0x1, 0, EDX, 31),
    /* ---- leaf 0x1, ECX ---- */
    F("pni", 0x1, 0, ECX, 0),
    F("pclmulqdq", 0x1, 0, ECX, 1),
    F("dtes64", 0x1, 0, ECX, 2),
    F("monitor", 0x1, 0, ECX, 3),
    F("ds-cpl", 0x1, 0, ECX, 4),
    F("vmx", 0x1, 0, ECX, 5),
    F("smx", 0x1, 0, ECX, 6),
    F("est", 0x1, 0, ECX, 7),
    F("tm2", 0x1, 0, ECX, 8),
    F("ssse3", 0x1, 0, ECX, 9),
    F("cid", 0x1, 0, ECX, 10),
    S("fma", 0x1, 0, ECX, 12, AVX),
    F("cx16", 0x1, 0, ECX, 13),
    F("xtpr", 0x1, 0, ECX, 14),
    F("pdcm", 0x1, 0, ECX, 15),
    F("pcid", 0x1, 0, ECX, 17),
    F("dca", 0x1, 0, ECX, 18),
    F("sse4.1", 0x1, 0, ECX, 19),
    F("sse4.2", 0x1, 0, ECX, 20),
    F("x2apic", 0x1, 0, ECX, 21),
    F("movbe", 0x1, 0, ECX, 22),
    F("popcnt", 0x1, 0, ECX, 23),
    {"tsc-deadline", 0x1, 0, CPUID_ECX, 24, X86_FEATURE_FROM_MACHINE, X86_STATE_NONE},
    F("aes", 0x1, 0, ECX, 25),
    F("xsave", 0x1, 0, ECX, 26),
    S("avx", 0x1, 0, ECX, 28, AVX),
    S("f16c", 0x1, 0, ECX, 29, AVX),
    F("rdrand", 0x1, 0, ECX, 30),
    {"hypervisor", 0x1, 0, CPUID_ECX, 31, X86_FEATURE_FROM_MACHINE, X86_STATE_NONE},
    /* ---- leaf 0x6, EAX ---- */
    F("arat", 0x6, 0, EAX, 2),
    /* ---- leaf 0x7.0, EBX ---- */
    F("fsgsbase", 0x7, 0, EBX, 0),
    F("tsc-adjust", 0x7, 0, EBX, 1),
    F("sgx", 0x7, 0, EBX, 2),
    F("bmi1", 0x7, 0, EBX, 3),
    F("hle", 0x7, 0, EBX, 4),
    S("avx2", 0x7, 0, EBX, 5, AVX),
    F("fdp-excptn-only", 0x7, 0, EBX, 6),
    F("smep", 0x7, 0, EBX, 7),
    F("bmi2", 0x7, 0, EBX, 8),
    F("erms", 0x7, 0, EBX, 9),
    F("invpcid", 0x7, 0, EBX, 10),
    F("rtm", 0x7, 0, EBX, 11),
    F("zero-fcs-fds", 0x7, 0, EBX, 13),
    S("mpx", 0x7, 0, EBX, 14, MPX),
    S("avx512f", 0x7, 0, EBX, 16, AVX512),
    S("avx512dq", 0x7, 0, EBX, 17, AVX512),
    F("rdseed", 0x7, 0, EBX, 18),
    F("adx", 0x7, 0, EBX, 19),
    F("smap", 0x7, 0, EBX, 20),
    S("avx512ifma", 0x7, 0, EBX, 21, AVX512),
    F("pcommit", 0x7, 0, EBX, 22),
    F("clflushopt", 0x7, 0, EBX, 23),
    F("clwb", 0x7, 0, EBX, 24),
    F("intel-pt", 0x7, 0, EBX, 25),
    S("avx512pf", 0x7, 0, EBX, 26, AVX512),
    S("avx512er", 0x7, 0, EBX, 27, AVX512),
    S("avx512cd", 0x7, 0, EBX, 28, AVX512),
    F("sha-ni", 0x7, 0, EBX, 29),
    S("avx512bw", 0x7, 0, EBX, 30, AVX512),
    S("avx512vl", 0x7, 0, EBX, 31, AVX512),
    /* ---- leaf 0x7.0, ECX ---- */
    S("avx512vbmi", 0x7, 0, ECX, 1, AVX512),
    F("umip", 0x7, 0, ECX, 2),
    S("pku", 0x7, 0, ECX, 3, PKRU),
    F("waitpkg", 0x7, 0, ECX, 5),
    S("avx512vbmi2", 0x7, 0, ECX, 6, AVX512),
    F("gfni", 0x7, 0, ECX, 8),
    S("vaes", 0x7, 0, ECX, 9, AVX),
    S("vpclmulqdq", 0x7, 0, ECX, 10, AVX),
    S("avx512vnni", 0x7, 0, ECX, 11, AVX512),
    S("avx512bitalg", 0x7, 0, ECX, 12, AVX512),
    S("avx512-vpopcntdq", 0x7, 0, ECX, 14, AVX512),
    F("la57", 0x7, 0, ECX, 16),
    F("rdpid", 0x7, 0, ECX, 22),
    F("bus-lock-detect", 0x7, 0, ECX, 24),
    F("cldemote", 0x7, 0, ECX, 25),
    F("movdiri", 0x7, 0, ECX, 27),
    F("movdir64b", 0x7, 0, ECX, 28),
    F("sgxlc", 0x7, 0, ECX, 30),
    F("pks", 0x7, 0, ECX, 31),
    /* ---- leaf 0x7.0, EDX ---- */
    S("avx512-4vnniw", 0x7, 0, EDX, 2, AVX512),
    S("avx512-4fmaps", 0x7, 0, EDX, 3, AVX512),
    F("fsrm", 0x7, 0, EDX, 4),
    S("avx512-vp2intersect", 0x7, 0, EDX, 8, AVX512),
    F("md-clear", 0x7, 0, EDX, 10),
    F("serialize", 0x7, 0, EDX, 14),
    F("tsx-ldtrk", 0x7, 0, EDX, 16),
    F("arch-lbr", 0x7, 0, EDX, 19),
    S("amx-bf16", 0x7, 0, EDX, 22, AMX),
    S("avx512-fp16", 0x7, 0, EDX, 23, AVX512),
    S("amx-tile", 0x7, 0, EDX, 24, AMX),
    S("amx-int8", 0x7, 0, EDX, 25, AMX),
    F("spec-ctrl", 0x7, 0, EDX, 26),
    F("stibp", 0x7, 0, EDX, 27),
    F("flush-l1d", 0x7, 0, EDX, 28),
    F("arch-capabilities", 0x7, 0, EDX, 29),
    F("core-capability", 0x7, 0, EDX, 30),
    F("ssbd", 0x7, 0, EDX, 31),
    /* ---- leaf 0x7.1, EAX ---- */
    S("avx-vnni", 0x7, 1, EAX, 4, AVX),
    S("avx512-bf16", 0x7, 1, EAX, 5, AVX512),
    F("lass", 0x7, 1, EAX, 6),
    F("cmpccxadd", 0x7, 1, EAX, 7),
    F("fzrm", 0x7, 1, EAX, 10),
    F("fsrs", 0x7, 1, EAX, 11),
    F("fsrc", 0x7, 1, EAX, 12),
    F("fred", 0x7, 1, EAX, 17),
    F("lkgs", 0x7, 1, EAX, 18),
    F("wrmsrns", 0x7, 1, EAX, 19),
    S("amx-fp16", 0x7, 1, EAX, 21, AMX),
    S("avx-ifma", 0x7, 1, EAX, 23, AVX),
    F("lam", 0x7, 1, EAX, 26),
    /* ---- leaf 0x7.1, EDX ---- */
    S("avx-vnni-int8", 0x7, 1, EDX, 4, AVX),
    S("avx-ne-convert", 0x7, 1, EDX, 5, AVX),
    S("amx-complex", 0x7, 1, EDX, 8, AMX),
    S("avx-vnni-int16", 0x7, 1, EDX, 10, AVX),
    F("prefetchiti", 0x7, 1, EDX, 14),
    S("avx10", 0x7, 1, EDX, 19, AVX512),
    /* ---- leaf 0x7.2, EDX ---- */
    F("intel-psfd", 0x7, 2, EDX, 0),
    F("ipred-ctrl", 0x7, 2, EDX, 1),
    F("rrsba-ctrl", 0x7, 2, EDX, 2),
    F("ddpd-u", 0x7, 2, EDX, 3),
    F("bhi-ctrl", 0x7, 2, EDX, 4),
    F("mcdt-no", 0x7, 2, EDX, 5),
    /* ---- leaf 0xd.1, EAX ---- */
    F("xsaveopt", 0xd, 1, EAX, 0),
    F("xsavec", 0xd, 1, EAX, 1),
    F("xgetbv1", 0xd, 1, EAX, 2),
    F("xsaves", 0xd, 1, EAX, 3),
    F("xfd", 0xd, 1, EAX, 4),
    /* ---- leaf 0x40000001, EAX ---- */
    F("kvmclock", 0x40000001, 0, EAX, 0),
    F("kvm-nopiodelay", 0x40000001, 0, EAX, 1),
    F("kvm-mmu", 0x40000001, 0, EAX, 2),
    F("kvmclock", 0x40000001, 0, EAX, 3),
    F("kvm-asyncpf", 0x40000001, 0, EAX, 4),
    F("kvm-steal-time", 0x40000001, 0, EAX, 5),
    F("kvm-pv-eoi", 0x40000001, 0, EAX, 6),
    F("kvm-pv-unhalt", 0x40000001, 0, EAX, 7),
    F("kvm-pv-tlb-flush", 0x40000001, 0, EAX, 9),
    F("kvm-asyncpf-vmexit", 0x40000001, 0, EAX, 10),
    F("kvm-pv-ipi", 0x40000001, 0, EAX, 11),
    F("kvm-poll-control", 0x40000001, 0, EAX, 12),
    F("kvm-pv-sched-yield", 0x40000001, 0, EAX, 13),
    F("kvm-asyncpf-int", 0x40000001, 0, EAX, 14),
    F("kvm-msi-ext-dest-id", 0x40000001, 0, EAX, 15),
    F("kvmclock-stable-bit", 0x40000001, 0, EAX, 24),
    /* ---- leaf 0x40000001, EDX ---- */
    {"kvm-hint-dedicated", 0x40000001, 0, CPUID_EDX, 0, X86_FEATURE_HINT, X86_STATE_NONE},
    /* ---- leaf 0x80000001, EDX ---- */
    F("syscall", 0x80000001, 0, EDX, 11),
    F("nx", 0x80000001, 0, EDX, 20),
    F("mmxext", 0x80000001, 0, EDX, 22),
    F("fxsr-opt", 0x80000001, 0, EDX, 25),
    F("pdpe1gb", 0x80000001, 0, EDX, 26),
    F("rdtscp", 0x80000001, 0, EDX, 27),
    F("lm", 0x80000001, 0, EDX, 29),
    F("3dnowext", 0x80000001, 0, EDX, 30),
    F("3dnow", 0x80000001, 0, EDX, 31),
    /* ---- leaf 0x80000001, ECX ---- */
    F("lahf-lm", 0x80000001, 0, ECX, 0),
    {"cmp-legacy", 0x80000001, 0, CPUID_ECX, 1, X86_FEATURE_FROM_MACHINE, X86_STATE_NONE},
    F("svm", 0x80000001, 0, ECX, 2),
    F("extapic", 0x80000001, 0, ECX, 3),
    F("cr8legacy", 0x80000001, 0, ECX, 4),
    F("abm", 0x80000001, 0, ECX, 5),
    F("sse4a", 0x80000001, 0, ECX, 6),
    F("misalignsse", 0x80000001, 0, ECX, 7),
    F("3dnowprefetch", 0x80000001, 0, ECX, 8),
    F("osvw", 0x80000001, 0, ECX, 9),
    F("ibs", 0x80000001, 0, ECX, 10),
    S("xop", 0x80000001, 0, ECX, 11, AVX),
    F("skinit", 0x80000001, 0, ECX, 12),
    F("wdt", 0x80000001, 0, ECX, 13),
    F("lwp", 0x80000001, 0, ECX, 15),
    S("fma4", 0x80000001, 0, ECX, 16, AVX),
    F("tce", 0x80000001, 0, ECX, 17),
    F("nodeid-msr", 0x80000001, 0, ECX, 19),
    F("tbm", 0x80000001, 0, ECX, 21),
    F("topoext", 0x80000001, 0, ECX, 22),
    F("perfctr-core", 0x80000001, 0, ECX, 23),
    F("perfctr-nb", 0x80000001, 0, ECX, 24),
    /* ---- leaf 0x80000007, EBX ---- */
    F("overflow-recov", 0x80000007, 0, EBX, 0),
    F("succor", 0x80000007, 0, EBX, 1),
    /* ---- leaf 0x80000007, EDX ---- */
    {"invtsc", 0x80000007, 0, CPUID_EDX, 8, X86_FEATURE_OPT_IN, X86_STATE_NONE},
    /* ---- leaf 0x80000008, EBX ---- */
    F("clzero", 0x80000008, 0, EBX, 0),
    F("xsaveerptr", 0x80000008, 0, EBX, 2),
    F("wbnoinvd", 0x80000008, 0, EBX, 9),
    F("ibpb", 0x80000008, 0, EBX, 12),
    F("ibrs", 0x80000008, 0, EBX, 14),
    F("amd-stibp", 0x80000008, 0, EBX, 15),
    F("stibp-always-on", 0x80000008, 0, EBX, 17),
    F("amd-ssbd", 0x80000008, 0, EBX, 24),
    F("virt-ssbd", 0x80000008, 0, EBX, 25),
    F("amd-no-ssb", 0x80000008, 0, EBX, 26),
    F("amd-psfd", 0x80000008, 0, EBX, 28),
    /* ---- leaf 0x8000000a, EDX ---- */
    F("npt", 0x8000000a, 0, EDX, 0),
    F("lbrv", 0x8000000a, 0, EDX, 1),
    F("svm-lock", 0x8000000a, 0, EDX, 2),
    F("nrip-save", 0x8000000a, 0, EDX, 3),
    F("tsc-scale", 0x8000000a, 0, EDX, 4),
    F("vmcb-clean", 0x8000000a, 0, EDX, 5),
    F("flushbyasid", 0x8000000a, 0, EDX, 6),
    F("decodeassists", 0x8000000a, 0, EDX, 7),
    F("pause-filter", 0x8000000a, 0, EDX, 10),
    F("pfthreshold", 0x8000000a, 0, EDX, 12),
    F("avic", 0x8000000a, 0, EDX, 13),
    F("v-vmsave-vmload", 0x8000000a, 0, EDX, 15),
    F("vgif", 0x8000000a, 0, EDX, 16),
    F("vnmi", 0x8000000a, 0, EDX, 25),
    F("svme-addr-chk", 0x8000000a, 0, EDX, 28),
    /* ---- leaf 0x80000021, EAX ---- */
    F("no-nested-data-bp", 0x80000021, 0, EAX, 0),
    F("lfence-always-serializing", 0x80000021, 0, EAX, 2),
    F("null-sel-clr-base", 0x80000021, 0, EAX, 6),
    F("auto-ibrs", 0x80000021, 0, EAX, 8),
};

const unsigned x86_feature_count = G_N_ELEMENTS(x86_features);

G_STATIC_ASSERT(G_N_ELEMENTS(x86_features) <= X86_CPU_MAX_FEATURES);

static const struct {
    const char *alias, *name;
} feature_aliases[] = {
    {"sse3", "pni"}, {"sse4-1", "sse4.1"},  {"sse4-2", "sse4.2"},      {"xd", "nx"},
    {"i64", "lm"},   {"ffxsr", "fxsr-opt"}, {"kvm-clock", "kvmclock"},
};

const char *x86_feature_canonical_name(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(feature_aliases); i++) {
        if (strcmp(name, feature_aliases[i].alias) == 0) {
            return feature_aliases[i].name;
        }
    }
    return name;
}
