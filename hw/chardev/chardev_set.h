/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Character backends: what the command line makes of -chardev, -serial, -monitor and friends.
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
 * Output is taken from any thread into a ring of the stream and written out by main; what a slow
 * reader has not taken yet stays there and the writer is told that the ring is full. Without a
 * reader (nobody connected) output is dropped, except for the log file and the tail that
 * chardev_tail() shows.
 *
 * Everything here runs in main unless it says otherwise. The set of chardevs is the process's, as
 * its terminal and its signal handlers are.
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

/* Once, before any other call. Ignores SIGPIPE, and takes over the fatal signals that are at their
 * default (SIGSEGV, SIGABRT, ...; also SIGTERM, SIGINT, SIGHUP, SIGQUIT until somebody else handles
 * them) so that the terminal is restored and output not lost before the process dies of them. */
void chardev_setup(AioContext *main_ctx) RUNS_IN_MAIN;
/* Takes all chardevs apart. What has not been written out is dropped: flush before. */
void chardev_co_shutdown(void) coroutine_fn RUNS_IN_MAIN;

/* ---- making them ---- */

/* The backends by name, NULL-terminated. */
const char *const *chardev_backend_names(void) ANY_THREAD;
/* Opens a chardev from -chardev options: "backend" (the implied key), "id" and what the backend
 * takes. Waits for the client of a server with wait=on. Takes @opts. False + @error. */
bool chardev_co_add(OptDict *opts, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Has the chardev_co_add() of @id that is under way fail as soon as it can: it waits for no client
 * and no connection any more, only for a file or a name that is being looked up. False: there is
 * none. */
bool chardev_call_off(const char *id) RUNS_IN_MAIN;
/* One on inherited descriptors, -1 for none, whose blocking mode is left alone; they stay the
 * caller's. At the end of the input, or when nobody reads the output any more, the frontend is told
 * CHARDEV_CLOSED. Standard input or output makes it the user of stdio. False + @error. */
bool chardev_co_add_fd(const char *id, int in_fd, int out_fd, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* The chardev @id for one user, named @who in messages ("serial0"). From one with mux=on: a port of
 * its own; the first port has the input until Ctrl-A c. NULL + @error when there is none, or it is
 * in use. Borrowed. */
Chardev *chardev_claim(const char *id, const char *who, GError **error) RUNS_IN_MAIN;
/* Makes @c (borrowed for ever), which its owner has made, known by its id. Only a user of that id may
 * claim it; @owner names the owner in messages ("-exec"). Giving it back changes nothing. */
void chardev_provide(Chardev *c, const char *owner) RUNS_IN_MAIN;
/* Whether input comes to @c now: always, unless it is a port of a shared one and another has it. */
bool chardev_has_focus(const Chardev *c) RUNS_IN_MAIN;
/* Gives it back (unplug): detaches; another user may claim it. */
void chardev_release(Chardev *c) RUNS_IN_MAIN;

/* The argument of -serial, -monitor, -debugcon ...: null, none, stdio, mon:stdio, file:PATH, pty,
 * unix:PATH,..., tcp:HOST:PORT,..., chardev:ID. */
typedef struct ChardevString {
    bool none;     /* no device at all */
    bool monitor;  /* "mon:": a monitor shares it; claim a second port for that one */
    OptDict *opts; /* to be added first; NULL for none and chardev:ID */
    char *id;      /* then to be claimed: @label, or ID; NULL for none */
} ChardevString;
/* @label is the id of the chardev to be made ("serial0"). False + @error, which names what would
 * work. */
bool chardev_string_parse(ChardevString *s, const char *text, const char *label, GError **error)
    ANY_THREAD;
void chardev_string_clear(ChardevString *s) ANY_THREAD;
/* Backends (`-chardev help`), or the options of one (`-chardev socket,help`). */
void chardev_print_help(const char *backend, FILE *out) ANY_THREAD;

/* ---- while they run ---- */

/* Ctrl-A x. Called in main. */
void chardev_set_terminate_handler(void (*fn)(void *opaque), void *opaque) RUNS_IN_MAIN;
/* While held, no input is read: while a machine is built, so that what was typed ahead (Ctrl-A c
 * above all) finds everybody in place who will share a chardev. */
void chardev_hold_input(bool held) RUNS_IN_MAIN;
/* Waits until what was written to @c so far is written out, or has nobody to read it. However long
 * that takes: a reader may be slow. False: some of it, now or before, could not be written. */
bool chardev_co_flush(Chardev *c) coroutine_fn RUNS_IN_MAIN;
/* Another escape than Ctrl-A (-echr). */
void chardev_set_escape(uint8_t byte) RUNS_IN_MAIN;

/* One line per chardev of query-chardev. */
typedef struct ChardevInfo {
    const char *id;
    const char *filename; /* "pty:/dev/pts/3", "disconnected:unix:/tmp/s,server=on" */
    bool connected;       /* somebody is at the other end */
    bool frontend_open;   /* a device or monitor uses it */
} ChardevInfo;
void chardev_foreach(void (*fn)(const ChardevInfo *info, void *opaque), void *opaque) RUNS_IN_MAIN;

/* Takes one apart that nobody uses; calls one off that is being made, and returns when that is
 * gone. False + @error: there is none, or it is in use. */
bool chardev_co_remove(const char *id, GError **error) coroutine_fn RUNS_IN_MAIN;
/* Sends a break to whoever has its input. False + @error: there is no such chardev. */
bool chardev_send_break(const char *id, GError **error) RUNS_IN_MAIN;

/* Writes out what the rings hold, for at most @bound_ms. False when something was left. For the way
 * out, after the main loop has ended; blocks the caller. */
bool chardev_flush_all_blocking(unsigned bound_ms) RUNS_IN_MAIN;
/* For leaving without chardev_co_shutdown(): restores the terminal, removes UNIX sockets and links
 * that chardevs have made. Async-signal-safe. */
void chardev_leave(void) ANY_THREAD;
/* Whether @c leads to standard output. */
bool chardev_is_stdio(Chardev *c) ANY_THREAD;
/* Copies the last bytes that were written to @c, at most @size, oldest first; returns how many. Any
 * backend, connected or not. */
size_t chardev_tail(Chardev *c, uint8_t *buf, size_t size) ANY_THREAD;

#endif
