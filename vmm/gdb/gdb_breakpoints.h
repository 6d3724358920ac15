/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The debugger's settings in the guest: breakpoints, watchpoints, single steps; and the vCPUs' stop
 * reasons.
 *
 * A breakpoint that gdb calls software is in one of these states:
 *
 *   IN_MEMORY    the break instruction is in RAM or ROM in place of the guest's own byte
 *   IN_REGISTER  a debug register: used while the vCPU does not translate addresses, or not this
 *                one, so that breakpoints work in a kernel that is not loaded yet
 *   BY_STEPS     vCPUs single-step and compare their address: used where KVM accepts debug
 *                registers without effect (arch_debug_probe). Once the address is mapped, the
 *                vCPU that detects it writes a break instruction there
 *   LOST         none of these is possible: a reset found all debug registers in use
 *
 * Invariants
 *   1. Each byte that a break instruction replaces is in `software` once, with the guest's own
 *      byte.
 *   2. A vCPU reports `debug` plus its own step; it applies them when it is unparked, or at once if
 *      breakpoints change while it runs.
 *   3. A reset leaves nothing IN_MEMORY: the loader writes RAM anew.
 *   4. Memory that is saved, and the memory of a point to go back to, has the guest's own bytes only.
 *
 * Steps observe the code that is stepped through. An interrupt, exception or system call switches
 * the processor's trap flag off until it returns: what happens in there is seen afterwards, if it
 * can still be seen. A flag that such a frame has kept on a stack traps later, and is dropped
 * (`traps`).
 *
 * The set belongs to main. vCPUs read the parts marked `lock`, from their own threads.
 */
#ifndef SKIFF_VMM_GDB_GDB_BREAKPOINTS_H
#define SKIFF_VMM_GDB_GDB_BREAKPOINTS_H

#include "util/loop/coroutine.h"
#include "util/loop/held.h"
#include "vmm/arch/arch_debug.h"
#include "vmm/vm/vm.h"

/* As in gdb's Z packets. */
typedef enum GdbBreakpointType {
    GDB_BREAK_SOFTWARE,
    GDB_BREAK_HARDWARE,
    GDB_WATCH_WRITE,
    GDB_WATCH_READ, /* x86 stops at writes too; gdb compares the value and continues */
    GDB_WATCH_ACCESS,
    GDB_BREAKPOINT_TYPES,
} GdbBreakpointType;

typedef enum GdbPlace { GDB_IN_MEMORY, GDB_IN_REGISTER, GDB_BY_STEPS, GDB_LOST } GdbPlace;

typedef struct GdbBreakpoint {
    GdbBreakpointType type;
    uint64_t address, size;
    GdbPlace place;
    uint64_t gpa;   /* GDB_IN_MEMORY; GDB_BY_STEPS: of a watchpoint */
    unsigned slots; /* GDB_IN_REGISTER: bits of debug.hw[] */
} GdbBreakpoint;

#define GDB_WATCH_SIZE_MAX 32 /* the most that the debug registers can cover */

/* What a vCPU checks after each step. */
typedef struct GdbStepped {
    GdbBreakpointType type;
    uint64_t address, gpa;
    size_t size;
    uint8_t last[GDB_WATCH_SIZE_MAX]; /* the watched bytes, as last seen */
    bool in_memory; /* its page is now mapped: a break instruction is used from now on */
} GdbStepped;

/* A byte of memory that a break instruction replaces. */
typedef struct GdbSoftware {
    uint64_t gpa;
    unsigned users; /* breakpoints: addresses that map to it */
    uint8_t own;
} GdbSoftware;

typedef enum GdbStopKind {
    GDB_STOP_NONE,
    GDB_STOP_STEP,
    GDB_STOP_SOFTWARE,
    GDB_STOP_HARDWARE,
    GDB_STOP_WATCH,
} GdbStopKind;

