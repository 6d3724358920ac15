/* SPDX-License-Identifier: Apache-2.0 */
/* Whether this process may freeze guest RAM, by capture_fork.h or capture_wp.h. */
#ifndef SKIFF_MIGRATION_RAM_CAPTURE_H
#define SKIFF_MIGRATION_RAM_CAPTURE_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* From now on nothing is frozen, for the reason @why, a literal: a filter of system calls would end skiff at the
 * attempt. NULL: it is allowed again, for tests. */
void capture_forbid(const char *why) RUNS_IN_MAIN;
/* False + @error: it is forbidden. */
bool capture_allowed(GError **error) ANY_THREAD;

#endif
