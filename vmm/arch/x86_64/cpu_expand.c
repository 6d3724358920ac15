/* SPDX-License-Identifier: Apache-2.0 */
/* Lists the features of a CPU model on this host, by name. */
#include "vmm/arch/x86_64/arch_vcpu.h"
#include "vmm/arch/x86_64/cpuid_int.h"

const char *const arch_cpu_models[] = {"max", "host", NULL};

typedef struct CpuExpansion {
    const struct kvm_cpuid2 *cpuid;
    void (*each)(const char *name, bool on, void *opaque);
    void *opaque;
} CpuExpansion;

static bool cpu_has_bit(const struct kvm_cpuid2 *cpuid, const X86Feature *f)
{
    for (uint32_t i = 0; i < cpuid->nent; i++) {
        struct kvm_cpuid_entry2 e = cpuid->entries[i];
        if (e.function == f->function && e.index == f->index) {
            return (*x86_cpuid_register(&e, f->reg) >> f->bit & 1) != 0;
        }
    }
    return false;
}

/* A feature of several bits is present if any bit is. */
static void cpu_expand_feature(const char *name, void *opaque)
{
    CpuExpansion *x = opaque;
    bool on = false;
    for (unsigned i = 0; i < x86_feature_count; i++) {
        on = on ||
             (g_str_equal(x86_features[i].name, name) && cpu_has_bit(x->cpuid, &x86_features[i]));
    }
    x->each(name, on, x->opaque);
}

bool arch_cpu_expand(const Kvm *kvm, const char *text,
                     void (*each)(const char *name, bool on, void *opaque), void *opaque,
                     GError **error)
{
    const SmpTopology topology = {.cpus = 1, .sockets = 1, .cores = 1, .threads = 1};
    X86CpuModel model;
    ArchCpus cpus = {0};
    if (!x86_cpu_model_parse(text, &model, error) ||
        !x86_cpus_init(&cpus, kvm, &model, &topology, error)) {
        x86_cpuid_free(cpus.cpuid);
        return false;
    }
    g_autofree struct kvm_cpuid2 *cpuid = x86_cpuid_for_cpu(cpus.cpuid, 0);
    CpuExpansion x = {.cpuid = cpuid, .each = each, .opaque = opaque};
    x86_cpu_feature_foreach(cpu_expand_feature, &x);
    each("kvm", model.kvm, opaque);
    each("pmu", model.pmu, opaque);
    each("migratable", model.migratable, opaque);
    x86_cpuid_free(cpus.cpuid);
    g_free(cpus.msr_list);
    return true;
}
