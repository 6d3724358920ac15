/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal skiff was started on: raw while it is used as a console, as it was before on every
 * way out (exit, fatal signals, being stopped by SIGTSTP).
 *
 * One terminal per process. Job control: SIGTSTP restores it and stops the process; SIGCONT makes
 * it raw again when the process is in the foreground. In the background it is neither set nor read,
 * since either would stop the process. A shell's `fg` of a job that runs sends no signal:
 * terminal_use() finds out. A terminal that was never raw is left as it is at the end.
 */
#ifndef SKIFF_HW_CHARDEV_TERMINAL_H
#define SKIFF_HW_CHARDEV_TERMINAL_H

#include <stdbool.h>
#include "util/loop/aio.h"

/* Makes the terminal at @fd raw, at once or when the process comes to the foreground (terminal_use()).
 * @fd is borrowed until terminal_close(). With @signals Ctrl-C and
 * Ctrl-Z still reach skiff, else they are input. @resume_bh is scheduled after each SIGCONT. */
void terminal_open(int fd, bool signals, AioBh *resume_bh) RUNS_IN_MAIN;
/* Whether the process is in the foreground of the terminal that is open, or none is; if so the
 * terminal is raw from now on. Before each read. */
bool terminal_use(void) RUNS_IN_MAIN;
/* As it was before terminal_open(); job control signals back to their default. Registered with
 * atexit() too. */
void terminal_close(void) RUNS_IN_MAIN;
/* Restores the settings only. Async-signal-safe; any number of times. */
void terminal_restore(void) ANY_THREAD;
/* Whether the process may read @fd now, and set it if it is a terminal: in the background of its
 * controlling terminal either would stop it. Of anything else it may. Async-signal-safe. */
bool terminal_may_use(int fd) ANY_THREAD;

#endif
