/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/host_kvm.h"

#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

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

/* ---- a vCPU in real mode ---- */

static const uint8_t host_vcpu_code[] = {
    0x88, 0x07, /* mov [bx], al */
    0x8a, 0x27, /* mov ah, [bx] */
    0xe6, 0x80, /* out 0x80, al */
    0xeb, 0xf8, /* jmp to the start */
};

static void host_vcpu_ioctl(const HostVcpu *v, unsigned long request, void *arg)
{
    if (ioctl(v->fd, request, arg) != 0) {
        g_error("ioctl 0x%lx of a vCPU: %s", request, g_strerror(errno));
    }
}

void host_vcpu_open(HostVcpu *v, const Kvm *kvm, uint8_t *ram)
{
    struct kvm_sregs sregs;
    memcpy(ram + HOST_KVM_CODE, host_vcpu_code, sizeof(host_vcpu_code));
    v->fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, 0);
    v->run_size = kvm->run_size;
    v->run = mmap(NULL, v->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
    if (v->fd < 0 || v->run == MAP_FAILED) {
        g_error("no vCPU: %s", g_strerror(errno));
    }
    host_vcpu_ioctl(v, KVM_GET_SREGS, &sregs);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    host_vcpu_ioctl(v, KVM_SET_SREGS, &sregs);
}

void host_vcpu_close(HostVcpu *v)
{
    munmap(v->run, v->run_size);
    close(v->fd);
}

void host_vcpu_begin(HostVcpu *v, uint32_t gpa, uint8_t value)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = HOST_KVM_CODE, .rflags = 2, .rax = value, .rbx = gpa & 0xffff};
    host_vcpu_ioctl(v, KVM_GET_SREGS, &sregs);
    sregs.ds.base = gpa & ~0xffffu;
    sregs.ds.selector = (uint16_t)(sregs.ds.base >> 4);
    host_vcpu_ioctl(v, KVM_SET_SREGS, &sregs);
    host_vcpu_ioctl(v, KVM_SET_REGS, &regs);
}
