/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Schedules the clients that have more than one request waiting: each turn of the loop serves a few
 * of them, in order. So a hundred clients that flood add little to the time of a turn, and a client
 * that sends one request at a time does not queue behind them. One list for the process, in main.
 * Only for this folder.
 */
#ifndef SKIFF_VMM_MONITOR_QMP_QMP_TURNS_H
#define SKIFF_VMM_MONITOR_QMP_QMP_TURNS_H

#include "util/loop/coroutine.h"

/* Bracket the use of the list. The first reference sets its loop. */
void qmp_turns_ref(AioContext *ctx) RUNS_IN_MAIN;
void qmp_turns_unref(void) RUNS_IN_MAIN;
/* Waits for the turn of the calling client. */
void qmp_turns_co_wait(void) coroutine_fn RUNS_IN_MAIN;

#endif
