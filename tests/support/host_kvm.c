/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/host_kvm.h"

const BootState host_kvm_boot = {
    .mode = X86_BOOT_PROT32, .rip = HOST_KVM_CODE, .code_selector = 8, .data_selector = 16};

void host_kvm_open(Kvm *kvm, ArchCpus *cpus, const GuestRam *ram, unsigned count)
{
    const SmpTopology smp = {.cpus = count, .sockets = 1, .cores = count, .threads = 1};
    g_autoptr(GError) error = NULL;
    X86CpuModel model;
    if (!kvm_open(kvm, &error) || !kvm_create_vm(kvm, ram, &error) || !arch_vm_init(kvm, &error) ||
        !x86_cpu_model_parse(NULL, &model, &error) ||
        !x86_cpus_init(cpus, kvm, &model, &smp, &error)) {
        g_error("%s", error->message);
    }
}

void host_kvm_close(Kvm *kvm, ArchCpus *cpus)
{
    x86_cpuid_free(cpus->cpuid);
    g_free(cpus->msr_list);
    kvm_close(kvm);
}
