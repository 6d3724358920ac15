/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON like QEMU: a blank after ':' and ',', ASCII only. */
#include <string.h>
#include "util/opts/json.h"

static void json_write(GString *out, struct json_object *value, bool pretty, unsigned depth);

static void json_write_char(GString *out, gunichar c)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char escaped[] = "\"\\bfnrt";
    const char *at = c != 0 && c < 0x80 ? strchr(plain, (int)c) : NULL;
    if (at != NULL) {
        g_string_append_c(out, '\\');
        g_string_append_c(out, escaped[at - plain]);
    } else if (c >= 0x20 && c < 0x7f) {
        g_string_append_c(out, (char)c);
    } else if (c < 0x10000) {
        g_string_append_printf(out, "\\u%04X", c);
    } else { /* RFC 8259 §7: a surrogate pair */
        c -= 0x10000;
        g_string_append_printf(out, "\\u%04X\\u%04X", 0xd800 + (c >> 10), 0xdc00 + (c & 0x3ff));
    }
}

static void json_write_string(GString *out, const char *text, size_t length)
{
    const char *end = text + length;
    g_string_append_c(out, '"');
    while (text < end) {
        gunichar c = *text != '\0' ? g_utf8_get_char_validated(text, end - text) : 0;
        bool valid = c != (gunichar)-1 && c != (gunichar)-2;
        /* Strings such as file names may hold any bytes. */
        json_write_char(out, valid ? c : 0xfffd);
        text += valid && c != 0 ? g_utf8_skip[(uint8_t)*text] : 1;
    }
    g_string_append_c(out, '"');
}

static void json_write_separator(GString *out, bool first, bool pretty, unsigned depth)
{
    if (!first) {
        g_string_append_c(out, ',');
    }
    if (pretty) {
        g_string_append_printf(out, "\n%*s", (int)(4 * depth), "");
    } else if (!first) {
        g_string_append_c(out, ' ');
    }
}

static void json_write_object(GString *out, struct json_object *value, bool pretty, unsigned depth)
{
    bool first = true;
    g_string_append_c(out, '{');
    json_object_object_foreach(value, key, member)
    {
        json_write_separator(out, first, pretty, depth + 1);
        json_write_string(out, key, strlen(key));
        g_string_append(out, ": ");
        json_write(out, member, pretty, depth + 1);
        first = false;
    }
    if (pretty) { /* also in an empty one, as QEMU */
        json_write_separator(out, true, true, depth);
    }
    g_string_append_c(out, '}');
}

static void json_write_array(GString *out, struct json_object *value, bool pretty, unsigned depth)
{
    size_t length = json_object_array_length(value);
    g_string_append_c(out, '[');
    for (size_t i = 0; i < length; i++) {
        json_write_separator(out, i == 0, pretty, depth + 1);
        json_write(out, json_object_array_get_idx(value, i), pretty, depth + 1);
    }
    if (pretty) {
        json_write_separator(out, true, true, depth);
    }
    g_string_append_c(out, ']');
}

static void json_write(GString *out, struct json_object *value, bool pretty, unsigned depth)
{
    switch (json_object_get_type(value)) {
    case json_type_object:
        json_write_object(out, value, pretty, depth);
        break;
    case json_type_array:
        json_write_array(out, value, pretty, depth);
        break;
    case json_type_string:
        json_write_string(out, json_object_get_string(value),
                          (size_t)json_object_get_string_len(value));
        break;
    default: /* null, numbers, booleans */
        g_string_append(out, json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN));
        break;
    }
}

void json_write_text(GString *out, struct json_object *value, bool pretty)
{
    json_write(out, value, pretty, 0);
}
