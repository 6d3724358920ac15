/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a debugger needs of an architecture: its registers as gdb numbers and describes them, its
 * debug registers, its breakpoint instruction. vmm/x86_64/ implements it; vmm/gdb/ uses it.
 *
 * Source: GDB manual, "Target Descriptions"; KVM api.rst, KVM_SET_GUEST_DEBUG.
 */
#ifndef SKIFF_VMM_ARCH_ARCH_DEBUG_H
#define SKIFF_VMM_ARCH_ARCH_DEBUG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "vmm/arch/arch.h"

/* ---- registers, in the order of the description; contents as gdb has them: little-endian ---- */

/* The target description (target.xml). Static. */
const char *arch_gdb_target_xml(void) RUNS_IN_MAIN;
/* Numbers are below this. */
unsigned arch_gdb_register_count(void) ANY_THREAD;
/* Bytes of one, at most ARCH_GDB_REGISTER_MAX; of all together, at most ARCH_GDB_REGISTERS_MAX. */
#define ARCH_GDB_REGISTER_MAX 16
#define ARCH_GDB_REGISTERS_MAX 2048
size_t arch_gdb_register_size(unsigned number) ANY_THREAD;

/* All of them. In the vCPU's thread. */
bool arch_gdb_read_registers(int vcpu_fd, uint8_t *buf, GError **error) RUNS_IN_VCPU;
/* All of them: those that differ. One that cannot be set is an error, and then none is. */
bool arch_gdb_write_registers(int vcpu_fd, const uint8_t *buf, GError **error) RUNS_IN_VCPU;
bool arch_gdb_read_register(int vcpu_fd, unsigned number, uint8_t *buf, GError **error)
    RUNS_IN_VCPU;
bool arch_gdb_write_register(int vcpu_fd, unsigned number, const uint8_t *buf, GError **error)
    RUNS_IN_VCPU;
/* The address of the next instruction. */
void arch_gdb_set_pc(int vcpu_fd, uint64_t pc) RUNS_IN_VCPU;

/* ---- breakpoints ---- */

#if defined(__x86_64__)
#define ARCH_HW_BREAKPOINTS 4
#define ARCH_BREAK_INSTRUCTION 0xcc /* int3 */
/* out %al, (%dx): leaves a guest's kernel for skiff under any KVM */
#define ARCH_BREAK_FALLBACK 0xee
#endif

typedef enum ArchHwKind { ARCH_HW_EXECUTE, ARCH_HW_WRITE, ARCH_HW_ACCESS } ArchHwKind;

typedef struct ArchHwBreakpoint {
    bool used;
    ArchHwKind kind;
    uint64_t address; /* a multiple of size */
    unsigned size;    /* 1, 2, 4 or 8; of ARCH_HW_EXECUTE 1 */
} ArchHwBreakpoint;

/* What this host's KVM reports. The API has no question for it, and a KVM that is emulated (in a
 * machine without virtualization, in a nested one) may take KVM_SET_GUEST_DEBUG and do nothing. */
typedef struct ArchDebugAbilities {
    bool instruction; /* ARCH_BREAK_INSTRUCTION */
    bool execute;     /* debug registers: instructions */
    bool watch;       /* ... and data */
} ArchDebugAbilities;

/* Tries it out in a VM of its own. False: that cannot be had; @a says that all works. */
bool arch_debug_probe(ArchDebugAbilities *a) RUNS_IN_WORKER;

/* What a vCPU reports to the debugger. All zero: nothing, the guest has its debug registers. */
typedef struct ArchDebug {
    bool traps;    /* single-step traps, also those that nobody asked for */
    bool software; /* break instructions */
    bool step;     /* one instruction */
    bool step_blocks_interrupts;
    ArchHwBreakpoint hw[ARCH_HW_BREAKPOINTS];
} ArchDebug;

/* Whether one instruction can be executed without falling into a pending interrupt. */
bool arch_debug_can_block_interrupts(const Kvm *kvm) ANY_THREAD;
/* After all changes of registers. In the vCPU's thread. */
bool arch_debug_apply(int vcpu_fd, const ArchDebug *debug, GError **error) RUNS_IN_VCPU;

typedef enum ArchDebugCause {
    ARCH_DEBUG_FOREIGN,  /* the guest's own */
    ARCH_DEBUG_SOFTWARE, /* a break instruction, perhaps the guest's own */
    ARCH_DEBUG_HARDWARE,
    ARCH_DEBUG_STEP,
} ArchDebugCause;

/* Why KVM_EXIT_DEBUG came. *@pc: where the vCPU stands; *@slot: which hw[]. */
ArchDebugCause arch_debug_cause(const struct kvm_debug_exit_arch *exit, const ArchDebug *debug,
                                uint64_t *pc, unsigned *slot) ANY_THREAD;
/* Gives the guest the exception that was its own. In the vCPU's thread. */
void arch_debug_reinject(int vcpu_fd, const struct kvm_debug_exit_arch *exit,
                         const ArchDebug *debug) RUNS_IN_VCPU;
/* A single-step trap that was not asked for: a flag that a step has left behind on a stack. Goes on
 * without. False: it was something else. In the vCPU's thread. */
bool arch_debug_drop_trap(int vcpu_fd, const struct kvm_debug_exit_arch *exit) RUNS_IN_VCPU;
/* KVM_EXIT_IO: whether that was ARCH_BREAK_FALLBACK somewhere, and where it may be: at one of two
 * addresses, as KVM has gone on already or not. In the vCPU's thread. */
bool arch_debug_is_fallback(int vcpu_fd, const struct kvm_run *run, uint64_t pc[2]) RUNS_IN_VCPU;
/* Whether @paging translates at all: before, code moves about and tables are still to come. */
bool arch_paging_is_on(const ArchPaging *paging) ANY_THREAD;

#endif
