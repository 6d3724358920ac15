/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the debugger has set in the guest: breakpoints, watchpoints, single steps; and what a vCPU
 * stopped for.
 *
 * A breakpoint that gdb calls software is one of
 *
 *   IN_MEMORY    the break instruction stands in RAM or ROM in place of the guest's own byte
 *   IN_REGISTER  a debug register: while the vCPU does not translate addresses, or not this one, so
 *                that a kernel that is yet to be loaded can be given breakpoints
 *   BY_STEPS     vCPUs execute instruction by instruction and look where they are: where KVM
 *                has debug registers in name only (arch_debug_probe). Once the address is
 *                mapped, the vCPU that finds out puts a break instruction there
 *   LOST         none of these can be had: after a reset that found all debug registers taken
 *
 * Invariants
 *   1. Each byte that a break instruction covers is in `software` once, with the guest's own byte.
 *   2. What vCPUs report is `debug` plus their own step; a vCPU takes it up when it is let go, or
 *      at once if breakpoints change while it runs.
 *   3. A reset leaves nothing IN_MEMORY: RAM is the loader's again.
 *
 * Steps see what the code does that is stepped through. An interrupt, exception or system call
 * switches the processor's trap flag off for its own time: what happens in there is seen when it
 * returns, if it can still be seen. A flag that such a frame has kept on a stack traps later, and
 * is dropped (`traps`).
 *
 * The set is main's. vCPUs look at the parts marked `lock`, from their own threads.
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
    GDB_WATCH_READ, /* x86 stops at writes too; gdb looks at the value and goes on */
    GDB_WATCH_ACCESS,
    GDB_BREAKPOINT_TYPES,
} GdbBreakpointType;

typedef enum GdbPlace { GDB_IN_MEMORY, GDB_IN_REGISTER, GDB_BY_STEPS, GDB_LOST } GdbPlace;

typedef struct GdbBreakpoint {
    GdbBreakpointType type;
    uint64_t address, size;
    GdbPlace place;
    uint64_t gpa;   /* GDB_IN_MEMORY; GDB_BY_STEPS: of what is watched */
    unsigned slots; /* GDB_IN_REGISTER: bits of debug.hw[] */
} GdbBreakpoint;

#define GDB_WATCH_SIZE_MAX 32 /* as many as the debug registers can have in the best case */

/* What a vCPU looks for after each step. */
typedef struct GdbStepped {
    GdbBreakpointType type;
    uint64_t address, gpa;
    size_t size;
    uint8_t last[GDB_WATCH_SIZE_MAX]; /* what is watched, as it was seen */
    bool in_memory; /* its page has come to be mapped: a break instruction serves from now on */
} GdbStepped;

/* A byte of memory that a break instruction stands in for. */
typedef struct GdbSoftware {
    uint64_t gpa;
    unsigned users; /* breakpoints: addresses that lead there */
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
    uint64_t address;       /* what was watched */
} GdbStop;

typedef struct GdbVcpu {
    bool step;    /* lock */
    GdbStop stop; /* lock: why it left the guest; NONE once told */
    bool applied; /* the vCPU's own: KVM has something to report */
} GdbVcpu;

typedef struct GdbBreakpoints {
    Vm *vm;
    ArchDebugAbilities abilities;
    uint8_t instruction;            /* that breaks */
    _Atomic bool blocks_interrupts; /* while a vCPU steps */
    GArray *set;                    /* main: GdbBreakpoint */
    RankMutex lock;
    GArray *software;                                  /* lock: GdbSoftware */
    GArray *stepped;                                   /* lock: GdbStepped */
    ArchDebug debug;                                   /* lock: what all vCPUs report */
    GdbBreakpointType slot_types[ARCH_HW_BREAKPOINTS]; /* lock */
    GdbVcpu *vcpus;
} GdbBreakpoints;

/* Once per VM; vCPUs ask it from then on. */
void gdb_breakpoints_init(GdbBreakpoints *b, Vm *vm, const ArchDebugAbilities *abilities)
    RUNS_IN_MAIN;

/* @cpu: whose page tables say where @address is; @physical: nobody's. One that is set already
 * stays. False + error: cannot be had. */
bool gdb_breakpoints_co_insert(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size, unsigned cpu, bool physical, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* One that is not set is no matter. */
void gdb_breakpoints_co_remove(GdbBreakpoints *b, GdbBreakpointType type, uint64_t address,
                               uint64_t size) coroutine_fn RUNS_IN_MAIN;
void gdb_breakpoints_co_remove_all(GdbBreakpoints *b) coroutine_fn RUNS_IN_MAIN;
/* The machine was reset, its vCPUs are parked. */
void gdb_breakpoints_reset(GdbBreakpoints *b) RUNS_IN_MAIN;

/* ---- steps and stops ---- */
void gdb_breakpoints_set_step(GdbBreakpoints *b, unsigned cpu, bool step) RUNS_IN_MAIN;
/* Takes a stop that is to be told: the one of @prefer, else of the first vCPU that has one. Those
 * of others are dropped if they will come again by themselves. False: there is none. */
bool gdb_breakpoints_take_stop(GdbBreakpoints *b, unsigned *cpu, GdbStop *stop) RUNS_IN_MAIN;
bool gdb_breakpoints_has_stop(GdbBreakpoints *b) RUNS_IN_MAIN;
/* Forgets what has not been told. */
void gdb_breakpoints_drop_stops(GdbBreakpoints *b) RUNS_IN_MAIN;

/* ---- memory as if no break instruction stood in it ---- */
void gdb_breakpoints_hide(GdbBreakpoints *b, uint64_t gpa, uint8_t *bytes, size_t size)
    RUNS_IN_MAIN;
/* For gdb_vcpu.c: under the lock. */
GdbSoftware *gdb_software_find(GdbBreakpoints *b, uint64_t gpa) ANY_THREAD;
bool gdb_software_insert(GdbBreakpoints *b, uint64_t gpa, GError **error) ANY_THREAD;
/* Writes; what a break instruction covers goes to what is put back later. */
bool gdb_breakpoints_write(GdbBreakpoints *b, uint64_t gpa, const uint8_t *bytes, size_t size,
                           GError **error) RUNS_IN_MAIN;

#endif
