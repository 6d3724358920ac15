/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU: instructions that C does not have, the data of each CPU, and the two privilege levels.
 *
 * A guest runs at CPL 3 on memory that is all user-accessible; IOPL 3 and an I/O bitmap that allows
 * every port make port I/O work there as at CPL 0. Only operations reserved for CPL 0 (MSRs, hlt,
 * control registers, the interrupt flag) go through cpu_call_ring0(). That works everywhere, and is
 * also fast on a KVM that runs CPL 3 natively and interprets CPL 0. Such a KVM shows a CPL 3
 * program its host's flags and CPUID, so these are never used directly there: no cli, sti, pushf,
 * popf and cpuid outside cpu_call_ring0().
 */
#ifndef LIB_CPU_H
#define LIB_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/layout.h"

#define CPU_MAX 64
#define CPU_STACK_SIZE 32768

typedef struct __attribute__((packed)) CpuTss {
    uint32_t reserved0;
    uint64_t rsp0;
    uint64_t unused[12];
    uint16_t reserved1;
    uint16_t io_map_base;
    uint8_t io_map[8192 + 1]; /* a 0 bit allows the port; the byte after the last must be 0xff */
} CpuTss;

/* Owned by its CPU. Before its start the starting CPU fills it; afterwards it reads `online`. */
typedef struct Cpu {
    struct Cpu *self;     /* at the GS base */
    uint64_t entry;       /* its entry point at CPL 3 */
    uint64_t entry_stack; /* top of its CPL 3 stack */
    uint64_t ring0_stack; /* top of the stack for interrupts and cpu_call_ring0() */
    uint64_t gdt[7];
    CpuTss tss;
    uint32_t index; /* 0 is the boot CPU */
    uint32_t apic_id;
    bool online;
} Cpu;

_Static_assert(offsetof(Cpu, entry) == CPU_ENTRY, "layout.h");
_Static_assert(offsetof(Cpu, entry_stack) == CPU_ENTRY_STACK, "layout.h");

extern Cpu cpu_boot_block;

/* The calling CPU. */
static inline Cpu *cpu_this(void)
{
    Cpu *cpu;
    __asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

/* Loads GDT, TSS, IDT and GS base of @cpu. CPL 0 only; called from boot.S. */
void cpu_load_tables(Cpu *cpu);

/* Enters @entry at CPL 3 with IOPL 3 and interrupts off. CPL 0 only. */
_Noreturn void cpu_enter_ring3(uint64_t entry, uint64_t stack_top);

/* The frame that the CPU pushes at a trap from CPL 3. */
typedef struct CpuTrapFrame {
    uint64_t rip, cs, rflags, rsp, ss;
} CpuTrapFrame;

/* @frame is the caller's at CPL 3; NULL when the caller is at CPL 0. */
typedef uint64_t CpuRing0Func(uint64_t a, uint64_t b, CpuTrapFrame *frame);

/* Runs @func(@a, @b, frame) at CPL 0 with interrupts off, and returns its result. Any CPL. */
uint64_t cpu_call_ring0(CpuRing0Func *func, uint64_t a, uint64_t b);

/* Any CPL. A missing MSR ends the guest with a report of its #GP. */
uint64_t cpu_read_msr(uint32_t msr);
void cpu_write_msr(uint32_t msr, uint64_t value);

/* Enables interrupts, waits in hlt for one, disables them again. Call with interrupts off. */
void cpu_wait_interrupt(void);

/* Stops this CPU for good, interrupts off. */
_Noreturn void cpu_halt(void);

/* For CPL 3 only: code at CPL 0 always runs with interrupts off. */
void cpu_disable_interrupts(void);
void cpu_enable_interrupts(void);

static inline void cpu_pause(void)
{
    __asm__ volatile("pause" ::: "memory");
}

static inline uint64_t cpu_read_tsc(void)
{
    uint32_t lo, hi;
    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}

typedef struct CpuId {
    uint32_t eax, ebx, ecx, edx;
} CpuId;

CpuId cpu_read_cpuid(uint32_t leaf, uint32_t subleaf);

static inline void cpu_out8(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void cpu_out16(uint16_t port, uint16_t value)
{
    __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline void cpu_out32(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}

static inline uint8_t cpu_in8(uint16_t port)
{
    uint8_t value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint16_t cpu_in16(uint16_t port)
{
    uint16_t value;
    __asm__ volatile("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

static inline uint32_t cpu_in32(uint16_t port)
{
    uint32_t value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

/*
 * Device registers. Plain mov instructions of the exact width, so that an emulator need not decode
 * more than these for MMIO.
 */
static inline uint8_t mmio_read8(uint64_t gpa)
{
    uint8_t value;
    __asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(gpa) : "memory");
    return value;
}

static inline uint16_t mmio_read16(uint64_t gpa)
{
    uint16_t value;
    __asm__ volatile("movw (%1), %0" : "=r"(value) : "r"(gpa) : "memory");
    return value;
}

static inline uint32_t mmio_read32(uint64_t gpa)
{
    uint32_t value;
    __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(gpa) : "memory");
    return value;
}

static inline void mmio_write8(uint64_t gpa, uint8_t value)
{
    __asm__ volatile("movb %0, (%1)" ::"q"(value), "r"(gpa) : "memory");
}

static inline void mmio_write16(uint64_t gpa, uint16_t value)
{
    __asm__ volatile("movw %0, (%1)" ::"r"(value), "r"(gpa) : "memory");
}

static inline void mmio_write32(uint64_t gpa, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)" ::"r"(value), "r"(gpa) : "memory");
}

#endif
