/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Computes the guest's CPUID from KVM's: features first, then what the machine provides, then the
 * leaves that count processors, and last the dependent leaves.
 */
#include "vmm/arch/x86_64/cpuid.h"

#include <string.h>

#include "util/opts/opts.h"
#include "vmm/arch/x86_64/cpuid_int.h"
#include "vmm/arch/x86_64/cpuid_topology.h"

#define LEAF_KVM_FIRST 0x40000000u
#define LEAF_KVM_LAST 0x400000ffu
#define LEAF_SGX 0x12u
#define LEAF_PMU 0xau
#define LEAF_EXTENDED_LAST 0x80000000u
#define LEAF_AMD_SEV 0x8000001fu
#define LEAF_AMD_PMU 0x80000022u
#define LEAF_ADDRESS_SIZES 0x80000008u
#define DEFAULT_PHYS_BITS 36

struct X86Cpuid {
    GArray *entries; /* struct kvm_cpuid_entry2 */
    SmpTopology topology;
    bool is_amd; /* or Hygon: AMD's leaves count processors */
};

/* ---- entries ---- */

struct kvm_cpuid_entry2 *x86_cpuid_find(GArray *entries, uint32_t function, uint32_t index)
{
    for (guint i = 0; i < entries->len; i++) {
        struct kvm_cpuid_entry2 *e = &g_array_index(entries, struct kvm_cpuid_entry2, i);
        if (e->function == function && e->index == index) {
            return e;
        }
    }
    return NULL;
}

uint32_t *x86_cpuid_register(struct kvm_cpuid_entry2 *e, CpuidRegister reg)
{
    switch (reg) {
    case CPUID_EAX:
        return &e->eax;
    case CPUID_EBX:
        return &e->ebx;
    case CPUID_ECX:
        return &e->ecx;
    case CPUID_EDX:
        return &e->edx;
    }
    g_assert_not_reached();
}

void x86_cpuid_clear(struct kvm_cpuid_entry2 *e)
{
    if (e != NULL) {
        e->eax = e->ebx = e->ecx = e->edx = 0;
    }
}

uint32_t x86_cpuid_get(GArray *entries, uint32_t function, uint32_t index, CpuidRegister reg)
{
    struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, function, index);
    return e != NULL ? *x86_cpuid_register(e, reg) : 0;
}

static void cpuid_clear_bits(GArray *entries, uint32_t function, CpuidRegister reg, uint32_t bits)
{
    struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, function, 0);
    if (e != NULL) {
        *x86_cpuid_register(e, reg) &= ~bits;
    }
}

/* Leaves that describe the host's processors, or that skiff does not set up. */
static bool cpuid_drops_leaf(uint32_t function, const X86CpuModel *model)
{
    return function == X86_LEAF_TOPOLOGY || function == X86_LEAF_TOPOLOGY_V2 ||
           function == LEAF_SGX || function == LEAF_AMD_SEV ||
           (!model->kvm && function >= LEAF_KVM_FIRST && function <= LEAF_KVM_LAST);
}

static GArray *cpuid_copy_supported(const X86CpuidHost *host, const X86CpuModel *model)
{
    GArray *entries = g_array_new(false, false, sizeof(struct kvm_cpuid_entry2));
    for (uint32_t i = 0; i < host->supported->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &host->supported->entries[i];
        if (!cpuid_drops_leaf(e->function, model)) {
            g_array_append_val(entries, *e);
        }
    }
    return entries;
}

/* ---- features ---- */

static bool feature_is_offered(GArray *entries, const X86Feature *f, const X86CpuidHost *host)
{
    switch (f->source) {
    case X86_FEATURE_FROM_MACHINE:
        return f->function != 1 || f->reg != CPUID_ECX || f->bit != X86_BIT_TSC_DEADLINE ||
               host->tsc_deadline;
    case X86_FEATURE_HINT:
        return x86_cpuid_find(entries, f->function, f->index) != NULL;
    case X86_FEATURE_FROM_HOST:
    case X86_FEATURE_OPT_IN:
        break;
    }
    return x86_cpuid_get(entries, f->function, f->index, f->reg) & (1u << f->bit);
}

