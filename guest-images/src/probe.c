/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks whether this KVM can run a stock kernel. Executes at CPL 0, in long mode, instructions
 * that every stock Linux kernel needs and that a KVM which interprets CPL 0 may lack. Ends with
 * EXIT_YES (status 33) or EXIT_NO (status 35); any other end of the VMM, such as KVM's internal
 * error, means no too.
 */
#include "lib/guest.h"

#define CPUID_1_ECX_CX16 (1u << 13)
#define CPUID_1_ECX_XSAVE (1u << 26)
#define CR4_OSFXSR (1u << 9)
#define CR4_OSXSAVE (1u << 18)
#define MSR_LSTAR 0xc0000082
#define VECTOR_BREAKPOINT 3
#define VECTOR_UNDEFINED 6
#define VECTOR_PROTECTION 13
#define XCR0_X87_SSE 3

/* Address after the probed instruction, for a fault; set right before it. */
static uint64_t resume_rip;
static volatile unsigned faults, breakpoints;

static void on_fault(InterruptFrame *frame)
{
    faults++;
    frame->rip = resume_rip;
}

static void on_breakpoint(InterruptFrame *frame)
{
    breakpoints++;
}

#define PROBE(instructions, ...)                                                                   \
    __asm__ volatile("leaq 1f(%%rip), %%r11; movq %%r11, %[resume];" instructions "; 1:"           \
                     : [resume] "=m"(resume_rip)                                                   \
                     : __VA_ARGS__                                                                 \
                     : "memory", "cc", "rax", "rbx", "rcx", "rdx", "r11")

static uint64_t ring0_breakpoint(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    PROBE("int3", "i"(0));
    return breakpoints == 1;
}

static uint64_t ring0_cmpxchg16b(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    static volatile uint64_t pair[2] __attribute__((aligned(16)));
    pair[0] = 1;
    pair[1] = 2;
    PROBE("movl $1, %%eax; movl $2, %%edx; movl $3, %%ebx; movl $4, %%ecx; lock cmpxchg16b (%[p])",
          [p] "r"(pair));
    return pair[0] == 3 && pair[1] == 4;
}

static uint64_t ring0_xsave(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    static uint8_t area[4096] __attribute__((aligned(64)));
    uint64_t cr4;
    __asm__ volatile("movq %%cr4, %0" : "=r"(cr4));
    cr4 |= CR4_OSFXSR | CR4_OSXSAVE;
    __asm__ volatile("movq %0, %%cr4" ::"r"(cr4));
    PROBE("movl %[mask], %%eax; xorl %%edx, %%edx; xorl %%ecx, %%ecx; xsetbv;"
          "movl %[mask], %%eax; xsave (%[area]); xrstor (%[area])",
          [mask] "i"(XCR0_X87_SSE), [area] "r"(area));
    return 1;
}

static uint64_t ring0_msr(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    uint32_t lo = 0, hi = 0;
    PROBE(
        "movl %[msr], %%ecx; movl $0x1234000, %%eax; movl $-1, %%edx; wrmsr", [msr] "i"(MSR_LSTAR));
    if (!faults) {
        __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(MSR_LSTAR));
    }
    return lo == 0x1234000 && hi == 0xffffffff;
}

static void check(const char *name, bool offered, CpuRing0Func *func)
{
    if (!offered) {
        printf("probe: %s: not offered by CPUID\n", name);
        return;
    }
    /* Printed before the attempt: if the VMM ends on it, this is the last line. */
    printf("probe: %s: ", name);
    faults = 0;
    uint64_t right = cpu_call_ring0(func, 0, 0);
    if (faults || !right) {
        printf("%s\nprobe: NO\n", faults ? "faults" : "wrong result");
        guest_exit(EXIT_NO);
    }
    printf("works\n");
}

void guest_main(void)
{
    uint32_t features = cpu_read_cpuid(1, 0).ecx;
    interrupts_set_handler(VECTOR_BREAKPOINT, on_breakpoint);
    interrupts_set_handler(VECTOR_UNDEFINED, on_fault);
    interrupts_set_handler(VECTOR_PROTECTION, on_fault);
    check("msr", true, ring0_msr);
    check("int3", true, ring0_breakpoint);
    check("cmpxchg16b", features & CPUID_1_ECX_CX16, ring0_cmpxchg16b);
    check("xsave", features & CPUID_1_ECX_XSAVE, ring0_xsave);
    printf("probe: YES\n");
    guest_exit(EXIT_YES);
}
