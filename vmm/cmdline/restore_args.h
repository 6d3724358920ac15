/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -restore FILE, -clone FILE: the command line of a saved machine. restore_clone.h has what -clone changes.
 *
 * The options that the state file carries come first, then the user's. A saved option is left out if the user gives
 * it anew: -chardev, -netdev, -drive, -blockdev, -object and -device by their id (or node name), -nic, -serial,
 * -debugcon and others that are lists all together. Relative paths of files, folders and sockets that the saved options
 * name are those of the directory in which the machine was started.
 *
 * The file is input, and who made it may not be the user. A saved option is refused by name if it is one of the
 * process (-qmp, -D, -sandbox, ...), if it is none that skiff has, if it has an argument and takes none or the reverse,
 * so that its value would be another option, if it asks for help, or if it names a program to run (script=,
 * downscript=, helper=). Files and folders that it names are opened with the user's rights, as for a command line.
 *
 * A word of the user's is an option or the argument of the one before it, as for cmdline_parse().
 *
 * The file is read before there is a loop or a thread, as other files of the command line are.
 */
#ifndef SKIFF_VMM_CMDLINE_RESTORE_ARGS_H
#define SKIFF_VMM_CMDLINE_RESTORE_ARGS_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Whether @argv has -restore or -clone. */
bool restore_args_wanted(int argc, char **argv) ANY_THREAD;
/* The command line with the saved options before the user's. NULL + error: there is a second one, the file is no
 * state file, or it has an option that it must not have. The caller owns the result. */
char **restore_args_expand(int argc, char **argv, GError **error) ANY_THREAD;

/* The same for options (ConfigOption) that were saved in @directory; @now is the working directory. For tests. */
char **restore_args_merge(int argc, char **argv, const GPtrArray *saved, const char *directory,
                          const char *now, GError **error) ANY_THREAD;
/* The end of the word at @at in an option's value: at a comma that is not doubled. */
const char *restore_word_end(const char *at) ANY_THREAD;
/* @value of option @name with relative paths of files made absolute. The caller owns the result. */
char *restore_args_locate(const char *name, const char *value, const char *directory) ANY_THREAD;

#endif
