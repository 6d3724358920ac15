/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's entry point: argument count, arguments and environment are on the stack. */
    .globl _start
    .type _start, @function
_start:
    xorl %ebp, %ebp
    movq (%rsp), %rdi
    leaq 8(%rsp), %rsi
    leaq 16(%rsp,%rdi,8), %rdx
    andq $-16, %rsp
    call agent_main
    hlt
    .size _start, . - _start
    .section .note.GNU-stack, "", @progbits
