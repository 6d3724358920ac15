/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One 16-byte stub per interrupt vector. Each leaves the same frame (struct InterruptFrame): the
 * CPU's own part, an error code (0 where the CPU pushes none), the vector, and all registers.
 */
    .text
    .balign 16
    .globl vectors_stubs
vectors_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if !((vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30))
    pushq $0
    .endif
    pushq $vector
    jmp vectors_enter
    .set vector, vector + 1
    .endr

    .balign 16
vectors_enter:
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    cld
    call interrupts_dispatch
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    addq $16, %rsp
    iretq

/*
 * uint64_t cpu_call_ring0(func, a, b). From CPL 3 it enters CPL 0 by ud2, which works
 * everywhere: a KVM that runs CPL 3 natively gives `int n` and `syscall` to its host's kernel.
 */
    .globl cpu_call_ring0
cpu_call_ring0:
    movl %cs, %eax
    testb $3, %al
    jz call_directly
ring0_trap:
    ud2
    ret
call_directly:
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    xorl %edx, %edx
    jmp *%rax

/* The gate of #UD: a call of the above, or an undefined opcode like any other exception. */
    .globl vectors_undefined_opcode
vectors_undefined_opcode:
    cmpq $ring0_trap, (%rsp)
    jne vectors_stubs + 6 * 16
    cld
    movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rsp, %rdx
    subq $8, %rsp /* the CPU pushed five words on an aligned stack */
    call *%rax
    addq $8, %rsp
    addq $2, (%rsp)
    iretq

    .section .note.GNU-stack, "", @progbits
