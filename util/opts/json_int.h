/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the JSON parser have in common. Only for util/opts/json*.c and its tests. */
#ifndef SKIFF_UTIL_OPTS_JSON_INT_H
#define SKIFF_UTIL_OPTS_JSON_INT_H

#include "util/opts/json.h"

/* Strings in apostrophes, which QEMU's parser takes, become strings in double quotes, in which an
 * apostrophe may be escaped, too. NULL: @text has no apostrophe; else a copy, owned by the caller,
 * that has *@length bytes. What is no JSON stays none. */
char *json_double_quotes(const char *text, size_t *length) ANY_THREAD;

#endif