static bool feature_is_enabled(const X86Feature *f, X86FeatureWish wish, const X86CpuModel *model)
{
    if (wish != X86_FEATURE_AS_HOST) {
        return wish == X86_FEATURE_ON;
    }
    if (f->source == X86_FEATURE_OPT_IN) {
        return !model->migratable;
    }
    return f->source != X86_FEATURE_HINT;
}

/* Adds features that were requested and are not offered to @missing. */
static void cpuid_apply_features(GArray *entries, const X86CpuidHost *host,
                                 const X86CpuModel *model, GString *missing)
{
    for (unsigned i = 0; i < x86_feature_count; i++) {
        const X86Feature *f = &x86_features[i];
        bool offered = feature_is_offered(entries, f, host);
        bool wanted = feature_is_enabled(f, model->wish[i], model);
        if (!offered && model->wish[i] == X86_FEATURE_ON) {
            g_string_append_printf(missing, "%s%s", missing->len != 0 ? ", " : "", f->name);
        }
        struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, f->function, f->index);
        if (e == NULL) {
            continue;
        }
        uint32_t *reg = x86_cpuid_register(e, f->reg);
        *reg = offered && wanted ? *reg | (1u << f->bit) : *reg & ~(1u << f->bit);
    }
}

/* Bits without a name, or that mirror other state. */
static void cpuid_fix_machine_bits(X86Cpuid *c)
{
    unsigned package = c->topology.cores * c->topology.threads;
    cpuid_clear_bits(c->entries, 1, CPUID_ECX, CPUID1_ECX_OSXSAVE);
    cpuid_clear_bits(c->entries, 7, CPUID_EBX, CPUID7_EBX_SGX);
    if (package == 1) {
        cpuid_clear_bits(c->entries, 1, CPUID_EDX, CPUID1_EDX_HT);
    }
    if (package == 1 || !c->is_amd) {
        cpuid_clear_bits(c->entries, X86_LEAF_AMD_FEATURES, CPUID_ECX, CPUID81_ECX_CMP_LEGACY);
    }
}

static void cpuid_hide_pmu(GArray *entries)
{
    x86_cpuid_clear(x86_cpuid_find(entries, LEAF_PMU, 0));
    x86_cpuid_clear(x86_cpuid_find(entries, LEAF_AMD_PMU, 0));
    cpuid_clear_bits(entries, 1, CPUID_ECX, CPUID1_ECX_PDCM);
    cpuid_clear_bits(entries, X86_LEAF_AMD_FEATURES, CPUID_ECX, CPUID81_ECX_PERFCTR_CORE);
}

/* ---- address sizes ---- */

static bool cpuid_fix_phys_bits(GArray *entries, unsigned wanted, GError **error)
{
    struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, LEAF_ADDRESS_SIZES, 0);
    unsigned have = e != NULL ? e->eax & 0xff : DEFAULT_PHYS_BITS;
    if (wanted == 0) {
        return true;
    }
    if (wanted > have || e == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-cpu: phys-bits=%u is more than the %u this host has", wanted, have);
        return false;
    }
    e->eax = (e->eax & ~0xffu) | wanted;
    if (((e->eax >> 16) & 0xff) > wanted) {
        e->eax &= ~0xff0000u;
    }
    return true;
}

void x86_cpuid_signature(const X86Cpuid *cpuid, uint32_t *version, uint32_t *features)
{
    *version = x86_cpuid_get(cpuid->entries, 1, 0, CPUID_EAX);
    *features = x86_cpuid_get(cpuid->entries, 1, 0, CPUID_EDX);
}

unsigned x86_cpuid_phys_bits(const X86Cpuid *cpuid)
{
    uint32_t sizes = x86_cpuid_get(cpuid->entries, LEAF_ADDRESS_SIZES, 0, CPUID_EAX);
    unsigned bits = sizes & 0xff;
    unsigned guest_bits = (sizes >> 16) & 0xff; /* what nested paging can map, when smaller */
    if (bits == 0) {
        return DEFAULT_PHYS_BITS;
    }
    return guest_bits != 0 ? MIN(bits, guest_bits) : bits;
}

/* ---- the processor's name ---- */

static struct kvm_cpuid_entry2 *cpuid_get_or_add(GArray *entries, uint32_t function)
{
    struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, function, 0);
    if (e == NULL) {
        const struct kvm_cpuid_entry2 empty = {.function = function};
        g_array_append_val(entries, empty);
        e = x86_cpuid_find(entries, function, 0);
    }
    return e;
}

