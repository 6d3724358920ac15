/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must still be done when a signal ends the process: console output out, terminal restored.
 */
#ifndef SKIFF_UTIL_CRASH_H
#define SKIFF_UTIL_CRASH_H

#include "util/loop/thread.h"

/* Catches the signals that end a process and are at their default now, calls @fn
 * (async-signal-safe) once and lets the signal do what it would have done. A later handler of
 * somebody else's, or a signalfd with the signal blocked, takes precedence. At start-up, once. */
void crash_catch_signals(void (*fn)(void)) ANY_THREAD;

/* For another handler that ends the process: calls that @fn, once. Async-signal-safe. */
void crash_run_hook(void) ANY_THREAD;

#endif
