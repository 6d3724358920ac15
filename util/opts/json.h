/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from outside: json-c with its lenient corners closed. One complete value, UTF-8, bounded
 * depth, no key twice, no NUL in a string, no integer that does not fit. As in QEMU, strings may be
 * in apostrophes.
 */
#ifndef SKIFF_UTIL_OPTS_JSON_H
#define SKIFF_UTIL_OPTS_JSON_H

#include <glib.h>
#include <json-c/json.h>
#include <stddef.h>
#include "util/opts/opts.h"
#include "util/loop/thread.h"

/* Parses exactly one value from @text; blanks around it are fine. NULL and @error (OPT_ERROR),
 * which tells the offset. The caller puts the object. */
struct json_object *json_parse_text(const char *text, size_t length, int max_depth, GError **error)
    ANY_THREAD;
/* Appends @value (NULL: null) as text, spaced as QEMU does and in ASCII only; @pretty: over several
 * lines. Bytes that are not UTF-8 become U+FFFD. As deep as the value: not for what a parser has
 * not bounded. */
void json_write_text(GString *out, struct json_object *value, bool pretty) ANY_THREAD;
/* An object as options: numbers and booleans become their text. NULL and @error when @object is not
 * an object or holds what an option can't be. @object stays the caller's. */
OptDict *opt_dict_from_json(struct json_object *object, GError **error) ANY_THREAD;

#endif
