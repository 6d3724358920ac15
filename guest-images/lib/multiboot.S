/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Multiboot 1 header and entry, linked into the *.mb.elf images only: a loader that knows both
 * protocols (QEMU) prefers Multiboot where it finds the header, and PVH would never be tried.
 * Source: Multiboot Specification 0.6.96 §3.1-3.3.
 */
#include "lib/layout.h"

#define MULTIBOOT_MAGIC 0x1badb002
#define MULTIBOOT_FLAGS 0x00000003 /* modules on page boundaries; memory map wanted */

    .section .multiboot, "a"
    .align 4
    .long MULTIBOOT_MAGIC
    .long MULTIBOOT_FLAGS
    .long -(MULTIBOOT_MAGIC + MULTIBOOT_FLAGS)

    .section .text.boot, "ax"
    .code32
    .globl boot_multiboot_entry
boot_multiboot_entry:
    movl $BOOT_PROTOCOL_MULTIBOOT, %ecx
    cmpl $0x2badb002, %eax
    je boot_enter_long
    movl $BOOT_PROTOCOL_UNKNOWN, %ecx
    jmp boot_enter_long

    .section .note.GNU-stack, "", @progbits
