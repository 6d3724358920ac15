/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first code of a started CPU: copied to LAYOUT_TRAMPOLINE_GPA, in real mode with CS based
 * there.
 * smp.c fills the two words at the end, for one CPU at a time.
 */
#include "lib/layout.h"

    .section .rodata
    .code16
    .globl trampoline_start
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline_start
    movl trampoline_cpu - trampoline_start, %edi
    movl trampoline_stack - trampoline_start, %esp
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $SEL_TRAMPOLINE_CODE, $trampoline_protected

    .balign 8
trampoline_gdt_pointer:
    .word SEL_TRAMPOLINE_CODE + 7
    .long boot_gdt
    .balign 8
    .globl trampoline_cpu
trampoline_cpu:
    .long 0
    .globl trampoline_stack
trampoline_stack:
    .long 0
    .globl trampoline_end
trampoline_end:

    .text
    .code32
trampoline_protected:
    movl $SEL_RING0_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    jmp boot_cpu_long

    .section .note.GNU-stack, "", @progbits
