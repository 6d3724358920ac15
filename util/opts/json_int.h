/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the JSON parser. Only for util/opts/json*.c and its tests. */
#ifndef SKIFF_UTIL_OPTS_JSON_INT_H
#define SKIFF_UTIL_OPTS_JSON_INT_H

#include "util/opts/json.h"

/* Converts strings in apostrophes, which QEMU's parser accepts, to strings in double quotes; \' is
 * accepted in both. Returns NULL when @text has no apostrophe, else a copy of *@length bytes that
 * the caller owns. Invalid JSON stays invalid. */
char *json_double_quotes(const char *text, size_t *length) ANY_THREAD;

#endif
