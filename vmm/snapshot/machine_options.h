/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The options that make a machine, as texts of a state stream, and back.
 *
 * The texts are named option.000, option.001 and so on, in the order of the command line. A text is "-NAME" or
 * "-NAME VALUE", the value as the user gave it. A backslash is "\\"; a control character, and a byte that does
 * not belong to UTF-8, is "\xNN" with two hexadecimal digits.
 */
#ifndef SKIFF_VMM_SNAPSHOT_MACHINE_OPTIONS_H
#define SKIFF_VMM_SNAPSHOT_MACHINE_OPTIONS_H

#include "util/state/state_stream.h"
#include "vmm/config.h"

#define MACHINE_OPTIONS_MAX 1000
/* Name of a text that says how the machine differs from the one that its options make, as machine_text_escape() gives
 * it. Without it the options make it. */
#define MACHINE_TEXT_CHANGED "changed"

/* Adds the texts of @options (ConfigOption). False + error: there are too many, or one is too long. */
bool machine_options_write(const GPtrArray *options, StateWriter *w, GError **error) ANY_THREAD;
/* The options of a stream (ConfigOption, owned by the array). NULL + error: a text is wrong, or one is
 * missing. */
GPtrArray *machine_options_read(const StateStream *s, GError **error) ANY_THREAD;

/* The escapes of a text of HEAD, and back; NULL: one is wrong. The caller owns the results. */
char *machine_text_escape(const char *value) ANY_THREAD;
char *machine_text_unescape(const char *text) ANY_THREAD;
/* One option as text, and back; NULL + error. The caller owns the results. */
char *machine_option_text(const ConfigOption *option) ANY_THREAD;
ConfigOption *machine_option_parse(const char *text, GError **error) ANY_THREAD;

#endif
