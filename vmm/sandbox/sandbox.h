/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -sandbox: system call filters by thread role.
 *
 * The table in sandbox_table.c says which role may make which system call, and why. All it allows
 * to anybody is the base filter, which every thread has; on top of it each thread has its role's.
 * A call that is not allowed ends the process with EXIT_STATUS_INTERNAL and one line that names
 * the thread and the call. docs/threat-model.md says what this is good for, and what not.
 */
#ifndef SKIFF_VMM_SANDBOX_SANDBOX_H
#define SKIFF_VMM_SANDBOX_SANDBOX_H

#include "vmm/vm/vm.h"

/* Whether the options (-sandbox as written; NULL: none were given) ask for filters. False + error:
 * they are wrong. */
bool sandbox_parse(const OptDict *options, bool *on, GError **error) ANY_THREAD;

/* Locks the process in, for good: no new privileges, the base filter for all threads, and their
 * role's for those there are; threads that start later get theirs by the start hook. Called once,
 * with the VM built and its vCPUs parked. On failure the process may be half locked in: it is to
 * end. */
bool sandbox_co_enter(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
