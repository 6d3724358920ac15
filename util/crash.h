/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleanup when a signal ends the process: flush console output, restore the terminal.
 */
#ifndef SKIFF_UTIL_CRASH_H
#define SKIFF_UTIL_CRASH_H

#include "util/loop/thread.h"

/* Installs handlers for the fatal signals that still have their default action. The handler calls
 * @fn (async-signal-safe) once, then performs the default action. A handler installed later, or a
 * signalfd with the signal blocked, takes precedence. Called once, at start-up. */
void crash_catch_signals(void (*fn)(void)) ANY_THREAD;

/* For other handlers that end the process: calls that @fn, once. Async-signal-safe. */
void crash_run_hook(void) ANY_THREAD;

#endif
