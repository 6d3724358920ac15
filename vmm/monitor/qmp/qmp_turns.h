/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The turns of clients who have more than one request waiting: a few of them in each turn of the
 * loop, in order. So a hundred that flood add little to the time that a turn takes, and a client
 * that sends one request at a time does not queue behind them. Main, one list for the process. Only
 * for vmm/qmp/.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_TURNS_H
#define SKIFF_VMM_MONITOR_QMP_QMP_TURNS_H

#include "util/loop/coroutine.h"

/* Brackets the use of the list; the first says in which loop. */
void qmp_turns_ref(AioContext *ctx) RUNS_IN_MAIN;
void qmp_turns_unref(void) RUNS_IN_MAIN;
/* Until the calling client's turn has come. */
void qmp_turns_co_wait(void) coroutine_fn RUNS_IN_MAIN;

#endif
