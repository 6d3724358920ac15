/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts virtiofsd, the process that serves a folder of the host (-virtiofs).
 *
 * It gets a listening UNIX socket on which skiff's connection waits already, and nothing else of skiff's
 * descriptors. It ends when that connection ends, and at the latest with skiff (PR_SET_PDEATHSIG).
 *
 *   - root starts it as root; it confines itself to the folder, in namespaces of its own.
 *   - An ordinary user starts it as root of a new user namespace, which has the user's rights only.
 *   - Read-only means that it sees the folder mounted read-only, so the kernel refuses writes.
 *
 * Its mounts are in a mount namespace of its own; nothing of them is left on the host.
 */
#ifndef SKIFF_VMM_BACKENDS_VIRTIOFS_PROCESS_H
#define SKIFF_VMM_BACKENDS_VIRTIOFS_PROCESS_H

#include <glib.h>
#include <stdbool.h>
#include <sys/types.h>
#include "util/loop/coroutine.h"

/* The program's path, to be freed; NULL + error: it is not installed. */
char *virtiofs_find_program(GError **error) RUNS_IN_WORKER;
/* Starts @program for the folder @path. Returns the connected socket, or -1 + error; *@pid is the
 * process. Called before there is much to copy in a fork. */
int virtiofs_co_spawn(const char *program, const char *path, bool read_only, pid_t *pid,
                      GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
