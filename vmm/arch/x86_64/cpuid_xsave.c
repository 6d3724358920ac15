/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaf 0xd: the state components that XSAVE saves. The guest's kernel requires consistency: a
 * component is present with its features or not at all, and the size is that of the remaining
 * components. Intel SDM vol. 1 §13.2; AMD APM vol. 2 §11.5.
 *
 * KVM's answer may be inconsistent: it omits AMX's components while the process has no permission
 * for them, yet offers the features; it offers AVX where the host's processor has no XSAVE.
 */
#include "vmm/arch/x86_64/cpuid_int.h"

#define LEAF_XSAVE 0xdu
#define LEAF_AMX_TILES 0x1du
#define LEAF_AMX_MULTIPLY 0x1eu
#define XSAVE_LEGACY_COMPONENTS 3u /* x87 and SSE */
#define XSAVE_LEGACY_SIZE 576      /* their area and the header */
#define XSAVE_FIRST_EXTENDED 2
#define XSAVE_COMPONENTS 63

/* Components and the feature that they depend on. */
typedef struct XsaveGroup {
    uint64_t components;
    uint64_t needed; /* other components, of groups above */
    uint32_t function;
    CpuidRegister reg;
    uint32_t feature;
    X86State state; /* its features are removed with a component; NONE: they do not depend on it */
} XsaveGroup;

static const XsaveGroup xsave_groups[] = {
    {1u << 2, 0, 1, CPUID_ECX, CPUID1_ECX_AVX, X86_STATE_AVX},
    {3u << 3, 0, 7, CPUID_EBX, CPUID7_EBX_MPX, X86_STATE_MPX},
    {7u << 5, 1u << 2, 7, CPUID_EBX, CPUID7_EBX_AVX512F, X86_STATE_AVX512},
    {1u << 8, 0, 7, CPUID_EBX, CPUID7_EBX_INTEL_PT, X86_STATE_NONE},
    {1u << 9, 0, 7, CPUID_ECX, CPUID7_ECX_PKU, X86_STATE_PKRU},
    {1u << 15, 0, 7, CPUID_EDX, CPUID7_EDX_ARCH_LBR, X86_STATE_NONE},
    {3u << 17, 0, 7, CPUID_EDX, CPUID7_EDX_AMX_TILE, X86_STATE_AMX},
};

static bool xsave_is_component(const struct kvm_cpuid_entry2 *e)
{
    return e->function == LEAF_XSAVE && e->index >= XSAVE_FIRST_EXTENDED &&
           e->index < XSAVE_COMPONENTS;
}

/* XCR0 and IA32_XSS share one numbering; no component is in both. */
static uint64_t xsave_named_components(GArray *entries)
{
    if (!(x86_cpuid_get(entries, 1, 0, CPUID_ECX) & CPUID1_ECX_XSAVE)) {
        return 0;
    }
    uint64_t low = x86_cpuid_get(entries, LEAF_XSAVE, 0, CPUID_EAX);
    uint64_t high = x86_cpuid_get(entries, LEAF_XSAVE, 0, CPUID_EDX);
    if (x86_cpuid_get(entries, LEAF_XSAVE, 1, CPUID_EAX) & CPUIDD1_EAX_XSAVES) {
        low |= x86_cpuid_get(entries, LEAF_XSAVE, 1, CPUID_ECX);
        high |= x86_cpuid_get(entries, LEAF_XSAVE, 1, CPUID_EDX);
    }
    return low | (high << 32);
}

/* Named components that also have a size. */
static uint64_t xsave_sized_components(GArray *entries)
{
    uint64_t sized = XSAVE_LEGACY_COMPONENTS;
    for (guint i = 0; i < entries->len; i++) {
        const struct kvm_cpuid_entry2 *e = &g_array_index(entries, struct kvm_cpuid_entry2, i);
        if (xsave_is_component(e) && e->eax != 0) {
            sized |= 1ull << e->index;
        }
    }
    return xsave_named_components(entries) & sized;
}

