/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that creates the others.
 *
 * A new thread inherits from the one that creates it: system call filters, which can only be added
 * to, among them. Once there are filters, thread_start() has this thread create what it is asked
 * for, so that a worker which an iothread asks for is no more restricted than one which main asks
 * for. Before thread_spawner_start(), threads are created by whoever asks.
 */
#ifndef SKIFF_UTIL_LOOP_THREAD_SPAWNER_H
#define SKIFF_UTIL_LOOP_THREAD_SPAWNER_H

#include <pthread.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Starts the spawner; once. From here on thread_start() goes through it. False + errno. */
bool thread_spawner_start(void) RUNS_IN_MAIN;
bool thread_spawner_runs(void) ANY_THREAD;
/* As pthread_create(), in the spawner. Waits for it, which takes as long as pthread_create() does:
 * the spawner waits for nobody. */
int thread_spawner_create(pthread_t *thread, void *(*fn)(void *), void *arg) ANY_THREAD;

#endif
