/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of -exec, shared by its two files: states and streams (exec.c), the port (exec_port.c). */
#ifndef SKIFF_VMM_EXEC_EXEC_INT_H
#define SKIFF_VMM_EXEC_EXEC_INT_H

#include "hw/chardev/chardev_set.h"
#include "vmm/exec/exec.h"
#include "vmm/exec/exec_parser.h"

typedef struct ExecOutput {
    Exec *exec;
    Chardev *chr;
    uint8_t stream;  /* EXEC_STDOUT, EXEC_STDERR */
    uint32_t window; /* bytes the agent may still send */
    uint32_t owed;   /* bytes to be granted anew */
    bool closed;     /* nobody reads it any more */
    bool tell_close; /* ... which the agent does not know */
    size_t head, count;
    uint8_t ring[EXEC_WINDOW_BYTES];
} ExecOutput;

typedef struct ExecInput {
    Chardev *chr;
    uint32_t window; /* bytes the agent has room for, less what is in `data` */
    bool ended;
    bool told_end;
    size_t count;
    uint8_t data[EXEC_DATA_MAX];
} ExecInput;

struct Exec {
    Chardev port; /* what the virtserialport writes to and is fed by */
    ExecConfig config;
    ExecState state;
    char *failure;
    ExecParser parser;
    ExecInput in;
    ExecOutput out[2];

    bool met_agent;  /* it has greeted */
    bool powers_off; /* it said so */
    bool exited;     /* EXEC_EXIT has come: */
    uint8_t how, number;
    bool guest_over;
    bool ending;  /* the coroutine to the end was started */
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
/* @why is g_strdup'd, or NULL: the guest has ended. */
void exec_lose(Exec *e, const char *why) RUNS_IN_MAIN;

/* ---- exec_port.c ---- */
void exec_port_init(Exec *e) RUNS_IN_MAIN;
/* There is something to tell the agent. */
void exec_port_kick(Exec *e) ANY_THREAD;

#endif
