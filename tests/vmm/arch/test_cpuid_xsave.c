/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaf 0xd and the features that need it, checked like a guest's kernel does for its buffers, with
 * KVM's answers on several hosts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/arch/x86_64/cpuid_int.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define LEAF(leaf, subleaf, how, a, b, c, d)                                                       \
    {                                                                                              \
        .function = leaf, .index = subleaf, .flags = how, .eax = a, .ebx = b, .ecx = c, .edx = d   \
    }
#define LEGACY_SIZE 576
#define LEGACY 3u
#define SUPERVISOR 1u

typedef struct HostCpuid {
    uint32_t nent, padding;
    struct kvm_cpuid_entry2 entries[20];
} HostCpuid;

/* KVM on QEMU 7.2's emulated AMD-V, -cpu max,+svm: Debian's kernel reported wrong sizes there. */
static const HostCpuid emulated = {
    .nent = 9,
    .entries =
        {
            LEAF(0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65),
            LEAF(1, 0, 0, 0x60fb1, 0x800, 0x76f83203, 0xf8bfbfd),
            LEAF(7, 0, INDEXED, 0, 0x19803ab, 0x1020c, 0x20000000),
            LEAF(0xd, 0, INDEXED, 0x207, 0xa88, 0xa88, 0),
            LEAF(0xd, 1, INDEXED, 5, 0, 0, 0),
            LEAF(0xd, 2, INDEXED, 0x100, 0x240, 0, 0),
            LEAF(0xd, 9, INDEXED, 8, 0xa80, 0, 0),
            LEAF(0x80000001, 0, 0, 0x60fb1, 0, 0x75, 0xedd3fbfd),
            LEAF(0x80000008, 0, 0, 0x3928, 0x4000000, 0, 0),
        },
};

/* The same with -xsave: KVM still offers AVX, AVX2, FMA, F16C, VAES and PKU. */
static const HostCpuid emulated_without_xsave = {
    .nent = 6,
    .entries =
        {
            LEAF(0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65),
            LEAF(1, 0, 0, 0x60fb1, 0x800, 0x72f83203, 0xf8bfbfd),
            LEAF(7, 0, INDEXED, 0, 0x19803ab, 0x1020c, 0x20000000),
            LEAF(0xd, 0, INDEXED, 0, 0x240, 0x240, 0),
            LEAF(0x80000001, 0, 0, 0x60fb1, 0, 0x75, 0xedd3fbfd),
            LEAF(0x80000008, 0, 0, 0x3928, 0x4000000, 0, 0),
        },
};

/* A software KVM: components of AVX-512 without the features, and neither XSAVE nor AVX. */
static const HostCpuid software = {
    .nent = 8,
    .entries =
        {
            LEAF(0, 0, 0, 0x1c, 0x68747541, 0x444d4163, 0x69746e65),
            LEAF(1, 0, 0, 0xa10f11, 0x1020800, 0x81202000, 0x78bfbff),
            LEAF(7, 0, INDEXED, 1, 0x1800002, 0x104, 0x20000000),
            LEAF(0xd, 0, INDEXED, 0xe7, 0x980, 0x980, 0),
            LEAF(0xd, 2, INDEXED, 0x100, 0x240, 0, 0),
            LEAF(0xd, 5, INDEXED, 0x40, 0x340, 0, 0),
            LEAF(0xd, 6, INDEXED, 0x200, 0x380, 0, 0),
            LEAF(0xd, 7, INDEXED, 0x400, 0x580, 0, 0),
        },
};

#define SAPPHIRE_RAPIDS                                                                            \
    LEAF(0, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69),                                       \
        LEAF(1, 0, 0, 0x806f8, 0x12100800, 0xfefa3203, 0x0f8bfbff),                                \
        LEAF(7, 0, INDEXED, 1, 0xf3bf2fbf, 0x1b415f6e, 0xbfcd4410),                                \
        LEAF(7, 1, INDEXED, 0x00201c30, 0, 0, 0), LEAF(0xd, 2, INDEXED, 0x100, 0x240, 0, 0),       \
        LEAF(0xd, 5, INDEXED, 0x40, 0x440, 0, 0), LEAF(0xd, 6, INDEXED, 0x200, 0x480, 0, 0),       \
        LEAF(0xd, 7, INDEXED, 0x400, 0x680, 0, 0), LEAF(0xd, 9, INDEXED, 8, 0xa80, 0, 0),          \
        LEAF(0x1d, 0, INDEXED, 1, 0, 0, 0), LEAF(0x1d, 1, INDEXED, 0x04002000, 0x00080040, 16, 0), \
        LEAF(0x1e, 0, INDEXED, 0, 0x4010, 0, 0)