static uint64_t xsave_drop_groups(GArray *entries, uint64_t components)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(xsave_groups); i++) {
        const XsaveGroup *g = &xsave_groups[i];
        uint64_t all = g->components | g->needed;
        if ((components & all) != all ||
            !(x86_cpuid_get(entries, g->function, 0, g->reg) & g->feature)) {
            components &= ~g->components;
        }
    }
    return components;
}

/* ---- leaf 0xd ---- */

/* Clears components that are not in @components; returns the size of all that the guest may enable
 * in XCR0. */
static uint32_t xsave_keep_components(GArray *entries, uint64_t components)
{
    uint32_t size = XSAVE_LEGACY_SIZE;
    for (guint i = 0; i < entries->len; i++) {
        struct kvm_cpuid_entry2 *e = &g_array_index(entries, struct kvm_cpuid_entry2, i);
        if (!xsave_is_component(e)) {
            continue;
        }
        if (!(components & (1ull << e->index))) {
            x86_cpuid_clear(e);
        } else if (!(e->ecx & 1)) { /* supervisor components are not in the standard format */
            size = MAX(size, e->ebx + e->eax);
        }
    }
    return size;
}

static void xsave_fill_leaf(GArray *entries, uint64_t components)
{
    uint32_t size = xsave_keep_components(entries, components);
    struct kvm_cpuid_entry2 *sizes = x86_cpuid_find(entries, LEAF_XSAVE, 0);
    struct kvm_cpuid_entry2 *compact = x86_cpuid_find(entries, LEAF_XSAVE, 1);
    if (components == 0) {
        x86_cpuid_clear(sizes);
        x86_cpuid_clear(compact);
        return;
    }
    sizes->eax &= (uint32_t)components;
    sizes->ebx = XSAVE_LEGACY_SIZE; /* XCR0 is 1 at reset; KVM updates this afterwards */
    sizes->ecx = size;
    sizes->edx &= (uint32_t)(components >> 32);
    if (compact == NULL) {
        return;
    }
    compact->ecx &= (uint32_t)components;
    compact->edx &= (uint32_t)(components >> 32);
    if (!(compact->eax & CPUIDD1_EAX_XSAVES)) {
        compact->ecx = compact->edx = 0;
    }
    if (!(compact->eax & (CPUIDD1_EAX_XSAVES | CPUIDD1_EAX_XSAVEC))) {
        compact->ebx = 0; /* otherwise KVM updates this from XCR0 and IA32_XSS */
    }
}

/* ---- features ---- */

static bool xsave_has_state(uint64_t components, X86State state)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(xsave_groups); i++) {
        if (xsave_groups[i].state == state) {
            return (components & xsave_groups[i].components) != 0;
        }
    }
    return true;
}

static void xsave_drop_features(GArray *entries, uint64_t components, const X86CpuModel *model,
                                GString *missing)
{
    for (unsigned i = 0; i < x86_feature_count; i++) {
        const X86Feature *f = &x86_features[i];
        struct kvm_cpuid_entry2 *e = x86_cpuid_find(entries, f->function, f->index);
        if (e == NULL || f->state == X86_STATE_NONE || xsave_has_state(components, f->state)) {
            continue;
        }
        *x86_cpuid_register(e, f->reg) &= ~(1u << f->bit);
        if (model->wish[i] == X86_FEATURE_ON) {
            g_string_append_printf(missing, "%s%s", missing->len != 0 ? ", " : "", f->name);
        }
    }
    if (!xsave_has_state(components, X86_STATE_AMX)) {
        for (guint i = 0; i < entries->len; i++) {
            struct kvm_cpuid_entry2 *e = &g_array_index(entries, struct kvm_cpuid_entry2, i);
            if (e->function == LEAF_AMX_TILES || e->function == LEAF_AMX_MULTIPLY) {
                x86_cpuid_clear(e);
            }
        }
    }
}

void x86_cpuid_fix_xsave(GArray *entries, const X86CpuModel *model, GString *missing)
{
    uint64_t components = xsave_drop_groups(entries, xsave_sized_components(entries));
    xsave_fill_leaf(entries, components);
    xsave_drop_features(entries, components, model, missing);
}
