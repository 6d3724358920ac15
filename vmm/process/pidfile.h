/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -pidfile: the process id in a file that is locked as long as the process lives, so a second VM
 * cannot use the same file. One per process.
 */
#ifndef SKIFF_VMM_PROCESS_PIDFILE_H
#define SKIFF_VMM_PROCESS_PIDFILE_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Creates or takes over @path; a file of a process that died is taken over. False + @error, one
 * line, on failure. A later chdir() changes nothing. */
bool pidfile_write(const char *path, GError **error) ANY_THREAD;
/* Removes the file that pidfile_write() wrote, if it did. */
void pidfile_remove(void) ANY_THREAD;

#endif
