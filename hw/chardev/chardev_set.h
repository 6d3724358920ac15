/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character backends: the implementation of -chardev, -serial, -monitor and similar options.
 *
 *     device or monitor            (hw/core/chardev.h: write, attach, can_receive ...)
 *        |           |
 *      port        port            mux=on only: Ctrl-A c switches input between them
 *        \__________/
 *       stream: output ring, input, timestamps, log file
 *        |                |
 *     terminal, file,   logfile=
 *     pty, socket
 *
 * Output from any thread goes into a ring of the stream; main writes it out. With a slow reader the
 * ring fills up, and further writes are short. Without a reader (no peer) output is dropped, except
 * for the log file and the tail that chardev_tail() returns.
 *
 * Everything here runs in main unless stated otherwise. There is one set of chardevs per process,
 * as there is one terminal and one set of signal handlers.
 */
#ifndef SKIFF_HW_CHARDEV_CHARDEV_SET_H
#define SKIFF_HW_CHARDEV_CHARDEV_SET_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "hw/core/chardev.h"
#include "util/loop/coroutine.h"
#include "util/opts/opts.h"

/* Called once, before any other call. Ignores SIGPIPE. Handles the fatal signals that are at their
 * default (SIGSEGV, SIGABRT, ...; also SIGTERM, SIGINT, SIGHUP, SIGQUIT until other code handles
 * them): the terminal is restored and output written before the process dies of them. */
void chardev_setup(AioContext *main_ctx) RUNS_IN_MAIN;
/* Frees all chardevs. Output that is not written is dropped: flush before. */
void chardev_co_shutdown(void) coroutine_fn RUNS_IN_MAIN;

/* ---- creation ---- */

/* The names of the backends, NULL-terminated. */
const char *const *chardev_backend_names(void) ANY_THREAD;
/* Opens a chardev from -chardev options: "backend" (the implied key), "id" and the backend's own.
 * Waits for the client of a server with wait=on. Takes @opts. False + @error. */
bool chardev_co_add(OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Makes the chardev_co_add() of @id that is under way fail: it stops waiting for a client or
 * connection, but still waits for a file or a name look-up. False: there is none. */
bool chardev_call_off(const char *id) RUNS_IN_MAIN;
/* Adds a chardev on inherited descriptors (-1: none). Their blocking mode is unchanged; the caller
 * owns them. At the end of the input, or when the output has no reader, the frontend gets
 * CHARDEV_CLOSED. Standard input or output makes it the user of stdio. False + @error. */
bool chardev_co_add_fd(const char *id, int in_fd, int out_fd, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Reserves chardev @id for one user, named @who in messages ("serial0"). With mux=on each user gets
 * a port; the first port has the input until Ctrl-A c. NULL + @error when there is none, or it is
 * in use. Borrowed. */
Chardev *chardev_claim(const char *id, const char *who, GError **error) RUNS_IN_MAIN;
/* Makes @c, which its owner created and keeps for ever, available by its id. Only a user of that id
 * may claim it; @owner is the owner's name in messages ("-exec"). Releasing it has no effect. */
void chardev_provide(Chardev *c, const char *owner) RUNS_IN_MAIN;
/* Whether @c receives the input now: always, unless it is a port of a mux and another port has the
 * focus. */
bool chardev_has_focus(const Chardev *c) RUNS_IN_MAIN;
/* Detaches @c and ends the claim (unplug); another user may claim it. */
void chardev_release(Chardev *c) RUNS_IN_MAIN;

/* The argument of -serial, -monitor, -debugcon ...: null, none, stdio, mon:stdio, file:PATH, pty,
 * unix:PATH,..., tcp:HOST:PORT,..., chardev:ID. */
typedef struct ChardevString {
    bool none;     /* no device */
    bool monitor;  /* "mon:": a monitor shares it and claims a second port */
    OptDict *opts; /* to be added first; NULL for none and chardev:ID */
    char *id;      /* to be claimed then: @label, or ID; NULL for none */
} ChardevString;
/* @label is the id of the new chardev ("serial0"). False + @error, which names accepted values. */
bool chardev_string_parse(ChardevString *s, const char *text, const char *label, GError **error)
    ANY_THREAD;
void chardev_string_clear(ChardevString *s) ANY_THREAD;
/* Prints the backends (`-chardev help`), or the options of one (`-chardev socket,help`). */
void chardev_print_help(const char *backend, FILE *out) ANY_THREAD;

/* ---- while the VM runs ---- */

/* Sets the handler of Ctrl-A x. Called in main. */
void chardev_set_terminate_handler(void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* While held, no input is read. Held while the machine is built, so that early input (such as
 * Ctrl-A c) reaches the ports of all users. */
void chardev_hold_input(bool held) RUNS_IN_MAIN;
/* Waits, without limit, until all that was written to @c so far is written out, or has no reader.
 * False: some output, now or before, could not be written. */
bool chardev_co_flush(Chardev *c) coroutine_fn RUNS_IN_MAIN;
/* Sets the escape byte (-echr) instead of Ctrl-A. */
void chardev_set_escape(uint8_t byte) RUNS_IN_MAIN;

/* One entry of query-chardev. */
typedef struct ChardevInfo {
    const char *id;
    const char *filename; /* "pty:/dev/pts/3", "disconnected:unix:/tmp/s,server=on" */
    bool connected;       /* a peer is connected */
    bool frontend_open;   /* a device or monitor uses it */
} ChardevInfo;
void chardev_foreach(void (*fn)(const ChardevInfo *info, void *opaque), void *opaque) RUNS_IN_MAIN;

/* Removes a chardev without user. One that is being opened is called off; returns when it is gone.
 * False + @error: there is none, or it is in use. */
bool chardev_co_remove(const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Sends a break to the user that has the input. False + @error: there is no such chardev. */
bool chardev_send_break(const char *id, GError **error) RUNS_IN_MAIN;

/* Writes out the rings, for at most @bound_ms. False when some output is left. For the exit, after
 * the main loop has ended; blocks the caller. */
bool chardev_flush_all_blocking(unsigned bound_ms) RUNS_IN_MAIN;
/* For an exit without chardev_co_shutdown(): restores the terminal, removes UNIX sockets and links
 * that chardevs have made. Async-signal-safe. */
void chardev_leave(void) ANY_THREAD;
/* Whether @c writes to standard output. */
bool chardev_is_stdio(Chardev *c) ANY_THREAD;
/* Copies the last bytes that were written to @c, at most @size, oldest first; returns their number.
 * Any backend, connected or not. */
size_t chardev_tail(Chardev *c, uint8_t *buf, size_t size) ANY_THREAD;

/* Calls @fn once, in main, when @text (not empty) has been written to @c from now on, in pieces or whole. One text
 * is looked for at a time: the one before is forgotten. */
void chardev_watch(Chardev *c, const char *text, void (*fn)(void *opaque), void *opaque)
    RUNS_IN_MAIN;

#endif
