/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <string.h>
#include "util/opts/json_int.h"

/* Properties of accepted text that json-c does not report. */
typedef struct JsonScan {
    size_t pairs;   /* number of `"key":` in the text */
    bool extension; /* NaN, 1. or the like, which json-c accepts even when strict */
    bool oversize;  /* an integer that fits neither int64_t nor uint64_t: json-c would clamp it */
    bool nul;       /* \u0000 in a string: json-c cuts keys there */
    const char *surrogate; /* the first \uXXXX that is half of a pair; json-c substitutes U+FFFD */
} JsonScan;

static size_t json_skip_digits(const char *text, size_t length, size_t i)
{
    while (i < length && g_ascii_isdigit(text[i])) {
        i++;
    }
    return i;
}

/* RFC 8259 §6: -? int [ "." digits ] [ e [+-] digits ] */
static bool json_number_valid(const char *text, size_t length)
{
    size_t i = text[0] == '-';
    size_t end = json_skip_digits(text, length, i);

    if (end == i || (text[i] == '0' && end > i + 1)) {
        return false;
    }
    i = end;
    if (i < length && text[i] == '.') {
        end = json_skip_digits(text, length, i + 1);
        if (end == i + 1) {
            return false;
        }
        i = end;
    }
    if (i < length && (text[i] == 'e' || text[i] == 'E')) {
        i++;
        i += i < length && (text[i] == '+' || text[i] == '-');
        end = json_skip_digits(text, length, i);
        if (end == i) {
            return false;
        }
        i = end;
    }
    return i == length;
}

/* Scans the number that begins at text[i]; returns the index of its last byte. */
static size_t json_scan_number(const char *text, size_t length, size_t i, JsonScan *scan)
{
    bool negative = text[i] == '-';
    size_t end = i + 1;
    bool integer = true;

    while (end < length && (g_ascii_isalnum(text[end]) || text[end] == '+' || text[end] == '-' ||
                            text[end] == '.')) {
        integer = integer && g_ascii_isdigit(text[end]);
        end++;
    }
    if (!json_number_valid(text + i, end - i)) {
        scan->extension = true;
    } else if (integer) {
        g_autofree char *digits = g_strndup(text + i, end - i);

        if (negative ? !g_ascii_string_to_signed(digits, 10, INT64_MIN, INT64_MAX, NULL, NULL)
                     : !g_ascii_string_to_unsigned(digits, 10, 0, UINT64_MAX, NULL, NULL)) {
            scan->oversize = true;
        }
    }
    return end - 1;
}

/* The code unit of a \uXXXX at text[i]; -1 if there is none. */
static int json_escaped_unit(const char *text, size_t length, size_t i)
{
    int unit = 0;

    if (length - i < 6 || text[i] != '\\' || text[i + 1] != 'u') {
        return -1;
    }
    for (size_t k = i + 2; k < i + 6; k++) {
        int digit = g_ascii_xdigit_value(text[k]);

        if (digit < 0) {
            return -1;
        }
        unit = unit << 4 | digit;
    }
    return unit;
}

/* Scans the escape that begins at text[i]; returns the index of its last byte. */
static size_t json_scan_escape(const char *text, size_t length, size_t i, JsonScan *scan)
{
    int unit = json_escaped_unit(text, length, i), low;

    if (unit < 0) {
        return i + 1;
    }
    scan->nul = scan->nul || unit == 0;
    if (unit >= 0xd800 && unit < 0xdc00) {
        low = json_escaped_unit(text, length, i + 6);
        if (low >= 0xdc00 && low < 0xe000) {
            return i + 11;
        }
    }
    if (unit >= 0xd800 && unit < 0xe000 && !scan->surrogate) {
        scan->surrogate = text + i;
    }
    return i + 5;
}

