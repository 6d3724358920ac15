/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parties outside the process that write guest memory: vhost back ends, in the kernel or in another
 * process. No thread of skiff's executes their writes, so parking vCPUs and draining requests does not
 * stop them.
 *
 * They are counted. A MemoryQuiet is the proof that there is none. Only memory_quiet() makes one, and the
 * run state needs one to issue a VmStopped token: code that issues a token without asking does not
 * compile, and asking while a back end runs aborts. All in main.
 */
#ifndef SKIFF_HW_CORE_MEMORY_USERS_H
#define SKIFF_HW_CORE_MEMORY_USERS_H

#include "util/loop/thread.h"

typedef struct MemoryQuiet MemoryQuiet; /* never completed: it cannot be made elsewhere */

/* @name, for the message of an abort, is borrowed until the end. */
void memory_user_begin(const char *name) RUNS_IN_MAIN;
void memory_user_end(const char *name) RUNS_IN_MAIN;
unsigned memory_users(void) RUNS_IN_MAIN;
/* Aborts while there is a user. */
const MemoryQuiet *memory_quiet(void) RUNS_IN_MAIN;

#endif
