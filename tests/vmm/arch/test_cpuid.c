/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "vmm/arch/x86_64/cpuid.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define LEAF(leaf, subleaf, how, a, b, c, d)                                                       \
    {                                                                                              \
        .function = leaf, .index = subleaf, .flags = how, .eax = a, .ebx = b, .ecx = c, .edx = d   \
    }

/* Abbreviated results of KVM_GET_SUPPORTED_CPUID. */
typedef struct HostCpuid {
    uint32_t nent, padding;
    struct kvm_cpuid_entry2 entries[24];
} HostCpuid;

static const HostCpuid intel = {
    .nent = 19,
    .entries =
        {
            LEAF(0, 0, 0, 0x1f, 0x756e6547, 0x6c65746e, 0x49656e69),
            LEAF(1, 0, 0, 0x806f8, 0x12100800, 0xfffa3203 & ~(1u << 24), 0x0f8bfbff),
            LEAF(4, 0, INDEXED, 0xfc004121, 0x02c0003f, 0x3f, 0),
            LEAF(4, 1, INDEXED, 0xfc01c163, 0x03c0003f, 0xffff, 4),
            LEAF(4, 2, INDEXED, 0, 0, 0, 0),
            LEAF(7, 0, INDEXED, 1, 0xf1bf2fbf, 0x1b415f6e, 0xbc814410),
            LEAF(0xa, 0, 0, 0x08300802, 0, 0, 0x8604),
            LEAF(0xb, 0, INDEXED, 1, 2, 0x100, 0x55),
            LEAF(0xb, 1, INDEXED, 7, 96, 0x201, 0x55),
            LEAF(0xd, 0, INDEXED, 0x2e7, 0xa88, 0xa88, 0),
            LEAF(0xd, 1, INDEXED, 0xf, 0xa08, 0, 0),
            LEAF(0xd, 2, INDEXED, 0x100, 0x240, 0, 0),
            LEAF(0xd, 5, INDEXED, 0x40, 0x440, 0, 0),
            LEAF(0xd, 6, INDEXED, 0x200, 0x480, 0, 0),
            LEAF(0xd, 7, INDEXED, 0x400, 0x680, 0, 0),
            LEAF(0xd, 9, INDEXED, 8, 0xa80, 0, 0),
            LEAF(0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d),
            LEAF(0x40000001, 0, 0, 0x01007efb, 0, 0, 0),
            LEAF(0x80000008, 0, 0, 0x302e, 0, 0, 0),
        },
};

static const HostCpuid amd = {
    .nent = 11,
    .entries =
        {
            LEAF(0, 0, 0, 0xd, 0x68747541, 0x444d4163, 0x69746e65),
            LEAF(1, 0, 0, 0xa20f10, 0x01020800, 0xfed83203 & ~(1u << 24), 0x078bfbff),
            LEAF(7, 0, INDEXED, 0, 0x219c97a9, 0x40068c, 0),
            LEAF(0x40000000, 0, 0, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d),
            LEAF(0x40000001, 0, 0, 0x01007efb, 0, 0, 0),
            LEAF(0x80000001, 0, 0, 0xa20f10, 0, 0x00c003f7, 0x2fd3fbff),
            LEAF(0x80000007, 0, 0, 0, 0, 0, 0x100),
            LEAF(0x80000008, 0, 0, 0x3030, 0, 0x7007, 0),
            LEAF(0x8000001d, 0, INDEXED, 0x4121, 0x1c0003f, 0x3f, 0),
            LEAF(0x8000001d, 3, INDEXED, 0x1c163, 0x3c0003f, 0x7fff, 1),
            LEAF(0x8000001e, 0, 0, 7, 0x103, 0, 0),
        },
};

static const char brand[48] = "A processor with a name of many letters, 3 GHz.";

static X86Cpuid *build(const HostCpuid *host, const char *cpu, const char *smp, GError **error)
{
    X86CpuModel model;
    SmpTopology topology;
    X86CpuidHost kvm = {.supported = (const struct kvm_cpuid2 *)(const void *)host,
                        .tsc_deadline = true};
    memcpy(kvm.brand, brand, sizeof(brand));
    assert_true(smp_parse(smp, 4096, &topology, NULL));
    if (!x86_cpu_model_parse(cpu, &model, error)) {
        return NULL;
    }
    return x86_cpuid_new(&kvm, &model, &topology, error);
}

