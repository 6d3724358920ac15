/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A raw image for -bios: the very first instructions write a byte to debugcon, then to
 * isa-debug-exit (status 33). Nothing else happens, so the time of a run is the start-up time of
 * the VMM. 64 KiB, ends at 4 GiB; the CPU starts at its last 16 bytes in real mode.
 */
#define DEBUGCON 0xe9
#define EXIT_YES 0x10

    .code16
    .section .text, "ax"
    .org 0xfff0
reset_vector:
    movb $'1', %al
    outb %al, $DEBUGCON
    movb $EXIT_YES, %al
    outb %al, $0xf4
halt:
    hlt
    jmp halt
    .org 0x10000
    .section .note.GNU-stack, "", @progbits
