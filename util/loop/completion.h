/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Completion: a wait of a thread that is not a loop (vCPU, migration, the thread that starts an
 * iothread) for a loop.
 *
 * The waiter holds nothing (checked) and does not run inside an AioContext it owns (checked): such
 * waits lead from other threads to loops only.
 */
#ifndef SKIFF_UTIL_LOOP_COMPLETION_H
#define SKIFF_UTIL_LOOP_COMPLETION_H

#include <stdbool.h>
#include <stdint.h>
#include "util/loop/aio.h"

typedef struct Completion {
    _Atomic uint32_t state; /* futex: 0 pending, 1 pending with a waiter, 2 done */
    int result;             /* written by the signaller before done */
} Completion;

void completion_init(Completion *c) ANY_THREAD;
/* Ends the wait, exactly once per init. The waiter may free @c as soon as it sees the result; the
 * signaller does not access @c after that. */
void completion_signal(Completion *c, int result) ANY_THREAD;
/* Blocks until signalled and returns the result. @what names the wait in reports. */
int completion_wait(Completion *c, const char *what) ANY_THREAD;
bool completion_done(const Completion *c) ANY_THREAD;

#endif
