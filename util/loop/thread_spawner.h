/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that creates all other threads.
 *
 * A new thread inherits the system call filters of its creator, and filters can only be added. Once
 * filters are in use, thread_start() creates threads through the spawner, so that a worker started
 * by an iothread is no more restricted than one started by main. Before thread_spawner_start(), the
 * calling thread creates the new thread itself.
 */
#ifndef SKIFF_UTIL_LOOP_THREAD_SPAWNER_H
#define SKIFF_UTIL_LOOP_THREAD_SPAWNER_H

#include <pthread.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Starts the spawner; called once. thread_start() uses it from then on. False + errno. */
bool thread_spawner_start(void) RUNS_IN_MAIN;
bool thread_spawner_runs(void) ANY_THREAD;
/* Like pthread_create(), but executed in the spawner. Blocks as long as pthread_create() takes: the
 * spawner itself waits for nothing else. */
int thread_spawner_create(pthread_t *thread, void *(*fn)(void *), void *arg) ANY_THREAD;

#endif
