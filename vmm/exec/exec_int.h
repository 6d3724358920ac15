/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of -exec: states and streams (exec.c), the port (exec_port.c), what is saved (exec_state.c). */
#ifndef SKIFF_VMM_EXEC_EXEC_INT_H
#define SKIFF_VMM_EXEC_EXEC_INT_H

#include "hw/chardev/chardev_set.h"
#include "util/log.h"
#include "vmm/exec/exec.h"
#include "vmm/exec/exec_parser.h"

typedef struct ExecOutput {
    Exec *exec;
    Chardev *chr;
    uint8_t stream;  /* EXEC_STDOUT, EXEC_STDERR */
    uint32_t window; /* bytes the agent may still send */
    uint32_t owed;   /* bytes to add to the window */
    bool closed;     /* nothing reads it any more */
    bool send_close; /* the close has yet to be sent to the agent */
    size_t head, count;
    uint8_t ring[EXEC_WINDOW_BYTES];
} ExecOutput;

typedef struct ExecInput {
    Chardev *chr;
    uint32_t window; /* free bytes of the agent's buffer, less those in `data` */
    bool ended;
    bool told_end;
    size_t count;
    uint8_t data[EXEC_DATA_MAX];
} ExecInput;

struct Exec {
    Chardev port; /* the virtserialport's chardev */
    ExecConfig config;
    ExecState state;
    char *failure;
    LogLimit log_limit;
    ExecParser parser;
    ExecInput in;
    ExecOutput out[2];

    bool open;            /* the guest has the port open */
    _Atomic bool hung_up; /* the guest finds the port closed by the host */
    bool has_agent;       /* EXEC_HELLO has arrived */
    bool powers_off;      /* EXEC_HELLO announced a power-off */
    bool exited;          /* EXEC_EXIT has arrived: */
    uint8_t how, number;
    bool guest_over;
    bool ending;  /* the coroutine that ends it was started */
    bool flushed; /* all output is written */
    CoQueue drained;
    AioTimer power_off_timer;
    AioTimer close_timer; /* armed: RUNNING, and the port is closed */

    /* to the guest: the frame that is being sent */
    AioBh push_bh;
    bool send_run, send_bye;
    size_t tx_at, tx_size;
    uint8_t tx[EXEC_HEADER_BYTES + EXEC_RUN_BYTES + EXEC_COMMAND_MAX];
};

/* ---- exec.c ---- */
void exec_take_frame(Exec *e, const ExecFrame *frame) RUNS_IN_MAIN;
/* @why is owned by the callee (g_strdup'd); NULL: the guest has ended. */
void exec_lose(Exec *e, const char *why) RUNS_IN_MAIN;
/* An agent is there and has no command: sends it, or begins READY. */
void exec_serve(Exec *e) RUNS_IN_MAIN;

/* ---- exec_port.c ---- */
void exec_port_init(Exec *e) RUNS_IN_MAIN;
/* Closes or opens the host's side of the port. */
void exec_port_hang_up(Exec *e, bool hung_up) RUNS_IN_MAIN;
/* There is something to send to the agent. */
void exec_port_kick(Exec *e) ANY_THREAD;

#endif
