/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -exec: runs a command in the guest through an agent there. This is the host's side of the agent's
 * port: a chardev for the virtserialport, and three of skiff's descriptors. docs/exec.md describes
 * the protocol.
 *
 *   descriptor 0 --> stdin chardev --> [4 KiB] --frames--> port --> agent
 *   descriptor 1, 2 <-- out chardevs <-- [64 KiB each] <--frames-- port <-- agent
 *
 *   WAITING --EXEC_HELLO--> RUNNING --EXEC_EXIT--> EXITED --over--> ENDED
 *      |                       |                                      ^
 *      +------- no more -------+--------------> LOST -----over--------+
 *
 * Without a command (-exec-port) it only listens, for a state that is saved:
 *
 *   WAITING --EXEC_HELLO--> READY      WAITING, READY --no frame, or a frame in READY--> LOST
 *      ^                      |                                                           |
 *      +-- the port closes ---+-----------------------------------------------------------+
 *
 *   WAITING to RUNNING   EXEC_HELLO has arrived; the command is sent: exec_greeted()
 *   WAITING to READY     the same without a command
 *   WAITING to RUNNING   a state is loaded whose agent has greeted and was sent no command: exec_load()
 *   RUNNING to EXITED    the exit status has arrived and is acknowledged: exec_exited()
 *   either to LOST       bytes that are no frame, or the guest ended: exec_lose()
 *   RUNNING to LOST      the port is closed, and the guest has not ended within EXEC_CLOSE_NS (a
 *                        Linux that shuts down closes it a moment before): exec_close_overdue()
 *   either to ENDED      all output is written; and the guest is off, will not power off,
 *                        or has not within EXEC_POWER_OFF_NS: exec_finish()
 *
 * Invariants
 *   1. State moves forward only; `finished` is called once, at ENDED.
 *   2. A stream's buffer never holds more than EXEC_WINDOW_BYTES: a guest that sends more than its
 *      window is LOST. So every byte of the port is taken at once, and no stream waits for another.
 *   3. The window grows only by bytes that the stream's chardev took, or that were dropped because
 *      no reader is left.
 *   4. In READY no byte has been sent to the agent: another process can go on from there.
 *
 * All in main.
 */
#ifndef SKIFF_VMM_EXEC_EXEC_H
#define SKIFF_VMM_EXEC_EXEC_H

#include "hw/core/chardev.h"
#include "util/loop/coroutine.h"
#include "util/exec_protocol.h"
#include "util/state/state.h"

#define EXEC_CLOSE_NS (INT64_C(3) * 1000000000)
#define EXEC_POWER_OFF_NS (INT64_C(20) * 1000000000)

typedef enum ExecState {
    EXEC_STATE_WAITING,
    EXEC_STATE_READY,
    EXEC_STATE_RUNNING,
    EXEC_STATE_EXITED,
    EXEC_STATE_LOST,
    EXEC_STATE_ENDED,
} ExecState;

typedef struct ExecConfig {
    AioContext *ctx;
    const char *command; /* at most EXEC_COMMAND_MAX bytes; borrowed; NULL: it only listens */
    int fds[3];          /* their blocking mode is not changed; borrowed; not without a command */
    /* A coroutine in main: returns when the chardev has everything that the guest has sent so far.
     * May be NULL. */
    void (*co_settle)(void *opaque);
    /* Called in main, from the loop, at ENDED. Not without a command. */
    void (*finished)(void *opaque);
    /* Called in main when READY begins. May be NULL. */
    void (*ready)(void *opaque);
    void *opaque;
} ExecConfig;

typedef struct Exec Exec;

/* Opens the streams. NULL + error. */
Exec *exec_co_new(const ExecConfig *config, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Called after its port's frontend has detached, before the chardevs are shut down; not while one
 * of its coroutines waits. */
void exec_free(Exec *e) RUNS_IN_MAIN;
/* The chardev of the port, for one virtserialport. Borrowed. */
Chardev *exec_chardev(Exec *e) RUNS_IN_MAIN;

/* The guest has opened or closed the port. */
void exec_port_changed(Exec *e, bool open) RUNS_IN_MAIN;
/* The guest has ended. What it sent before is still read; then `finished` is called. */
void exec_guest_ended(Exec *e) RUNS_IN_MAIN;

/* What of the conversation a saved machine has. */
typedef enum ExecPhase {
    EXEC_PHASE_WAITING, /* no agent has greeted; the bytes of a part of its greeting are in `partial` */
    EXEC_PHASE_READY, /* an agent has greeted and waits for a command */
    EXEC_PHASE_BUSY,  /* it has a command, or talked nonsense */
} ExecPhase;
#define EXEC_PARTIAL_BYTES 16

typedef struct ExecSaved {
    uint8_t phase;   /* ExecPhase */
    bool open;       /* the guest has the port open */
    bool powers_off; /* EXEC_PHASE_READY: as the greeting says */
    uint8_t partial_count;
    uint8_t partial[EXEC_PARTIAL_BYTES];
} ExecSaved;
extern const StateDesc exec_state_desc;

/* Of a stopped VM. */
void exec_save(const Exec *e, ExecSaved *s) RUNS_IN_MAIN;
/* Whether exec_load() of @s is possible; NULL: the state has nothing of it. False + error. */
bool exec_check_load(const Exec *e, const ExecSaved *s, GError **error) RUNS_IN_MAIN;
/* Goes on from @s, which has been checked: the command is sent to an agent that is ready. An agent that is busy
 * finds its port closed by the host, until it has closed it. */
void exec_load(Exec *e, const ExecSaved *s) RUNS_IN_MAIN;

ExecState exec_state(const Exec *e) RUNS_IN_MAIN;
/* Whether the command has ended and all its output is written; *@status is then the status as a
 * shell reports it: 128 + N for death by signal N. */
bool exec_result(const Exec *e, int *status) RUNS_IN_MAIN;
/* Whether an agent has connected. */
bool exec_has_agent(const Exec *e) RUNS_IN_MAIN;
/* Whether the command has ended, written output or not. */
bool exec_command_ended(const Exec *e) RUNS_IN_MAIN;
/* Why it is LOST: neither the guest's end, nor output that could not be written. NULL otherwise.
 * Borrowed. */
const char *exec_failure(const Exec *e) RUNS_IN_MAIN;

#endif