/* Intel with AMX and supervisor states; the process has permission for AMX. */
static const HostCpuid amx = {
    .nent = 18,
    .entries =
        {
            SAPPHIRE_RAPIDS,
            LEAF(0xd, 0, INDEXED, 0x602e7, 0x2b00, 0x2b00, 0),
            LEAF(0xd, 1, INDEXED, 0x1f, 0x2c30, 0x8100, 0),
            LEAF(0xd, 8, INDEXED, 0x80, 0, 1, 0),
            LEAF(0xd, 15, INDEXED, 0x328, 0, 3, 0),
            LEAF(0xd, 17, INDEXED, 0x40, 0xac0, 2, 0),
            LEAF(0xd, 18, INDEXED, 0x2000, 0xb00, 6, 0),
        },
};

/* The same without that permission: KVM still offers the features. */
static const HostCpuid amx_without_permission = {
    .nent = 14,
    .entries =
        {
            SAPPHIRE_RAPIDS,
            LEAF(0xd, 0, INDEXED, 0x2e7, 0xa88, 0xa88, 0),
            LEAF(0xd, 1, INDEXED, 0x1f, 0x988, 0, 0),
        },
};

static struct kvm_cpuid2 *build(const HostCpuid *host, const char *cpu, GError **error)
{
    X86CpuModel model;
    const SmpTopology one = {.cpus = 1, .sockets = 1, .cores = 1, .threads = 1};
    const X86CpuidHost kvm = {.supported = (const struct kvm_cpuid2 *)(const void *)host,
                              .tsc_deadline = true};
    assert_true(x86_cpu_model_parse(cpu, &model, NULL));
    g_autoptr(X86Cpuid) cpuid = x86_cpuid_new(&kvm, &model, &one, error);
    return cpuid != NULL ? x86_cpuid_for_cpu(cpuid, 0) : NULL;
}

static struct kvm_cpuid_entry2 leaf_of(const struct kvm_cpuid2 *cpuid, uint32_t function,
                                       uint32_t index)
{
    for (unsigned i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == function && cpuid->entries[i].index == index) {
            return cpuid->entries[i];
        }
    }
    return (struct kvm_cpuid_entry2){0};
}

static struct kvm_cpuid_entry2 leaf(const HostCpuid *host, const char *cpu, uint32_t function,
                                    uint32_t index)
{
    g_autofree struct kvm_cpuid2 *cpuid = build(host, cpu, NULL);
    assert_non_null(cpuid);
    return leaf_of(cpuid, function, index);
}

/* ---- checks of the guest's kernel ---- */

/* Sizes of the structures that processors fill. Intel SDM vol. 1 §13.4.2, §13.5 */
static const uint32_t component_sizes[] = {
    [2] = 256, [3] = 64, [4] = 64,   [5] = 64,  [6] = 512,  [7] = 1024,
    [8] = 128, [9] = 8,  [15] = 808, [17] = 64, [18] = 8192};

static void check_component(const struct kvm_cpuid2 *cpuid, unsigned i, bool user, bool supervisor,
                            uint32_t *end)
{
    struct kvm_cpuid_entry2 e = leaf_of(cpuid, 0xd, i);
    if (!user && !supervisor) {
        assert_int_equal(e.eax | e.ebx | e.ecx | e.edx, 0);
        return;
    }
    assert_true(i < G_N_ELEMENTS(component_sizes));
    assert_int_equal(e.eax, component_sizes[i]);
    assert_int_equal(e.ecx & SUPERVISOR, supervisor);
    if (user) {
        assert_true(e.ebx >= *end); /* in order, and none overlaps */
        *end = e.ebx + e.eax;
    }
}

