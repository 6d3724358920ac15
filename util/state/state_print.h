/* SPDX-License-Identifier: Apache-2.0 */
/* A decoded state stream for people and for programs, from the tables in the stream alone. */
#ifndef SKIFF_UTIL_STATE_STATE_PRINT_H
#define SKIFF_UTIL_STATE_STATE_PRINT_H

#include <json-c/json.h>
#include "util/state/state_stream.h"

/* Appends what the stream says about itself: lines, the texts of the machine among them. */
void state_print_head(const StateStream *s, GString *out) ANY_THREAD;
/* Appends a section: a line about it and, with @values, its fields. */
void state_print_section(const StateSection *x, unsigned number, bool values, GString *out)
    ANY_THREAD;

/* The same as objects that the caller puts. Numbers that JSON readers may round are numbers all the same;
 * STATE_BYTES are text in hexadecimal. */
struct json_object *state_json_head(const StateStream *s) ANY_THREAD;
struct json_object *state_json_section(const StateSection *x, bool values) ANY_THREAD;

#endif
