/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/cpu.h"
#include "lib/interrupts.h"

#define MSR_GS_BASE 0xc0000101
#define RFLAGS_INTERRUPT 0x200

static uint8_t boot_ring3_stack[CPU_STACK_SIZE] __attribute__((aligned(16)));
static uint8_t boot_ring0_stack[CPU_STACK_SIZE] __attribute__((aligned(16)));

_Noreturn void guest_start(void);

Cpu cpu_boot_block = {
    .self = &cpu_boot_block,
    .entry = (uint64_t)guest_start,
    .entry_stack = (uint64_t)boot_ring3_stack + CPU_STACK_SIZE,
    .ring0_stack = (uint64_t)boot_ring0_stack + CPU_STACK_SIZE,
};

typedef struct __attribute__((packed)) TablePointer {
    uint16_t limit;
    uint64_t base;
} TablePointer;

static uint64_t ring0_read_msr(uint64_t msr, uint64_t unused, CpuTrapFrame *frame)
{
    uint32_t lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"((uint32_t)msr));
    return (uint64_t)hi << 32 | lo;
}

static uint64_t ring0_write_msr(uint64_t msr, uint64_t value, CpuTrapFrame *frame)
{
    __asm__ volatile("wrmsr" ::"a"((uint32_t)value), "d"((uint32_t)(value >> 32)),
                     "c"((uint32_t)msr)
                     : "memory");
    return 0;
}

static uint64_t ring0_wait_interrupt(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    /* sti takes effect after the next instruction, so no interrupt is taken before hlt. */
    __asm__ volatile("sti; hlt; cli" ::: "memory");
    return 0;
}

static uint64_t ring0_halt(uint64_t a, uint64_t b, CpuTrapFrame *frame)
{
    __asm__ volatile("cli; hlt" ::: "memory");
    return 0;
}

void cpu_load_tables(Cpu *cpu)
{
    uint64_t tss = (uint64_t)&cpu->tss;
    cpu->tss.rsp0 = cpu->ring0_stack;
    cpu->tss.io_map_base = offsetof(CpuTss, io_map);
    cpu->tss.io_map[sizeof(cpu->tss.io_map) - 1] = 0xff;
    cpu->gdt[SEL_RING0_CODE / 8] = GDT_RING0_CODE;
    cpu->gdt[SEL_RING0_DATA / 8] = GDT_RING0_DATA;
    cpu->gdt[SEL_RING3_DATA / 8] = GDT_RING3_DATA;
    cpu->gdt[SEL_RING3_CODE / 8] = GDT_RING3_CODE;
    cpu->gdt[SEL_TSS / 8] =
        (sizeof(cpu->tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 | (tss >> 24 & 0xff) << 56;
    cpu->gdt[SEL_TSS / 8 + 1] = tss >> 32;

    TablePointer gdt = {sizeof(cpu->gdt) - 1, (uint64_t)cpu->gdt};
    TablePointer idt = {sizeof(interrupts_idt) - 1, (uint64_t)interrupts_idt};
    __asm__ volatile("lgdt %0; lidt %1" ::"m"(gdt), "m"(idt));
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    ring0_write_msr(MSR_GS_BASE, (uint64_t)cpu, NULL);
}

static uint64_t ring0_set_interrupts(uint64_t enable, uint64_t unused, CpuTrapFrame *frame)
{
    frame->rflags = (frame->rflags & ~RFLAGS_INTERRUPT) | (enable ? RFLAGS_INTERRUPT : 0);
    return 0;
}

static uint64_t ring0_cpuid(uint64_t id_address, uint64_t subleaf, CpuTrapFrame *frame)
{
    CpuId *id = (CpuId *)id_address;
    __asm__ volatile("cpuid"
                     : "=a"(id->eax), "=b"(id->ebx), "=c"(id->ecx), "=d"(id->edx)
                     : "a"(id->eax), "c"((uint32_t)subleaf));
    return 0;
}

void cpu_disable_interrupts(void)
{
    cpu_call_ring0(ring0_set_interrupts, false, 0);
}

void cpu_enable_interrupts(void)
{
    cpu_call_ring0(ring0_set_interrupts, true, 0);
}

CpuId cpu_read_cpuid(uint32_t leaf, uint32_t subleaf)
{
    CpuId id = {.eax = leaf};
    cpu_call_ring0(ring0_cpuid, (uint64_t)&id, subleaf);
    return id;
}

uint64_t cpu_read_msr(uint32_t msr)
{
    return cpu_call_ring0(ring0_read_msr, msr, 0);
}

void cpu_write_msr(uint32_t msr, uint64_t value)
{
    cpu_call_ring0(ring0_write_msr, msr, value);
}

void cpu_wait_interrupt(void)
{
    cpu_call_ring0(ring0_wait_interrupt, 0, 0);
}

void cpu_halt(void)
{
    for (;;) {
        cpu_call_ring0(ring0_halt, 0, 0);
    }
}