/* One leaf of processor @index; zeros when it does not exist. */
static struct kvm_cpuid_entry2 leaf_of(const HostCpuid *host, const char *cpu, const char *smp,
                                       unsigned index, uint32_t function, uint32_t subleaf)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(X86Cpuid) cpuid = build(host, cpu, smp, &error);
    if (cpuid == NULL) {
        fail_msg("%s", error->message);
    }
    g_autofree struct kvm_cpuid2 *out = x86_cpuid_for_cpu(cpuid, index);
    for (unsigned i = 0; i < out->nent; i++) {
        if (out->entries[i].function == function && out->entries[i].index == subleaf) {
            return out->entries[i];
        }
    }
    return (struct kvm_cpuid_entry2){0};
}

static struct kvm_cpuid_entry2 leaf(const HostCpuid *host, const char *cpu, uint32_t function,
                                    uint32_t subleaf)
{
    return leaf_of(host, cpu, "1", 0, function, subleaf);
}

static void assert_refused(const char *cpu, const char *words)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(X86Cpuid) cpuid = build(&intel, cpu, "1", &error);
    if (cpuid != NULL) {
        fail_msg("accepted: %s", cpu);
    }
    if (strstr(error->message, words) == NULL) {
        fail_msg("%s: '%s' lacks '%s'", cpu, error->message, words);
    }
}

/* ---- the name ---- */

static void the_guest_sees_the_host_processor_s_name(void **state)
{
    const HostCpuid *hosts[] = {&intel, &amd};
    for (unsigned i = 0; i < G_N_ELEMENTS(hosts); i++) {
        char name[sizeof(brand)];
        for (uint32_t k = 0; k < 3; k++) {
            struct kvm_cpuid_entry2 e = leaf(hosts[i], "host", 0x80000002 + k, 0);
            memcpy(name + 16 * k, &e.eax, 16);
        }
        assert_string_equal(name, brand);
        assert_true(leaf(hosts[i], "host", 0x80000000, 0).eax >= 0x80000004);
    }
}

/* ---- features ---- */

static void hypervisor_and_deadline_timer_are_added(void **state)
{
    uint32_t ecx = leaf(&intel, NULL, 1, 0).ecx;
    assert_true(ecx & (1u << 31));
    assert_true(ecx & (1u << 24));
    assert_false(ecx & (1u << 27)); /* OSXSAVE follows CR4 */
}

static void a_feature_can_be_switched_off(void **state)
{
    assert_true(leaf(&intel, "host", 7, 0).ebx & (1u << 5));
    assert_false(leaf(&intel, "host,-avx2", 7, 0).ebx & (1u << 5));
    assert_false(leaf(&intel, "host,avx2=off", 7, 0).ebx & (1u << 5));
    assert_false(leaf(&intel, "max,-sse4_1", 1, 0).ecx & (1u << 19));
    assert_false(leaf(&intel, "host,-sse4.1", 1, 0).ecx & (1u << 19));
    assert_false(leaf(&intel, "host,-hypervisor,-tsc-deadline", 1, 0).ecx & (0x81u << 24));
}

static void the_last_setting_of_a_feature_counts(void **state)
{
    assert_true(leaf(&intel, "host,-avx2,+avx2", 7, 0).ebx & (1u << 5));
    assert_false(leaf(&intel, "host,+avx2,avx2=off", 7, 0).ebx & (1u << 5));
}

static void a_feature_the_host_lacks_is_refused_by_name(void **state)
{
    assert_refused("host,+avx512pf,+3dnow", "does not offer avx512pf, 3dnow");
    assert_refused("host,kvm=off,+kvmclock", "kvmclock");
    assert_refused("host,phys-bits=48", "more than the 46");
}

static void wrong_names_get_the_nearest(void **state)
{
    assert_refused("host,+avx3", "nearest is 'avx");
    assert_refused("host,-xyzzyxyzzyxyzzy", "has no feature 'xyzzyxyzzyxyzzy'");
    assert_refused("qemu64", "nearest is 'host'");
    assert_refused("", "no model ''");
    assert_refused("host,avx2=maybe", "avx2");
    assert_refused("host,phys-bits=0", "phys-bits");
    assert_refused("host,vendor=Intel", "vendor=Intel: expects 12 characters");
}

static void count_name(const char *name, void *opaque)
{
    GHashTable *seen = opaque;
    assert_true(g_hash_table_add(seen, (gpointer)(uintptr_t)name));
}

static void every_feature_name_is_listed_once(void **state)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    x86_cpu_feature_foreach(count_name, seen);
    assert_true(g_hash_table_contains(seen, "avx2"));
    assert_true(g_hash_table_contains(seen, "kvmclock"));
}

static void kvmclock_is_two_bits(void **state)
{
    assert_int_equal(leaf(&intel, "host", 0x40000001, 0).eax & 9, 9);
    assert_int_equal(leaf(&intel, "host,-kvmclock", 0x40000001, 0).eax & 9, 0);
}

