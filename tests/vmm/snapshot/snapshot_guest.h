/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest whose every step is known, for tests that save and load machines. 32-bit code, started by PVH.
 *
 * Processor 0 repeats a step: it puts out OUTS bytes by `rep outsb`, reads the port and the MMIO register of the
 * test's device, and mixes what it read into a number, which it appends to a log. The device counts accesses and
 * reads as that count, so an access that is lost, or made twice, changes all later numbers. Its APIC timer ticks
 * meanwhile, and it notes its TSC at each step, which KVM's clock page translates to time. Processor 1 counts in real
 * mode.
 */
#ifndef SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_GUEST_H
#define SKIFF_TESTS_VMM_SNAPSHOT_SNAPSHOT_GUEST_H

#include <stdint.h>

#define GUEST_PORT 0x300
#define GUEST_MMIO 0xd0000000u
#define GUEST_OUTS 64
/* in guest RAM */
#define GUEST_OTHER 0x5000 /* processor 1's count, from when it runs */
#define GUEST_STEPS 0x6000
#define GUEST_TICKS 0x7000
#define GUEST_CLOCK 0x7100 /* struct pvclock_vcpu_time_info */
#define GUEST_TSC 0x7200   /* of the newest even and odd step, u64 each */
#define GUEST_LOG 0x400000
#define GUEST_LOG_LENGTH 65536

#define GUEST_STR(x) #x
#define GUEST_TEXT(x) GUEST_STR(x)
#define GUEST_AT(label) "(" label " - guest_begin + 0x200000)" /* TEST_ELF_GPA */

/* clang-format off */
__asm__(".pushsection .rodata\n"
        ".code32\n"
        "guest_begin:\n"
        "cli\n"
        "cld\n"
        "movl $0x20000, %esp\n"
        "lgdt " GUEST_AT("guest_gdtr") "\n"
        "ljmp $8, $" GUEST_AT("2f") "\n"
        "2: movl $16, %eax\n"
        "movl %eax, %ds\n"
        "movl %eax, %es\n"
        "movl %eax, %ss\n"
        "movl $" GUEST_AT("guest_tick") ", %eax\n" /* the gate of vector 0x40 */
        "movw %ax, 0x9200\n"
        "movw $8, 0x9202\n"
        "movw $0x8e00, 0x9204\n"
        "shrl $16, %eax\n"
        "movw %ax, 0x9206\n"
        "lidt " GUEST_AT("guest_idtr") "\n"
        "movl $0x1ff, 0xfee000f0\n"   /* the local APIC is on */
        "movl $0xb, 0xfee003e0\n"     /* its timer counts by 1 */
        "movl $0x20040, 0xfee00320\n" /* and is periodic */
        "movl $1000000, 0xfee00380\n"
        "movl $" GUEST_AT("guest_other") ", %esi\n"
        "movl $0x8000, %edi\n"
        "movl $(guest_other_end - guest_other), %ecx\n"
        "rep movsb\n"
        "movl $0x01000000, 0xfee00310\n"
        "movl $0x4500, 0xfee00300\n" /* INIT */
        "movl $0x4608, 0xfee00300\n" /* start-up at 0x8000 */
        "movl $0x4b564d01, %ecx\n" /* MSR_KVM_SYSTEM_TIME_NEW */
        "movl $(" GUEST_TEXT(GUEST_CLOCK) " + 1), %eax\n"
        "xorl %edx, %edx\n"
        "wrmsr\n"
        "sti\n"
        "movl $1, %eax\n"
        "3: imull $1664525, %eax, %eax\n"
        "addl $1013904223, %eax\n"
        "movl $0x4000, %esi\n"
        "movl $" GUEST_TEXT(GUEST_OUTS) ", %ecx\n"
        "movl $" GUEST_TEXT(GUEST_PORT) ", %edx\n"
        "rep outsb\n"
        "movl %eax, %ebx\n"
        "inl %dx, %eax\n"
        "xorl %ebx, %eax\n"
        "addl " GUEST_TEXT(GUEST_MMIO) ", %eax\n"
        "movl " GUEST_TEXT(GUEST_STEPS) ", %edi\n"
        "andl $(" GUEST_TEXT(GUEST_LOG_LENGTH) " - 1), %edi\n"
        "movl %eax, " GUEST_TEXT(GUEST_LOG) "(,%edi,4)\n"
        "movl %eax, %ebx\n"
        "movl " GUEST_TEXT(GUEST_STEPS) ", %edi\n"
        "andl $1, %edi\n"
        "rdtsc\n"
        "movl %eax, " GUEST_TEXT(GUEST_TSC) "(,%edi,8)\n"
        "movl %edx, (" GUEST_TEXT(GUEST_TSC) " + 4)(,%edi,8)\n"
        "movl %ebx, %eax\n"
        "incl " GUEST_TEXT(GUEST_STEPS) "\n"
        "jmp 3b\n"
        "guest_tick:\n"
        "incl " GUEST_TEXT(GUEST_TICKS) "\n"
        "movl $0, 0xfee000b0\n"
        "pushl 8(%esp)\n" /* not by iret, which KVM's emulator lacks */
        "popfl\n"
        "ret $8\n"
        ".code16\n"
        "guest_other:\n"
        "xorw %ax, %ax\n"
        "movw %ax, %ds\n"
        "4: incl " GUEST_TEXT(GUEST_OTHER) "\n"
        "jmp 4b\n"
        "guest_other_end:\n"
        ".balign 8\n"
        "guest_gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        "guest_gdtr: .word 23\n"
        ".long " GUEST_AT("guest_gdt") "\n"
        "guest_idtr: .word 0x7ff\n"
        ".long 0x9000\n"
        "guest_end:\n"
        ".code64\n"
        ".popsection\n");
/* clang-format on */
extern const uint8_t guest_begin[], guest_end[];

/* The guest's number after a step, and the device's count. */
typedef struct GuestModel {
    uint32_t number, accesses, steps;
} GuestModel;
#define GUEST_MODEL_START                                                                          \
    {                                                                                              \
        .number = 1                                                                                \
    }

static inline void guest_model_step(GuestModel *m)
{
    m->number = m->number * 1664525 + 1013904223;
    m->accesses += GUEST_OUTS;
    m->number ^= m->accesses++;
    m->number += m->accesses++;
    m->steps++;
}

#endif
