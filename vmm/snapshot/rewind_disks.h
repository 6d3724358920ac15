/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a rewind point. */
#ifndef SKIFF_VMM_SNAPSHOT_REWIND_DISKS_H
#define SKIFF_VMM_SNAPSHOT_REWIND_DISKS_H

#include <glib.h>
#include <stdbool.h>
#include "util/loop/thread.h"

/* False + error names a disk that cannot go back. */
bool rewind_disks_check(GError **error) RUNS_IN_MAIN;

#endif