static void kvm_leaves_can_be_hidden(void **state)
{
    assert_int_equal(leaf(&intel, "host", 0x40000000, 0).ebx, 0x4b4d564b);
    assert_int_equal(leaf(&intel, "host,kvm=off", 0x40000000, 0).ebx, 0);
}

static void a_hint_is_off_unless_requested(void **state)
{
    assert_int_equal(leaf(&intel, "host", 0x40000001, 0).edx, 0);
    assert_int_equal(leaf(&intel, "host,+kvm-hint-dedicated", 0x40000001, 0).edx, 1);
}

static void invariant_tsc_is_shown_only_when_requested(void **state)
{
    assert_int_equal(leaf(&amd, "host", 0x80000007, 0).edx, 0);
    assert_int_equal(leaf(&amd, "host,+invtsc", 0x80000007, 0).edx, 0x100);
    assert_int_equal(leaf(&amd, "host,migratable=off", 0x80000007, 0).edx, 0x100);
}

static void pmu_can_be_hidden(void **state)
{
    assert_int_equal(leaf(&intel, "host", 0xa, 0).eax, 0x08300802);
    assert_int_equal(leaf(&intel, "host,pmu=off", 0xa, 0).eax, 0);
}

static void the_vendor_can_be_replaced(void **state)
{
    static const uint32_t leaves[] = {0, 0x80000000};
    for (unsigned i = 0; i < G_N_ELEMENTS(leaves); i++) {
        struct kvm_cpuid_entry2 e = leaf(&intel, "host,vendor=AuthenticAMD", leaves[i], 0);
        assert_memory_equal(&e.ebx, "Auth", 4);
        assert_memory_equal(&e.edx, "enti", 4);
        assert_memory_equal(&e.ecx, "cAMD", 4);
    }
}

static void phys_bits_can_be_lowered(void **state)
{
    g_autoptr(X86Cpuid) host = build(&intel, "host", "1", NULL);
    g_autoptr(X86Cpuid) less = build(&intel, "host,phys-bits=40", "1", NULL);
    assert_int_equal(x86_cpuid_phys_bits(host), 46);
    assert_int_equal(x86_cpuid_phys_bits(less), 40);
    g_autoptr(X86Cpuid) as_host = build(&intel, "host,phys-bits=40,host-phys-bits=on", "1", NULL);
    g_autoptr(X86Cpuid) not_host = build(&intel, "host,host-phys-bits=off", "1", NULL);
    assert_int_equal(x86_cpuid_phys_bits(as_host), 46);
    assert_int_equal(x86_cpuid_phys_bits(not_host), 40);
}

/* ---- topology ---- */

static void apic_ids_have_fields_as_wide_as_needed(void **state)
{
    const SmpTopology t = {.cpus = 12, .sockets = 2, .cores = 3, .threads = 2};
    const uint32_t ids[12] = {0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13};
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(x86_apic_id(&t, i), ids[i]);
    }
}

static void apic_ids_are_plain_numbers_without_topology(void **state)
{
    const SmpTopology t = {.cpus = 5, .sockets = 1, .cores = 5, .threads = 1};
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(x86_apic_id(&t, i), i);
    }
}

static void leaf_1_counts_and_names_processors(void **state)
{
    struct kvm_cpuid_entry2 e = leaf_of(&intel, NULL, "12,sockets=2,threads=2", 7, 1, 0);
    assert_int_equal(e.ebx >> 24, 9);
    assert_int_equal((e.ebx >> 16) & 0xff, 6);
    assert_int_equal((e.ebx >> 8) & 0xff, 8); /* the CLFLUSH size is the host's */
    assert_true(e.edx & (1u << 28));
    assert_false(leaf_of(&intel, NULL, "2,sockets=2", 1, 1, 0).edx & (1u << 28));
}

static void leaf_b_and_1f_describe_the_levels(void **state)
{
    const uint32_t functions[] = {0xb, 0x1f};
    for (unsigned i = 0; i < 2; i++) {
        struct kvm_cpuid_entry2 smt =
            leaf_of(&intel, NULL, "12,sockets=2,threads=2", 7, functions[i], 0);
        struct kvm_cpuid_entry2 core =
            leaf_of(&intel, NULL, "12,sockets=2,threads=2", 7, functions[i], 1);
        assert_int_equal(smt.eax, 1);
        assert_int_equal(smt.ebx, 2);
        assert_int_equal(smt.ecx, 0x100);
        assert_int_equal(smt.edx, 9);
        assert_int_equal(core.eax, 3);
        assert_int_equal(core.ebx, 6);
        assert_int_equal(core.ecx, 0x201);
        assert_int_equal(core.edx, 9);
    }
}

