/* SPDX-License-Identifier: Apache-2.0 */
/* What refuses a rewind point, or a rewind. Only for rewind*.c. */
#ifndef SKIFF_VMM_SNAPSHOT_REWIND_INT_H
#define SKIFF_VMM_SNAPSHOT_REWIND_INT_H

#include "vmm/snapshot/rewind.h"

/* False, and the error @text. */
bool rewind_refuse(GError **error, const char *text) RUNS_IN_MAIN;
/* Whether nothing is under way that a point or a rewind would tear. False + @error names it. */
bool rewind_check_quiet(const Vm *vm, GError **error) RUNS_IN_MAIN;

#endif
