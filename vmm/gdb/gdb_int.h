/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shared by the files of the gdb stub.
 *
 *   gdbstub.c         the chardev, connections of the client, the coroutine
 *   gdb_commands.c    packets, except
 *   gdb_query.c       q and Q packets
 *   gdb_run.c         running, stopping, reporting stops
 *   gdb_memory.c      m, x, M and X
 *   gdb_breakpoints.c breakpoints, watchpoints and steps in the guest
 *   gdb_vcpu.c        the vCPUs' part of that
 *   rsp.c             the protocol's framing
 *
 * Everything runs in main; the state that vCPU threads use is in GdbBreakpoints.
 */
#ifndef SKIFF_VMM_GDB_GDB_INT_H
#define SKIFF_VMM_GDB_GDB_INT_H

#include "vmm/gdb/gdb_breakpoints.h"
#include "vmm/gdb/gdbstub.h"
#include "vmm/gdb/rsp.h"

#define GDB_BREAKPOINTS_MAX 4096
#define GDB_INPUT_SIZE 4096
/* Bytes of memory in one packet: half of the announced packet size, which is gdb's own maximum. */
#define GDB_MEMORY_MAX (RSP_PAYLOAD_MAX / 2)

/* Signals as gdb numbers them ("GDB_SIGNAL_..."). */
typedef enum GdbSignal {
    GDB_SIGNAL_INT = 2,
    GDB_SIGNAL_QUIT = 3,
    GDB_SIGNAL_TRAP = 5,
    GDB_SIGNAL_ABRT = 6,
    GDB_SIGNAL_ALRM = 14,
    GDB_SIGNAL_IO = 23,
} GdbSignal;

/* QEMU's bits for `maint packet Qqemu.sstep=`: how a step steps. */
enum { GDB_STEP_ENABLE = 1, GDB_STEP_NO_INTERRUPTS = 2, GDB_STEP_NO_TIMER = 4 };

/* The state of one client's session. */
typedef struct GdbSession {
    bool connected;
    bool no_ack;
    bool wants_reasons;   /* the client supports swbreak and hwbreak */
    bool physical;        /* addresses are physical (Qqemu.PhyMemMode) */
    unsigned cpu;         /* for registers and memory (Hg) */
    unsigned run_cpu;     /* for c and s (Hc) */
    bool run_one;         /* ... and only that vCPU */
    bool resumed;         /* for the client the guest runs: a stop has to be reported */
    bool revoked;         /* a stop was reported although a start is still under way */
    bool leave_running;   /* the VM runs after the client has gone */
    bool interrupting;    /* the next stop is the client's own Ctrl-C */
    char *threads_xml;    /* while it is read in pieces */
    unsigned thread_list; /* position of qsThreadInfo */
} GdbSession;

typedef struct Gdb {
    Vm *vm;
    Chardev *chardev; /* NULL: closed */
    char *own_id;     /* the chardev's id, if it was created for the stub and is deleted with it */
    VmListener listener;
    GdbBreakpoints breakpoints;
    GdbSession session;
    bool *held; /* by vCPU: stays parked when the VM runs */

    /* ---- events for the coroutine ---- */
    bool opened, closed, interrupted, stopped;
    bool has_packet; /* in reader */
    bool waiting;
    CoToken waiter;
    bool stop_noted;   /* the stop under way, before it is complete */
    bool settling;     /* gdb_run.c waits for the effect of a request */
    bool starting;     /* ... and the last request was a start */
    unsigned requests; /* number of requests made */

    /* ---- the wire ---- */
    RspReader reader;
    uint8_t input[GDB_INPUT_SIZE];
    size_t input_size;
    GByteArray *output; /* not yet taken by the chardev */
    GByteArray *last;   /* the last packet sent, for retransmission */
} Gdb;

/* ---- gdbstub.c ---- */
/* Wakes the coroutine to handle events. */
void gdb_kick(Gdb *g) RUNS_IN_MAIN;
void gdb_send(Gdb *g, const char *payload, size_t size) RUNS_IN_MAIN;
void gdb_send_text(Gdb *g, const char *text) RUNS_IN_MAIN;

/* ---- gdb_commands.c ---- */
/* Executes the packet in reader. */
void gdb_co_execute(Gdb *g) coroutine_fn RUNS_IN_MAIN;
void gdb_send_ok(Gdb *g) RUNS_IN_MAIN;
/* @error is freed; gdb shows its text where it can. */
void gdb_send_error(Gdb *g, GError *error) RUNS_IN_MAIN;
/* "E22": the packet is malformed. */
void gdb_send_malformed(Gdb *g) RUNS_IN_MAIN;
/* The vCPU of a thread; @any stands for any thread. False: there is none. */
bool gdb_find_cpu(const Gdb *g, const RspThread *thread, unsigned any, unsigned *cpu) RUNS_IN_MAIN;

/* ---- gdb_query.c ---- */
void gdb_co_query(Gdb *g, const char *packet) coroutine_fn RUNS_IN_MAIN;

/* ---- gdb_memory.c ---- */
/* m; x if @binary. A read that is longer than one packet, or that runs into unmapped memory,
 * returns the bytes before that; gdb requests the rest. */
void gdb_co_read_memory(Gdb *g, bool binary, const char *args) coroutine_fn RUNS_IN_MAIN;
void gdb_co_write_memory(Gdb *g, const char *args) coroutine_fn RUNS_IN_MAIN;
/* @args ends with the packet; the data are raw bytes. */
void gdb_co_write_binary(Gdb *g, const char *args) coroutine_fn RUNS_IN_MAIN;

/* ---- gdb_vcpu.c ---- */
/* @opaque: the GdbBreakpoints. */
extern const VcpuDebugger gdb_vcpu_debugger;
void gdb_vcpu_apply_call(Vcpu *v, void *opaque) RUNS_IN_VCPU;

/* ---- gdb_run.c ---- */
typedef enum GdbAction { GDB_HOLD, GDB_CONTINUE, GDB_STEP } GdbAction;

void gdb_run_init(Gdb *g) RUNS_IN_MAIN;
/* All vCPUs are parked: the guest's state can be read. */
bool gdb_is_parked(const Gdb *g) RUNS_IN_MAIN;
/* A client has connected: stops the VM. */
void gdb_run_enter(Gdb *g) RUNS_IN_MAIN;
/* The client has gone: removes all its settings from the guest. */
void gdb_co_run_leave(Gdb *g) coroutine_fn RUNS_IN_MAIN;
/* Unparks the vCPUs, each by its action. */
void gdb_resume(Gdb *g, const GdbAction *actions) RUNS_IN_MAIN;
void gdb_interrupt(Gdb *g) RUNS_IN_MAIN;
/* Reports a stop, if there is one and the client waits for it. */
void gdb_report_stop(Gdb *g) RUNS_IN_MAIN;
/* The answer to `?`. */
void gdb_query_stop(Gdb *g) RUNS_IN_MAIN;
void gdb_co_detach(Gdb *g) coroutine_fn RUNS_IN_MAIN;
void gdb_vcont(Gdb *g, const char *args) RUNS_IN_MAIN;
/* c, C, s and S: @step, @args behind the signal. */
void gdb_co_run_classic(Gdb *g, bool step, const char *args) coroutine_fn RUNS_IN_MAIN;

#endif
