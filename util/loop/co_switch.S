/* SPDX-License-Identifier: Apache-2.0 */
/*
 * void co_switch(void **save_sp, void *load_sp)
 *
 * Saves the callee-saved registers on the current stack and the stack pointer in *save_sp, then resumes the stack at
 * load_sp (System V ABI, AMD64 supplement, 3.2.1). MXCSR and the x87 control word are not switched: skiff never changes
 * them.
 */
#if defined(__x86_64__)
    .text
    .globl co_switch
    .hidden co_switch
    .type co_switch, @function
    .p2align 4
co_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .cfi_endproc
    .size co_switch, . - co_switch

/* First frame of a coroutine: co_switch "returns" here. rbx holds the Coroutine. No frame above: unwinders stop. */
    .globl co_trampoline
    .hidden co_trampoline
    .type co_trampoline, @function
co_trampoline:
    .cfi_startproc
    .cfi_undefined rip
    xorl %ebp, %ebp
    call co_main
    ud2
    .cfi_endproc
    .size co_trampoline, . - co_trampoline
#else
#error "co_switch is written for x86-64 only"
#endif
    .section .note.GNU-stack, "", @progbits