/* Returns all components. */
static uint64_t check_leaf_d(const struct kvm_cpuid2 *cpuid)
{
    struct kvm_cpuid_entry2 sizes = leaf_of(cpuid, 0xd, 0), more = leaf_of(cpuid, 0xd, 1);
    uint64_t user = sizes.eax | (uint64_t)sizes.edx << 32;
    uint64_t supervisor = more.ecx | (uint64_t)more.edx << 32;
    uint32_t end = LEGACY_SIZE;
    bool xsave = leaf_of(cpuid, 1, 0).ecx & CPUID1_ECX_XSAVE;
    assert_int_equal(user & supervisor, 0);
    for (unsigned i = 2; i < 63; i++) {
        check_component(cpuid, i, (user >> i) & 1, (supervisor >> i) & 1, &end);
    }
    assert_int_equal(user & LEGACY, xsave ? LEGACY : 0);
    assert_int_equal(sizes.ebx, xsave ? LEGACY_SIZE : 0); /* for XCR0 after a reset */
    assert_int_equal(sizes.ecx, xsave ? end : 0);
    assert_true(xsave || more.eax == 0);
    assert_true((more.eax & CPUIDD1_EAX_XSAVES) || supervisor == 0);
    return user | supervisor;
}

static void check_features(const struct kvm_cpuid2 *cpuid, uint64_t components)
{
    static const uint64_t needed[] = {
        [X86_STATE_AVX] = 1u << 2,  [X86_STATE_MPX] = 3u << 3,  [X86_STATE_AVX512] = 0xe4,
        [X86_STATE_PKRU] = 1u << 9, [X86_STATE_AMX] = 3u << 17,
    };
    for (unsigned i = 0; i < x86_feature_count; i++) {
        const X86Feature *f = &x86_features[i];
        struct kvm_cpuid_entry2 e = leaf_of(cpuid, f->function, f->index);
        bool there = *x86_cpuid_register(&e, f->reg) & (1u << f->bit);
        if (there && (components & needed[f->state]) != needed[f->state]) {
            fail_msg("%s is present, its state is not", f->name);
        }
    }
}

static void assert_consistent(const HostCpuid *host, const char *cpu)
{
    g_autofree struct kvm_cpuid2 *cpuid = build(host, cpu, NULL);
    assert_non_null(cpuid);
    check_features(cpuid, check_leaf_d(cpuid));
}

static void every_host_and_model_is_consistent(void **state)
{
    static const HostCpuid *const hosts[] = {&emulated, &emulated_without_xsave, &software, &amx,
                                             &amx_without_permission};
    static const char *const models[] = {
        "host",
        "host,-xsave",
        "host,-avx",
        "host,-avx512f",
        "host,-pku",
        "host,-amx-tile",
        "host,-xsaves",
        "host,-xsavec",
        "host,-xsaves,-xfd",
        "host,-intel-pt",
        "host,-arch-lbr",
        "host,-avx512bw",
        "host,-avx2",
        "host,-xsave,-avx512f",
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(hosts); i++) {
        for (unsigned k = 0; k < G_N_ELEMENTS(models); k++) {
            assert_consistent(hosts[i], models[k]);
        }
    }
}

/* ---- results ---- */

static void consistent_features_are_unchanged(void **state)
{
    assert_int_equal(leaf(&emulated, "host", 0xd, 0).eax, 0x207);
    assert_int_equal(leaf(&emulated, "host", 0xd, 0).ecx, 0xa88);
    assert_int_equal(leaf(&emulated, "host", 7, 0).ebx, 0x19803ab);
    assert_int_equal(leaf(&amx, "host", 0xd, 0).eax, 0x602e7);
    assert_int_equal(leaf(&amx, "host", 0xd, 0).ecx, 0x2b00);
    assert_int_equal(leaf(&amx, "host", 0xd, 1).ecx, 0x8100);
    assert_int_equal(leaf(&amx, "host", 0xd, 1).ebx, 0x2c30);
    assert_int_equal(leaf(&amx, "host", 0x1d, 1).eax, 0x04002000);
}