/* KVM leaves the name empty or fills in the host's name. */
static void cpuid_fill_brand(GArray *entries, const X86CpuidHost *host)
{
    struct kvm_cpuid_entry2 *last = cpuid_get_or_add(entries, LEAF_EXTENDED_LAST);
    last->eax = MAX(last->eax, X86_BRAND_LEAF + X86_BRAND_LEAVES - 1);
    for (unsigned i = 0; i < X86_BRAND_LEAVES; i++) {
        const uint32_t *regs = host->brand[i];
        struct kvm_cpuid_entry2 *e = cpuid_get_or_add(entries, X86_BRAND_LEAF + i);
        if ((e->eax | e->ebx | e->ecx | e->edx) == 0) {
            e->eax = regs[CPUID_EAX];
            e->ebx = regs[CPUID_EBX];
            e->ecx = regs[CPUID_ECX];
            e->edx = regs[CPUID_EDX];
        }
    }
}

/* ---- whole ---- */

static bool cpuid_is_amd(GArray *entries)
{
    struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, 0, 0);
    char vendor[12];
    if (e == NULL) {
        return false;
    }
    memcpy(vendor, &e->ebx, 4);
    memcpy(vendor + 4, &e->edx, 4);
    memcpy(vendor + 8, &e->ecx, 4);
    return memcmp(vendor, "AuthenticAMD", 12) == 0 || memcmp(vendor, "HygonGenuine", 12) == 0;
}

/* The leaves that have the vendor's name. */
static void cpuid_set_vendor(GArray *entries, const char *vendor)
{
    static const uint32_t leaves[] = {0, 0x80000000u};
    for (unsigned i = 0; i < G_N_ELEMENTS(leaves); i++) {
        struct kvm_cpuid_entry2 *e = cpuid_get_or_add(entries, leaves[i]);
        memcpy(&e->ebx, vendor, 4);
        memcpy(&e->edx, vendor + 4, 4);
        memcpy(&e->ecx, vendor + 8, 4);
    }
}

X86Cpuid *x86_cpuid_new(const X86CpuidHost *host, const X86CpuModel *model,
                        const SmpTopology *topology, GError **error)
{
    g_autoptr(X86Cpuid) c = g_new0(X86Cpuid, 1);
    g_autoptr(GString) missing = g_string_new(NULL);
    c->entries = cpuid_copy_supported(host, model);
    c->topology = *topology;
    if (model->vendor[0] != '\0') {
        cpuid_set_vendor(c->entries, model->vendor);
    }
    c->is_amd = cpuid_is_amd(c->entries);
    cpuid_apply_features(c->entries, host, model, missing);
    if (missing->len != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-cpu: KVM does not offer %s on this host%s; leave it out", missing->str,
                    model->kvm ? "" : " (or kvm=off hides it)");
        return NULL;
    }
    cpuid_fix_machine_bits(c);
    if (!model->pmu) {
        cpuid_hide_pmu(c->entries);
    }
    x86_cpuid_fix_xsave(c->entries, model, missing);
    if (missing->len != 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-cpu: %s can not be there, since XSAVE does not save its state: KVM does not "
                    "offer that on this host, or -cpu switches it off",
                    missing->str);
        return NULL;
    }
    if (!cpuid_fix_phys_bits(c->entries, model->phys_bits, error)) {
        return NULL;
    }
    cpuid_fill_brand(c->entries, host);
    x86_cpuid_fill_topology(c->entries, topology, c->is_amd);
    return g_steal_pointer(&c);
}

void x86_cpuid_free(X86Cpuid *cpuid)
{
    if (cpuid == NULL) {
        return;
    }
    g_array_free(cpuid->entries, true);
    g_free(cpuid);
}

struct kvm_cpuid2 *x86_cpuid_for_cpu(const X86Cpuid *cpuid, unsigned index)
{
    const guint count = cpuid->entries->len;
    const size_t size = count * sizeof(struct kvm_cpuid_entry2);
    struct kvm_cpuid2 *out = g_malloc0(sizeof(*out) + size);
    out->nent = count;
    memcpy(out->entries, cpuid->entries->data, size);
    x86_cpuid_personalize(out, &cpuid->topology, index);
    return out;
}