typedef struct GdbStop {
    GdbStopKind kind;
    GdbBreakpointType type; /* of the watchpoint */
    uint64_t address;       /* the watched address */
} GdbStop;

typedef struct GdbVcpu {
    bool step;    /* lock */
    GdbStop stop; /* lock: why it left the guest; NONE once reported */
    bool applied; /* the vCPU's own: KVM has something to report */
} GdbVcpu;

typedef struct GdbBreakpoints {
    Vm *vm;
    ArchDebugAbilities abilities;
    uint8_t instruction;            /* the break instruction */
    _Atomic bool blocks_interrupts; /* while a vCPU steps */
    GArray *set;                    /* main: GdbBreakpoint */
    RankMutex lock;
    GArray *software; /* lock: GdbSoftware */
    GArray *stepped;  /* lock: GdbStepped */
    bool lifted;      /* lock: from lift to plant no break instruction is written */
    ArchDebug debug;  /* lock: what all vCPUs report */
    GdbBreakpointType slot_types[ARCH_HW_BREAKPOINTS]; /* lock */
    GdbVcpu *vcpus;
} GdbBreakpoints;

/* Called once per VM; the vCPUs use it from then on. */
void gdb_breakpoints_init(GdbBreakpoints *b, Vm *vm, const ArchDebugAbilities *abilities)
    RUNS_IN_MAIN;

/* @cpu: the vCPU whose page tables translate @address; @physical: no translation. Inserting an
 * existing one changes nothing. False + error: not possible. */
bool gdb_breakpoints_co_insert(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size, unsigned cpu, bool physical, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Removing one that is not set does nothing. */
void gdb_breakpoints_co_remove(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size) coroutine_fn RUNS_IN_MAIN;
void gdb_breakpoints_co_remove_all(GdbBreakpoints *b) coroutine_fn RUNS_IN_MAIN;
/* The machine was reset, its vCPUs are parked. */
void gdb_breakpoints_reset(GdbBreakpoints *b) RUNS_IN_MAIN;
/* The guest's own bytes are in memory from now on, while the VM is stopped for an operation on its memory; then break
 * instructions are there again. Where memory was replaced and another byte stands, a debug register is used. */
void gdb_breakpoints_lift(GdbBreakpoints *b) RUNS_IN_MAIN;
void gdb_breakpoints_plant(GdbBreakpoints *b) RUNS_IN_MAIN;

/* ---- steps and stops ---- */
void gdb_breakpoints_set_step(GdbBreakpoints *b, unsigned cpu, bool step) RUNS_IN_MAIN;
/* Takes a stop to report: that of @prefer, else of the first vCPU that has one. The stops of the
 * others are dropped if they will recur by themselves. False: there is none. */
bool gdb_breakpoints_take_stop(GdbBreakpoints *b, unsigned *cpu, GdbStop *stop) RUNS_IN_MAIN;
bool gdb_breakpoints_has_stop(GdbBreakpoints *b) RUNS_IN_MAIN;
/* Drops the stops that were not reported. */
void gdb_breakpoints_drop_stops(GdbBreakpoints *b) RUNS_IN_MAIN;

/* ---- memory with the guest's own bytes in place of break instructions ---- */
void gdb_breakpoints_hide(GdbBreakpoints *b, uint64_t gpa, uint8_t *bytes, size_t size)
    RUNS_IN_MAIN;
/* For gdb_vcpu.c: under the lock. */
GdbSoftware *gdb_software_find(GdbBreakpoints *b, uint64_t gpa) ANY_THREAD;
bool gdb_software_insert(GdbBreakpoints *b, uint64_t gpa, GError **error) ANY_THREAD;
/* Writes; bytes under a break instruction go to the saved copy. */
bool gdb_breakpoints_write(GdbBreakpoints *b, uint64_t gpa, const uint8_t *bytes, size_t size,
                           GError **error) RUNS_IN_MAIN;

#endif
