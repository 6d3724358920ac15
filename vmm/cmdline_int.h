/* SPDX-License-Identifier: Apache-2.0 */
/* `-device help` and its like: cmdline_help.c, for cmdline.c. */
#ifndef SKIFF_VMM_CMDLINE_INT_H
#define SKIFF_VMM_CMDLINE_INT_H

#include <glib.h>
#include <stdbool.h>

/* "-device" "help", "-device" "virtio-blk-pci,help", "-cpu" "help", ... */
bool cmdline_is_help_request(const char *option, const char *value);
/* Prints the answer; false + error when the type asked about is unknown. @name without dashes. */
bool cmdline_answer_help(const char *name, const char *value, GError **error);

#endif
