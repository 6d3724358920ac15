/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest as firmware in flash: the processor starts here, copies the guest to RAM and enters it as a
 * PVH loader would. Ends at 4 GiB.
 *
 *   ROM_BASE                the command line, filled in by tests, up to 1 KiB
 *   ROM_BASE + 0x400        PAYLOAD, the guest from 1 MiB up to its .bss
 *   4 GiB - 4 KiB           the code below
 *   4 GiB - 16              the reset vector
 *
 * Defined by guests.mk: PAYLOAD, ENTRY (boot_pvh_entry) and IMAGE_END of the guest. Sources: PVH, Xen
 * public/arch-x86/hvm/start_info.h; Intel SDM 3A §9.9 "Mode switching".
 */
#define LOAD_ADDRESS 0x100000
#define RAM_END 0x4000000 /* what the guest may use */
#define PVH_MAGIC 0x336ec578

    .section .text, "ax"
rom_base:
command_line:
    .org 0x400
payload:
    .incbin PAYLOAD
    .balign 4
payload_end:
    .org ROM_SIZE - 0x1000

    .code16
rom_start:
    cli
    cld
    /* CS begins 64 KiB below 4 GiB. */
    lgdtl %cs:(gdt_pointer - rom_base + 0x10000 - ROM_SIZE)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $rom_flat

    .code32
rom_flat:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $payload, %esi
    movl $LOAD_ADDRESS, %edi
    movl $((payload_end - payload) / 4), %ecx
    rep movsl
    xorl %eax, %eax
    movl $IMAGE_END, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    rep stosl
    movl $start_info, %ebx
    movl $ENTRY, %eax
    jmp *%eax

    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .balign 8
start_info:
    .long PVH_MAGIC, 1, 0, 0
    .quad 0, command_line, 0, memory_map
    .long 2, 0
memory_map:
    .quad 0, 0xa0000
    .long 1, 0
    .quad LOAD_ADDRESS, RAM_END - LOAD_ADDRESS
    .long 1, 0

    .org ROM_SIZE - 16
    .code16
    jmp rom_start
    .org ROM_SIZE
    .section .note.GNU-stack, "", @progbits