static void leaf_b_is_added_when_the_host_has_none(void **state)
{
    assert_true(leaf(&amd, NULL, 0, 0).eax >= 0xb);
    assert_int_equal(leaf_of(&amd, NULL, "4", 3, 0xb, 1).ebx, 4);
    assert_int_equal(leaf_of(&amd, NULL, "4", 3, 0xb, 1).edx, 3);
    assert_int_equal(leaf_of(&amd, NULL, "4", 3, 0x1f, 1).ebx, 0);
}

static void intel_caches_are_shared_by_core_or_package(void **state)
{
    struct kvm_cpuid_entry2 l1 = leaf_of(&intel, NULL, "12,sockets=2,threads=2", 0, 4, 0);
    struct kvm_cpuid_entry2 l3 = leaf_of(&intel, NULL, "12,sockets=2,threads=2", 0, 4, 1);
    assert_int_equal((l1.eax >> 14) & 0xfff, 1);
    assert_int_equal(l1.eax >> 26, 3);
    assert_int_equal((l3.eax >> 14) & 0xfff, 7);
    assert_int_equal(l1.eax & 0x3fff, 0x121);
    assert_int_equal(leaf_of(&intel, NULL, "4", 0, 4, 2).eax, 0);
}

static void amd_caches_and_counts_are_in_processors(void **state)
{
    const char *smp = "12,sockets=2,threads=2";
    assert_int_equal((leaf_of(&amd, NULL, smp, 0, 0x8000001d, 0).eax >> 14) & 0xfff, 1);
    assert_int_equal((leaf_of(&amd, NULL, smp, 0, 0x8000001d, 3).eax >> 14) & 0xfff, 5);
    assert_int_equal(leaf_of(&amd, NULL, smp, 0, 0x80000008, 0).ecx & 0xf0ff, 0x3005);
    struct kvm_cpuid_entry2 ids = leaf_of(&amd, NULL, smp, 9, 0x8000001e, 0);
    assert_int_equal(ids.eax, 11);
    assert_int_equal(ids.ebx, 0x101);
    assert_int_equal(ids.ecx, 1);
    assert_int_equal(leaf_of(&amd, "host,-topoext", smp, 9, 0x8000001e, 0).eax, 0);
}

static void cmp_legacy_is_amds(void **state)
{
    assert_true(leaf_of(&amd, NULL, "2", 0, 0x80000001, 0).ecx & 2);
    assert_false(leaf_of(&amd, NULL, "1", 0, 0x80000001, 0).ecx & 2);
}

static void processors_above_255_are_named_in_full(void **state)
{
    assert_int_equal(leaf_of(&intel, NULL, "300", 299, 0xb, 0).edx, 299);
    assert_int_equal(leaf_of(&intel, NULL, "300", 299, 1, 0).ebx >> 24, 299 & 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_sees_the_host_processor_s_name),
        cmocka_unit_test(hypervisor_and_deadline_timer_are_added),
        cmocka_unit_test(a_feature_can_be_switched_off),
        cmocka_unit_test(the_last_setting_of_a_feature_counts),
        cmocka_unit_test(a_feature_the_host_lacks_is_refused_by_name),
        cmocka_unit_test(wrong_names_get_the_nearest),
        cmocka_unit_test(every_feature_name_is_listed_once),
        cmocka_unit_test(kvmclock_is_two_bits),
        cmocka_unit_test(kvm_leaves_can_be_hidden),
        cmocka_unit_test(a_hint_is_off_unless_requested),
        cmocka_unit_test(invariant_tsc_is_shown_only_when_requested),
        cmocka_unit_test(pmu_can_be_hidden),
        cmocka_unit_test(the_vendor_can_be_replaced),
        cmocka_unit_test(phys_bits_can_be_lowered),
        cmocka_unit_test(apic_ids_have_fields_as_wide_as_needed),
        cmocka_unit_test(apic_ids_are_plain_numbers_without_topology),
        cmocka_unit_test(leaf_1_counts_and_names_processors),
        cmocka_unit_test(leaf_b_and_1f_describe_the_levels),
        cmocka_unit_test(leaf_b_is_added_when_the_host_has_none),
        cmocka_unit_test(intel_caches_are_shared_by_core_or_package),
        cmocka_unit_test(amd_caches_and_counts_are_in_processors),
        cmocka_unit_test(cmp_legacy_is_amds),
        cmocka_unit_test(processors_above_255_are_named_in_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