static JsonScan json_scan_text(const char *text, size_t length)
{
    JsonScan scan = {0};
    bool in_string = false;

    for (size_t i = 0; i < length; i++) {
        if (in_string) {
            if (text[i] == '\\') {
                i = json_scan_escape(text, length, i, &scan);
            } else if (text[i] == '"') {
                in_string = false;
            }
        } else if (text[i] == '"') {
            in_string = true;
        } else if (text[i] == 'N' || text[i] == 'I') {
            scan.extension = true;
        } else if (text[i] == ':') {
            scan.pairs++;
        } else if (text[i] == '-' || g_ascii_isdigit(text[i])) {
            i = json_scan_number(text, length, i, &scan);
        }
    }
    return scan;
}

/* Number of pairs in the parsed value. Fewer than in the text if a key was repeated: json-c keeps
 * the last one only. The tokener bounds the depth. */
static size_t json_count_pairs(struct json_object *value)
{
    size_t pairs = 0;

    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, sub)
        {
            (void)key;
            pairs += 1 + json_count_pairs(sub);
        }
    } else if (json_object_is_type(value, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(value); i++) {
            pairs += json_count_pairs(json_object_array_get_idx(value, i));
        }
    }
    return pairs;
}

static void json_set_oversize(GError **error)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "JSON: an integer does not fit 64 bits");
}

static bool json_check_text(struct json_object *value, const char *text, size_t length,
                            GError **error)
{
    JsonScan scan = json_scan_text(text, length);

    if (scan.extension) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "JSON: expects numbers like -12.5e3");
        return false;
    }
    if (json_count_pairs(value) != scan.pairs) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "JSON: an object has the same key twice");
        return false;
    }
    if (scan.nul) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "JSON: a string with a NUL in it");
        return false;
    }
    if (!g_utf8_validate(text, (gssize)length, NULL)) { /* json-c accepts some invalid ones */
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "JSON: invalid UTF-8 sequence in string");
        return false;
    }
    if (scan.surrogate) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "JSON: %.6s is not a valid Unicode character", scan.surrogate);
        return false;
    }
    if (scan.oversize) {
        json_set_oversize(error);
        return false;
    }
    return true;
}

static struct json_object *json_parse_strict(const char *text, size_t length, int max_depth,
                                             GError **error)
{
    struct json_tokener *tok;
    struct json_object *value;
    enum json_tokener_error status;
    size_t end;

    if (length > INT_MAX - 1) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "JSON: too long");
        return NULL;
    }
    tok = json_tokener_new_ex(max_depth);
    json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 |
                                    JSON_TOKENER_ALLOW_TRAILING_CHARS);
    value = json_tokener_parse_ex(tok, text, (int)length);
    status = json_tokener_get_error(tok);
    if (status == json_tokener_continue) {
        /* A number at the very end is complete only when something follows it. */
        value = json_tokener_parse_ex(tok, "", 1);
        status = json_tokener_get_error(tok);
        end = length;
    } else {
        end = json_tokener_get_parse_end(tok);
    }
    json_tokener_free(tok);

    if (status == json_tokener_error_parse_number && json_scan_text(text, length).oversize) {
        /* json-c of Debian 13 refuses it itself; that of Debian 12 clamps it. */
        json_set_oversize(error);
        return NULL;
    }
    if (status != json_tokener_success) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "JSON: %s at byte %zu",
                    json_tokener_error_desc(status), end);
        return NULL;
    }
    while (end < length && strchr(" \t\r\n", text[end]) && text[end]) {
        end++;
    }
    if (!value) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "JSON: the value is null");
    } else if (end < length) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                    "JSON: more text after the value at byte %zu", end);
    } else if (json_check_text(value, text, length, error)) {
        return value;
    }
    json_object_put(value);
    return NULL;
}

struct json_object *json_parse_text(const char *text, size_t length, int max_depth, GError **error)
{
    g_autofree char *quoted = json_double_quotes(text, &length);
    return json_parse_strict(quoted != NULL ? quoted : text, length, max_depth, error);
}
