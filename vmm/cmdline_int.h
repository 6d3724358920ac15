/* SPDX-License-Identifier: Apache-2.0 */
/* For cmdline.c: `-device help` and its like (cmdline_help.c), options of QEMU that skiff lacks
 * (cmdline_lacking.c). */
#ifndef SKIFF_VMM_CMDLINE_INT_H
#define SKIFF_VMM_CMDLINE_INT_H

#include <glib.h>
#include <stdbool.h>
#include "util/thread.h"

/* "-device" "help", "-device" "virtio-blk-pci,help", "-cpu" "help", ... */
bool cmdline_is_help_request(const char *option, const char *value);
/* Prints the answer; false + error when the type asked about is unknown. @name without dashes. */
bool cmdline_answer_help(const char *name, const char *value, GError **error);

/* What comes nearest to QEMU's option @name (without its dash), which skiff lacks; NULL: no such
 * option. */
const char *cmdline_nearest(const char *name) ANY_THREAD;

#endif
