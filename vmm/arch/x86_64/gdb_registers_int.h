/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's registers for gdb: gdb_target.c lists and describes them, gdb_registers.c reads and
 * writes them. */
#ifndef SKIFF_VMM_ARCH_X86_64_GDB_REGISTERS_INT_H
#define SKIFF_VMM_ARCH_X86_64_GDB_REGISTERS_INT_H

#include <stddef.h>
#include "vmm/arch/arch_debug.h"

/* The sources of all registers. */
typedef struct X86State {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_fpu fpu;
    uint64_t kernel_gs_base;
    bool regs_changed, sregs_changed, fpu_changed, kernel_gs_base_changed;
} X86State;

typedef enum X86RegisterKind {
    X86_PLAIN,    /* `size` bytes at `offset` of X86State */
    X86_SELECTOR, /* of the kvm_segment at `offset` */
    X86_FTAG,     /* two bits for each x87 register */
    X86_FISEG,    /* the upper half of last_ip */
    X86_FOSEG,
} X86RegisterKind;

typedef struct X86Register {
    const char *name, *type, *group; /* in the description; group may be NULL */
    uint16_t size;                   /* bytes, in gdb's format */
    uint16_t stored;                 /* bytes in X86State; 0: the same */
    X86RegisterKind kind;
    size_t offset;
    size_t changed; /* offset of its "changed" flag */
} X86Register;

/* NULL: there are fewer registers. */
const X86Register *x86_gdb_register(unsigned number) ANY_THREAD;

#endif