static void a_component_is_removed_with_its_feature(void **state)
{
    assert_int_equal(leaf(&amx, "host,-pku", 0xd, 0).eax, 0x600e7);
    assert_int_equal(leaf(&amx, "host,-amx-tile", 0xd, 0).eax, 0x2e7);
    assert_int_equal(leaf(&amx, "host,-amx-tile", 0xd, 0).ecx, 0xa88);
    assert_int_equal(leaf(&amx, "host,-amx-tile,-avx512f,-pku", 0xd, 0).ecx, 0x340);
    assert_int_equal(leaf(&amx, "host,-avx,-amx-tile", 0xd, 0).eax, 0x203);
    assert_int_equal(leaf(&amx, "host,-avx512f", 0xd, 5).eax, 0);
    assert_int_equal(leaf(&amx, "host,-intel-pt", 0xd, 1).ecx, 0x8000);
    assert_int_equal(leaf(&amx, "host,-arch-lbr", 0xd, 1).ecx, 0x100);
    assert_int_equal(leaf(&amx, "host,-xsaves", 0xd, 15).eax, 0);
    assert_int_equal(leaf(&amx, "host,-xsaves,-xsavec", 0xd, 1).ebx, 0);
    assert_int_equal(leaf(&amx, "host,-xsave", 0xd, 0).eax, 0);
}

static void features_are_removed_with_their_component(void **state)
{
    assert_false(leaf(&emulated_without_xsave, "host", 1, 0).ecx & CPUID1_ECX_AVX);
    assert_false(leaf(&emulated_without_xsave, "host", 7, 0).ecx & CPUID7_ECX_PKU);
    assert_false(leaf(&amx_without_permission, "host", 7, 0).edx & CPUID7_EDX_AMX_TILE);
    assert_int_equal(leaf(&amx_without_permission, "host", 0x1d, 0).eax, 0);
    assert_true(leaf(&amx_without_permission, "host", 7, 0).ebx & CPUID7_EBX_AVX512F);
    assert_int_equal(leaf(&amx, "host,-avx", 7, 0).ebx & (CPUID7_EBX_AVX512F | 1u << 5), 0);
    assert_true(leaf(&amx, "host,-xsave", 7, 0).ebx & CPUID7_EBX_INTEL_PT);
}

static void a_feature_whose_state_is_not_saved_is_refused_by_name(void **state)
{
    static const struct {
        const HostCpuid *host;
        const char *cpu, *named;
    } cases[] = {
        {&emulated_without_xsave, "host,+avx2,+pku", "-cpu: avx2, pku can not be there"},
        {&amx_without_permission, "host,+amx-int8", "-cpu: amx-int8 can not be there"},
        {&amx, "host,-avx,+avx2", "-cpu: avx2 can not be there"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(build(cases[i].host, cases[i].cpu, &error));
        assert_non_null(strstr(error->message, cases[i].named));
    }
}

/* Impossible values of processor and KVM must not reach the guest, and must lead to no access out
 * of bounds. */
static void nonsense_ends_consistent(void **state)
{
    HostCpuid host = amx;
    g_autoptr(GRand) random = g_rand_new_with_seed(13);
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < host.nent; i++) {
            struct kvm_cpuid_entry2 *e = &host.entries[i];
            if (e->function == 1 || e->function == 7) {
                e->ecx = g_rand_int(random);
                e->ebx = g_rand_int(random);
                e->edx = g_rand_int(random);
            } else if (e->function == 0xd && e->index < 2) {
                /* A component belongs to user or supervisor state, and has a size if KVM supports
                 * it. */
                uint32_t mask = e->index == 0 ? 0xfffe7eff : 0x8100;
                e->eax = e->index == 0 ? LEGACY | (g_rand_int(random) & mask) : g_rand_int(random);
                e->ecx = g_rand_int(random) & mask;
                e->edx = g_rand_int(random);
            }
        }
        assert_consistent(&host, "host");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_host_and_model_is_consistent),
        cmocka_unit_test(consistent_features_are_unchanged),
        cmocka_unit_test(a_component_is_removed_with_its_feature),
        cmocka_unit_test(features_are_removed_with_their_component),
        cmocka_unit_test(a_feature_whose_state_is_not_saved_is_refused_by_name),
        cmocka_unit_test(nonsense_ends_consistent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
