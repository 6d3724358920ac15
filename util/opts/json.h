/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON from untrusted sources: json-c with stricter rules. One complete value, UTF-8, bounded
 * depth, no duplicate key, no NUL in a string, no integer that overflows. As in QEMU, strings may
 * be in apostrophes.
 */
#ifndef SKIFF_UTIL_OPTS_JSON_H
#define SKIFF_UTIL_OPTS_JSON_H

#include <glib.h>
#include <json-c/json.h>
#include <stddef.h>
#include "util/opts/opts.h"
#include "util/loop/thread.h"

/* Parses exactly one value from @text; surrounding white space is allowed. Returns NULL and sets
 * @error (OPT_ERROR) with the offset on failure. The caller puts the object. */
struct json_object *json_parse_text(const char *text, size_t length, int max_depth, GError **error)
    ANY_THREAD;
/* Appends @value (NULL: null) as ASCII text with QEMU's spacing; @pretty: over several lines. Bytes
 * that are not UTF-8 become U+FFFD. Recurses as deep as the value, so the parser must have bounded
 * its depth. */
void json_write_text(GString *out, struct json_object *value, bool pretty) ANY_THREAD;
/* Converts an object to options: numbers and booleans become text. Returns NULL and sets @error
 * when @object is not an object or holds a value that no option can have. @object is borrowed. */
OptDict *opt_dict_from_json(struct json_object *object, GError **error) ANY_THREAD;

#endif
