/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -sandbox: system call filters by thread role.
 *
 * The table in sandbox_table.c says which role may make which system call, and why. The union of
 * all roles is the base filter, which every thread has; in addition each thread has its role's
 * filter. A forbidden call ends the process with EXIT_STATUS_INTERNAL and one line that names the
 * thread and the call. docs/threat-model.md describes what the filters protect, and what not.
 */
#ifndef SKIFF_VMM_SANDBOX_SANDBOX_H
#define SKIFF_VMM_SANDBOX_SANDBOX_H

#include "vmm/vm/vm.h"

/* Whether the options (-sandbox; NULL: none were given) enable filters. False + error: they are
 * wrong. */
bool sandbox_parse(const OptDict *options, bool *on, GError **error) ANY_THREAD;

/* Enters the sandbox, permanently: no new privileges, the base filter for all threads, and their
 * role's filter for existing threads; later threads get theirs from the start hook. Called once,
 * with the VM built and its vCPUs parked. On failure filters may be partly installed, and the
 * process must exit. */
bool sandbox_co_enter(Vm *vm, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
