/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests which parts of KVM_SET_GUEST_DEBUG work: a VM with a page of real-mode code, in which each
 * run either stops as the debugger requested or continues to an I/O port. KVM's API reports only
 * whether the call exists.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "vmm/arch/arch_debug.h"

#define PROBE_SIZE 0x1000u
#define PROBE_CODE 0x100u
#define PROBE_DATA 0x800u
#define PROBE_RFLAGS 2u

typedef struct Probe {
    int kvm, vm, vcpu;
    uint8_t *memory;
    struct kvm_run *run;
    size_t run_size;
} Probe;

static bool probe_open(Probe *p)
{
    p->memory = mmap(NULL, PROBE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    p->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    p->vm = p->kvm >= 0 ? ioctl(p->kvm, KVM_CREATE_VM, 0) : -1;
    struct kvm_userspace_memory_region region = {.memory_size = PROBE_SIZE,
                                                 .userspace_addr = (uintptr_t)p->memory};
    if (p->memory == MAP_FAILED || p->vm < 0 ||
        ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) {
        return false;
    }
    p->vcpu = ioctl(p->vm, KVM_CREATE_VCPU, 0);
    int size = ioctl(p->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (p->vcpu < 0 || size <= 0) {
        return false;
    }
    p->run_size = (size_t)size;
    p->run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, p->vcpu, 0);
    return p->run != MAP_FAILED;
}

static void probe_close(Probe *p)
{
    if (p->run != MAP_FAILED) {
        munmap(p->run, p->run_size);
    }
    if (p->memory != MAP_FAILED) {
        munmap(p->memory, PROBE_SIZE);
    }
    const int fds[] = {p->vcpu, p->vm, p->kvm};
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Whether a run from the start of the code ends in KVM_EXIT_DEBUG. */
static RUNS_IN_VCPU bool probe_reports(Probe *p, const ArchDebug *debug)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = PROBE_CODE, .rflags = PROBE_RFLAGS};
    if (ioctl(p->vcpu, KVM_GET_SREGS, &sregs) != 0) {
        return false;
    }
    sregs.cs.selector = 0;
    sregs.cs.base = 0;
    return ioctl(p->vcpu, KVM_SET_SREGS, &sregs) == 0 && ioctl(p->vcpu, KVM_SET_REGS, &regs) == 0 &&
           arch_debug_apply(p->vcpu, debug, NULL) && ioctl(p->vcpu, KVM_RUN, 0) == 0 &&
           p->run->exit_reason == KVM_EXIT_DEBUG;
}

static NO_THREAD_SAFETY_ANALYSIS void probe_all(Probe *p, ArchDebugAbilities *a)
{
    /* nop; mov %al, (PROBE_DATA); out %al, $0x80; jmp back to that: a run without a stop ends
     * there */
    static const uint8_t code[] = {0x90, 0xa2, PROBE_DATA & 0xff, PROBE_DATA >> 8, 0xe6, 0x80,
                                   0xeb, 0xfc};
    static const ArchDebug execute = {
        .hw[0] = {.used = true, .kind = ARCH_HW_EXECUTE, .address = PROBE_CODE + 1, .size = 1}};
    static const ArchDebug watch = {
        .hw[0] = {.used = true, .kind = ARCH_HW_WRITE, .address = PROBE_DATA, .size = 1}};
    static const ArchDebug software = {.software = true};
    memcpy(p->memory + PROBE_CODE, code, sizeof(code));
    a->execute = probe_reports(p, &execute);
    a->watch = probe_reports(p, &watch);
    /* Tested last: an unreported break goes through an empty vector table, and the vCPU is lost. */
    p->memory[PROBE_CODE] = ARCH_BREAK_INSTRUCTION;
    memcpy(p->memory + PROBE_CODE + 1, code + 4, 4);
    memcpy(p->memory, code + 4, 4); /* the target of that table's entries */
    a->instruction = probe_reports(p, &software);
}

bool arch_debug_probe(ArchDebugAbilities *a)
{
    Probe p = {.kvm = -1, .vm = -1, .vcpu = -1, .memory = MAP_FAILED, .run = MAP_FAILED};
    *a = (ArchDebugAbilities){.instruction = true, .execute = true, .watch = true};
    bool ok = probe_open(&p);
    if (ok) {
        probe_all(&p, a);
    }
    probe_close(&p);
    return ok;
}
