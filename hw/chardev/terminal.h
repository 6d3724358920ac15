/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal that skiff was started on. It is raw while it is used as a console; every exit (also
 * by fatal signals) and every stop by SIGTSTP restores its settings.
 *
 * One terminal per process. Job control: SIGTSTP restores it and stops the process; SIGCONT makes
 * it raw again when the process is in the foreground. In the background it is neither set nor read,
 * since either would stop the process. A shell's `fg` of a running job sends no signal;
 * terminal_use() detects it. A terminal that was never raw is not changed at the end.
 */
#ifndef SKIFF_HW_CHARDEV_TERMINAL_H
#define SKIFF_HW_CHARDEV_TERMINAL_H

#include <stdbool.h>
#include "util/loop/aio.h"

/* Makes the terminal at @fd raw, at once or when the process comes to the foreground
 * (terminal_use()). @fd is borrowed until terminal_close(). With @signals Ctrl-C and Ctrl-Z send
 * signals to skiff, otherwise they are input. @resume_bh is scheduled after each SIGCONT. */
void terminal_open(int fd, bool signals, AioBh *resume_bh) RUNS_IN_MAIN;
/* Whether the process is in the foreground of the open terminal, or no terminal is open. If so the
 * terminal is raw from now on. Called before each read. */
bool terminal_use(void) RUNS_IN_MAIN;
/* Restores the settings from before terminal_open(), and the default of job control signals. Also
 * registered with atexit(). */
void terminal_close(void) RUNS_IN_MAIN;
/* Restores the settings only. Async-signal-safe; may be called repeatedly. */
void terminal_restore(void) ANY_THREAD;
/* Whether the process may read and set @fd now: not in the background of its controlling terminal,
 * where either would stop it. True for any other descriptor. Async-signal-safe. */
bool terminal_may_use(int fd) ANY_THREAD;

#endif
