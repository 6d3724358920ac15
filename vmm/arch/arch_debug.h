/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debugger's interface to the architecture: registers in gdb's numbering and format, debug
 * registers, the breakpoint instruction. vmm/arch/x86_64/ implements it; vmm/gdb/ uses it.
 *
 * Source: GDB manual, "Target Descriptions"; KVM api.rst, KVM_SET_GUEST_DEBUG.
 */
#ifndef SKIFF_VMM_ARCH_ARCH_DEBUG_H
#define SKIFF_VMM_ARCH_ARCH_DEBUG_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include "vmm/arch/arch.h"

/* ---- registers, in the order of the description; contents in gdb's format: little-endian ---- */

/* The target description (target.xml). Static. */
const char *arch_gdb_target_xml(void) RUNS_IN_MAIN;
/* Register numbers are below this. */
unsigned arch_gdb_register_count(void) ANY_THREAD;
/* Bytes of one register, at most ARCH_GDB_REGISTER_MAX; of all, at most ARCH_GDB_REGISTERS_MAX. */
#define ARCH_GDB_REGISTER_MAX 16
#define ARCH_GDB_REGISTERS_MAX 2048
size_t arch_gdb_register_size(unsigned number) ANY_THREAD;

/* Reads all registers. In the vCPU's thread. */
bool arch_gdb_read_registers(int vcpu_fd, uint8_t *buf, GError **error) RUNS_IN_VCPU;
/* Writes the registers that differ. If one cannot be set, that is an error and none is set. */
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
/* out %al, (%dx): exits to skiff from a guest's kernel under any KVM */
#define ARCH_BREAK_FALLBACK 0xee
#endif

typedef enum ArchHwKind { ARCH_HW_EXECUTE, ARCH_HW_WRITE, ARCH_HW_ACCESS } ArchHwKind;

typedef struct ArchHwBreakpoint {
    bool used;
    ArchHwKind kind;
    uint64_t address; /* a multiple of size */
    unsigned size;    /* 1, 2, 4 or 8; 1 for ARCH_HW_EXECUTE */
} ArchHwBreakpoint;

/* What this host's KVM reports. The API has no query for it, and an emulated KVM (in a machine
 * without virtualization, or a nested one) may accept KVM_SET_GUEST_DEBUG and do nothing. */
typedef struct ArchDebugAbilities {
    bool instruction; /* ARCH_BREAK_INSTRUCTION */
    bool execute;     /* debug registers work for instructions */
    bool watch;       /* debug registers work for data */
} ArchDebugAbilities;

/* Tests it in a separate VM. False: that VM cannot be created; @a then says that all works. */
bool arch_debug_probe(ArchDebugAbilities *a) RUNS_IN_WORKER;

/* What a vCPU reports to the debugger. All zero: nothing; the guest owns its debug registers. */
typedef struct ArchDebug {
    bool traps;    /* single-step traps, also those that the debugger did not request */
    bool software; /* break instructions */
    bool step;     /* one instruction */
    bool step_blocks_interrupts;
    ArchHwBreakpoint hw[ARCH_HW_BREAKPOINTS];
} ArchDebug;

/* Whether one instruction can be executed without delivering a pending interrupt. */
bool arch_debug_can_block_interrupts(const Kvm *kvm) ANY_THREAD;
/* Called after all changes of registers. In the vCPU's thread. */
bool arch_debug_apply(int vcpu_fd, const ArchDebug *debug, GError **error) RUNS_IN_VCPU;

typedef enum ArchDebugCause {
    ARCH_DEBUG_FOREIGN,  /* the guest's own */
    ARCH_DEBUG_SOFTWARE, /* a break instruction, possibly the guest's own */
    ARCH_DEBUG_HARDWARE,
    ARCH_DEBUG_STEP,
} ArchDebugCause;

/* Classifies a KVM_EXIT_DEBUG. *@pc: the vCPU's address; *@slot: the index in hw[]. */
ArchDebugCause arch_debug_cause(const struct kvm_debug_exit_arch *exit, const ArchDebug *debug,
                                uint64_t *pc, unsigned *slot) ANY_THREAD;
/* Delivers the guest's own exception to it. In the vCPU's thread. */
void arch_debug_reinject(int vcpu_fd, const struct kvm_debug_exit_arch *exit,
                         const ArchDebug *debug) RUNS_IN_VCPU;
/* Handles a single-step trap that was not requested: a step has left its flag on a stack. Clears
 * the flag, so that the vCPU can continue. False: another cause. In the vCPU's thread. */
bool arch_debug_drop_trap(int vcpu_fd, const struct kvm_debug_exit_arch *exit) RUNS_IN_VCPU;
/* For KVM_EXIT_IO: whether the instruction was an ARCH_BREAK_FALLBACK, and its possible addresses:
 * two, since KVM may have advanced past it or not. In the vCPU's thread. */
bool arch_debug_is_fallback(int vcpu_fd, const struct kvm_run *run, uint64_t pc[2]) RUNS_IN_VCPU;
/* Whether @paging translates addresses. Before that, code is still moved and the page tables are
 * still to come. */
bool arch_paging_is_on(const ArchPaging *paging) ANY_THREAD;

#endif
