/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants that C and assembly share: boot protocols, selectors, control register values, fixed
 * physical addresses and the offsets of struct Cpu.
 */
#ifndef LIB_LAYOUT_H
#define LIB_LAYOUT_H

#define BOOT_PROTOCOL_UNKNOWN 0
#define BOOT_PROTOCOL_PVH 1
#define BOOT_PROTOCOL_MULTIBOOT 2

/* Physical addresses below 1 MiB that the library uses once it has copied the loader's data. */
#define LAYOUT_TRAMPOLINE_GPA 0x8000 /* start of the other CPUs; SIPI vector 0x08 */
#define LAYOUT_SHARED_GPA 0x10000    /* free for the guest; `count` keeps its counters there */

#define SEL_RING0_CODE 0x08
#define SEL_RING0_DATA 0x10
#define SEL_TRAMPOLINE_CODE 0x18 /* only in boot_gdt: 32-bit code */
#define SEL_RING3_DATA 0x1b
#define SEL_RING3_CODE 0x23
#define SEL_TSS 0x28

#define GDT_RING0_CODE 0x00af9b000000ffff
#define GDT_RING0_DATA 0x00cf93000000ffff
#define GDT_TRAMPOLINE_CODE 0x00cf9b000000ffff
#define GDT_RING3_DATA 0x00cff3000000ffff
#define GDT_RING3_CODE 0x00affb000000ffff

#define CR0_BOOT 0x80010033 /* PG, WP, NE, ET, MP, PE */
#define CR4_BOOT 0x00000020 /* PAE */
#define MSR_EFER 0xc0000080
#define EFER_LME 0x00000100
#define RFLAGS_RING3 0x00003002 /* IOPL 3, interrupts off */

/* Offsets in struct Cpu (lib/cpu.h asserts them). */
#define CPU_ENTRY 8
#define CPU_ENTRY_STACK 16

#endif
