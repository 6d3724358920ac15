/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -pidfile: the process id in a file that is locked as long as the process lives, so that a second
 * VM cannot take the first one's. One per process.
 */
#ifndef SKIFF_VMM_PROCESS_PIDFILE_H
#define SKIFF_VMM_PROCESS_PIDFILE_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* Creates or takes over @path. False + @error, one line, when it cannot be had; a file of a process
 * that died is taken over. A later chdir() changes nothing. */
bool pidfile_write(const char *path, GError **error) ANY_THREAD;
/* Removes what pidfile_write() wrote, if it did. */
void pidfile_remove(void) ANY_THREAD;

#endif
