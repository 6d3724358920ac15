/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intel SDM vol. 3 §9.9 "Hierarchical mapping of shared resources", AMD APM vol. 3 appendix E.4.
 *
 *   APIC id:  | socket | core | thread |    each field as wide as its count needs
 */
#include "vmm/arch/x86_64/cpuid_topology.h"

#include "vmm/arch/x86_64/cpuid_int.h"

#define TOPOLOGY_LEVEL_SMT 1
#define TOPOLOGY_LEVEL_CORE 2
#define CACHE_TYPE_MASK 0x1fu
/* caches of this level and above belong to the package, others to a core */
#define CACHE_LEVEL_SHARED 3

/* Bits needed to count to @count. */
static unsigned topology_width(unsigned count)
{
    return count > 1 ? 32 - (unsigned)__builtin_clz(count - 1) : 0;
}

static unsigned topology_package_shift(const SmpTopology *t)
{
    return topology_width(t->threads) + topology_width(t->cores);
}

uint32_t x86_apic_id(const SmpTopology *t, unsigned index)
{
    unsigned thread = index % t->threads;
    unsigned core = index / t->threads % t->cores;
    unsigned socket = index / t->threads / t->cores;
    return (socket << topology_package_shift(t)) | (core << topology_width(t->threads)) | thread;
}

/* ---- common ---- */

static unsigned cache_level(const struct kvm_cpuid_entry2 *e)
{
    return (e->eax >> 5) & 7;
}

/* Leaf 4 counts ids, rounded up to a power of two. */
static void topology_fill_intel_cache(struct kvm_cpuid_entry2 *e, const SmpTopology *t)
{
    unsigned shift = cache_level(e) >= CACHE_LEVEL_SHARED ? topology_package_shift(t)
                                                          : topology_width(t->threads);
    uint32_t sharing = MIN((1u << shift) - 1, 0xfff);
    uint32_t cores = MIN((1u << topology_width(t->cores)) - 1, 0x3f);
    e->eax = (e->eax & 0x3fff) | (sharing << 14) | (cores << 26);
}

/* Leaf 0x8000001d counts processors. */
static void topology_fill_amd_cache(struct kvm_cpuid_entry2 *e, const SmpTopology *t)
{
    unsigned sharing = cache_level(e) >= CACHE_LEVEL_SHARED ? t->cores * t->threads : t->threads;
    e->eax = (e->eax & 0x3fff) | (MIN(sharing - 1, 0xfffu) << 14);
}

static void topology_fill_caches(GArray *entries, const SmpTopology *t)
{
    for (guint i = 0; i < entries->len; i++) {
        struct kvm_cpuid_entry2 *e = &g_array_index(entries, struct kvm_cpuid_entry2, i);
        if (!(e->eax & CACHE_TYPE_MASK)) {
            continue; /* no more caches */
        }
        if (e->function == X86_LEAF_CACHES) {
            topology_fill_intel_cache(e, t);
        } else if (e->function == X86_LEAF_AMD_CACHES) {
            topology_fill_amd_cache(e, t);
        }
    }
}

static void topology_add_level(GArray *entries, uint32_t function, uint32_t index, unsigned shift,
                               unsigned count, unsigned level)
{
    const struct kvm_cpuid_entry2 e = {
        .function = function,
        .index = index,
        .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        .eax = shift,
        .ebx = count,
        .ecx = index | (level << 8),
    };
    g_array_append_val(entries, e);
}

/* Adds leaves 0xb and 0x1f; the caller has removed the host's. */
static void topology_add_levels(GArray *entries, uint32_t function, const SmpTopology *t)
{
    topology_add_level(entries, function, 0, topology_width(t->threads), t->threads,
                       TOPOLOGY_LEVEL_SMT);
    topology_add_level(entries, function, 1, topology_package_shift(t), t->cores * t->threads,
                       TOPOLOGY_LEVEL_CORE);
    topology_add_level(entries, function, 2, 0, 0, 0);
}

static void topology_fill_amd(GArray *entries, const SmpTopology *t)
{
    struct kvm_cpuid_entry2 *sizes = x86_cpuid_find(entries, X86_LEAF_AMD_SIZES, 0);
    struct kvm_cpuid_entry2 *ids = x86_cpuid_find(entries, X86_LEAF_AMD_TOPOLOGY, 0);
    if (sizes != NULL) {
        uint32_t others = MIN(t->cores * t->threads - 1, 0xffu);
        sizes->ecx = (sizes->ecx & ~0xf0ffu) | others | (topology_package_shift(t) << 12);
    }
    if (ids != NULL) {
        ids->eax = ids->ebx = ids->ecx = ids->edx = 0; /* the host's */
    }
}

void x86_cpuid_fill_topology(GArray *entries, const SmpTopology *t, bool is_amd)
{
    struct kvm_cpuid_entry2 *max = x86_cpuid_find(entries, 0, 0);
    struct kvm_cpuid_entry2 *one = x86_cpuid_find(entries, 1, 0);
    bool has_v2 = max != NULL && max->eax >= X86_LEAF_TOPOLOGY_V2;
    if (max != NULL) {
        max->eax = MAX(max->eax, X86_LEAF_TOPOLOGY);
    }
    if (one != NULL) {
        uint32_t count = MIN(t->cores * t->threads, 0xffu);
        one->ebx = (one->ebx & 0xffff) | (count << 16);
    }
    topology_fill_caches(entries, t);
    if (is_amd) {
        topology_fill_amd(entries, t);
    }
    topology_add_levels(entries, X86_LEAF_TOPOLOGY, t);
    if (has_v2) {
        topology_add_levels(entries, X86_LEAF_TOPOLOGY_V2, t);
    }
}

/* ---- one processor ---- */

static bool topology_has_topoext(const struct kvm_cpuid2 *cpuid)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        if (cpuid->entries[i].function == X86_LEAF_AMD_FEATURES) {
            return cpuid->entries[i].ecx & CPUID81_ECX_TOPOEXT;
        }
    }
    return false;
}

static void topology_personalize_amd(struct kvm_cpuid_entry2 *e, const SmpTopology *t,
                                     unsigned index)
{
    e->eax = x86_apic_id(t, index);
    e->ebx = ((t->threads - 1) << 8) | (index / t->threads % t->cores & 0xff);
    e->ecx = index / (t->threads * t->cores) & 0xff; /* one node per socket */
}

void x86_cpuid_personalize(struct kvm_cpuid2 *cpuid, const SmpTopology *t, unsigned index)
{
    uint32_t apic_id = x86_apic_id(t, index);
    bool topoext = topology_has_topoext(cpuid);
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
        switch (e->function) {
        case 1:
            e->ebx = (e->ebx & 0x00ffffff) | (apic_id << 24);
            break;
        case X86_LEAF_TOPOLOGY:
        case X86_LEAF_TOPOLOGY_V2:
            e->edx = apic_id;
            break;
        case X86_LEAF_AMD_TOPOLOGY:
            if (topoext) {
                topology_personalize_amd(e, t, index);
            }
            break;
        default:
            break;
        }
    }
}
