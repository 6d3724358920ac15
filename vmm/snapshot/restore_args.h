/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -restore FILE: the command line of a saved machine.
 *
 * The options that the state file carries come first, then the user's. A saved option is left out if the user gives
 * it anew: -chardev, -netdev, -drive, -blockdev, -object and -device by their id (or node name), -nic, -serial,
 * -debugcon and others that are lists all together. Relative paths of files that the saved options name are
 * those of the directory in which the machine was started.
 *
 * The file is read before there is a loop or a thread, as other files of the command line are.
 */
#ifndef SKIFF_VMM_SNAPSHOT_RESTORE_ARGS_H
#define SKIFF_VMM_SNAPSHOT_RESTORE_ARGS_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Whether @argv has -restore. */
bool restore_args_wanted(int argc, char **argv) ANY_THREAD;
/* The command line with the saved options before the user's. NULL + error: there is a
 * second -restore, or the file is no state file. The caller owns the result. */
char **restore_args_expand(int argc, char **argv, GError **error) ANY_THREAD;

/* The same for options (ConfigOption) that were saved in @directory; @now is the working directory. For tests. */
char **restore_args_merge(int argc, char **argv, const GPtrArray *saved, const char *directory,
                          const char *now) ANY_THREAD;
/* @value of option @name with relative paths of files made absolute. The caller owns the result. */
char *restore_args_locate(const char *name, const char *value, const char *directory) ANY_THREAD;

#endif
