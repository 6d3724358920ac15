/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the loader's 32-bit entry to long mode, and from there to CPL 3.
 *
 *   loader --PVH / Multiboot--> boot_enter_long --CPL 0--> cpu_load_tables --iretq--> CPL 3
 *
 * The page tables are part of the image, so nothing is computed: the first 4 GiB are
 * mapped one to one, writable and user-accessible, in 2 MiB pages (the first 2 MiB in 4 KiB pages,
 * because page 0 is unmapped later). All of it is write-back: these guests run in virtual
 * machines only, where an access to a device register exits whatever the page's memory type.
 */
#include "lib/layout.h"

#define PAGE_FLAGS 0x67  /* present, writable, user, accessed, dirty */
#define LARGE_FLAGS 0xe7 /* the same, and a 2 MiB page */

/* XEN_ELFNOTE_PHYS32_ENTRY: the physical address where a PVH loader starts the kernel. */
    .section .note.pvh, "a", @note
    .align 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad boot_pvh_entry

    .section .text.boot, "ax"
    .code32
    .globl boot_pvh_entry
boot_pvh_entry:
    movl $BOOT_PROTOCOL_PVH, %ecx
    /* fall through */

/* In: %ecx = BOOT_PROTOCOL_*, %ebx = the loader's information. Flat segments, paging off. */
    .globl boot_enter_long
boot_enter_long:
    cli
    cld
    movl %ecx, boot_protocol
    movl %ebx, boot_info_gpa
    movl $boot_stack_top, %esp
    movl $cpu_boot_block, %edi
    /* fall through */

/* In: %edi = struct Cpu of this CPU, %esp = its ring 0 stack. Both zero-extend to 64 bits. */
    .globl boot_cpu_long
boot_cpu_long:
    lgdt boot_gdt_pointer
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $CR4_BOOT, %eax
    movl %eax, %cr4
    movl $MSR_EFER, %ecx
    xorl %edx, %edx
    movl $EFER_LME, %eax
    wrmsr
    movl $CR0_BOOT, %eax
    movl %eax, %cr0
    ljmp $SEL_RING0_CODE, $boot_long

    .code64
boot_long:
    movl $SEL_RING0_DATA, %eax
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %edi, %ebx
    call cpu_load_tables
    movq CPU_ENTRY(%rbx), %rdi
    movq CPU_ENTRY_STACK(%rbx), %rsi
    /* fall through */

/* void cpu_enter_ring3(entry, stack_top): never returns. */
    .globl cpu_enter_ring3
cpu_enter_ring3:
    subq $8, %rsi /* a function's entry expects %rsp + 8 to be a multiple of 16 */
    pushq $SEL_RING3_DATA
    pushq %rsi
    pushq $RFLAGS_RING3
    pushq $SEL_RING3_CODE
    pushq %rdi
    xorl %ebp, %ebp
    iretq

    .section .data, "aw"
    .align 16
    .globl boot_gdt
boot_gdt:
    .quad 0
    .quad GDT_RING0_CODE
    .quad GDT_RING0_DATA
    .quad GDT_TRAMPOLINE_CODE
boot_gdt_end:
    .globl boot_gdt_pointer
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .long boot_gdt

    .section .data.pages, "aw"
    .align 4096
    .globl boot_pml4
boot_pml4:
    .quad boot_pdpt + PAGE_FLAGS
    .fill 511, 8, 0
    .globl boot_pdpt
boot_pdpt:
    .quad boot_pd + PAGE_FLAGS
    .quad boot_pd + 0x1000 + PAGE_FLAGS
    .quad boot_pd + 0x2000 + PAGE_FLAGS
    .quad boot_pd + 0x3000 + PAGE_FLAGS
    .fill 508, 8, 0
boot_pd:
    .quad boot_pt + PAGE_FLAGS
    .set address, 0x200000
    .rept 2047
    .quad address + LARGE_FLAGS
    .set address, address + 0x200000
    .endr
    .globl boot_pt
boot_pt:
    .set address, 0
    .rept 512
    .quad address + PAGE_FLAGS
    .set address, address + 0x1000
    .endr

    .section .bss, "aw", @nobits
    .align 16
    .skip 16384
boot_stack_top:

    .section .note.GNU-stack, "", @progbits
