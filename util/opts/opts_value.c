/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing of single values: numbers, sizes, booleans; search for a similar name. */
#include <string.h>
#include "util/opts/opts_int.h"

/* Longer names are not compared: a typing error in them is unlikely to be the cause. */
#define NEAREST_MAX_LENGTH 40

static bool opt_digits_to_u64(const char *text, size_t length, unsigned base, uint64_t *value)
{
    uint64_t v = 0;

    if (length == 0) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        int digit = g_ascii_xdigit_value(text[i]);

        if (digit < 0 || (unsigned)digit >= base || __builtin_mul_overflow(v, base, &v) ||
            __builtin_add_overflow(v, (uint64_t)digit, &v)) {
            return false;
        }
    }
    *value = v;
    return true;
}

static bool opt_is_hex(const char *text)
{
    return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

bool opt_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value, GError **error)
{
    bool hex = opt_is_hex(text);
    const char *digits = hex ? text + 2 : text;
    uint64_t v;

    if (!opt_digits_to_u64(digits, strlen(digits), hex ? 16 : 10, &v) || v < min || v > max) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "expects a number from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, min, max);
        return false;
    }
    *value = v;
    return true;
}

/* The factor of a size's suffix; 0 if the suffix is invalid. */
static uint64_t opt_size_unit(const char *suffix, uint64_t default_unit)
{
    static const char letters[] = "BKMGTPE";
    const char *found;

    if (!*suffix) {
        return default_unit ? default_unit : 1;
    }
    found = strchr(letters, g_ascii_toupper(*suffix));
    return found && !suffix[1] ? 1ull << (10 * (found - letters)) : 0;
}

/* The fraction ".25" of @unit, rounded down. At most 18 of the @length digits are used. */
static bool opt_size_fraction(const char *digits, size_t length, uint64_t unit, uint64_t *bytes)
{
    uint64_t scale = 1, v = 0;

    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isdigit(digits[i])) {
            return false;
        }
        if (i < 18) {
            scale *= 10;
            v = v * 10 + (uint64_t)(digits[i] - '0');
        }
    }
    *bytes = (uint64_t)((unsigned __int128)v * unit / scale);
    return length > 0;
}

static bool opt_size_from_text(const char *text, uint64_t default_unit, uint64_t *bytes)
{
    size_t whole_length = strspn(text, "0123456789");
    const char *suffix = text + whole_length;
    size_t fraction_length = 0;
    uint64_t whole, fraction = 0, unit;

    if (opt_is_hex(text)) {
        return opt_digits_to_u64(text + 2, strlen(text + 2), 16, &whole) &&
               !__builtin_mul_overflow(whole, opt_size_unit("", default_unit), bytes);
    }
    if (*suffix == '.') {
        fraction_length = strspn(suffix + 1, "0123456789");
        suffix += 1 + fraction_length;
    }
    unit = opt_size_unit(suffix, default_unit);
    if (!unit || !opt_digits_to_u64(text, whole_length, 10, &whole)) {
        return false;
    }
    if (text[whole_length] == '.' &&
        (unit == 1 ||
         !opt_size_fraction(text + whole_length + 1, fraction_length, unit, &fraction))) {
        return false;
    }
    return !__builtin_mul_overflow(whole, unit, bytes) &&
           !__builtin_add_overflow(*bytes, fraction, bytes);
}

bool opt_parse_size(const char *text, uint64_t default_unit, uint64_t *bytes, GError **error)
{
    uint64_t v = 0;

    if (!opt_size_from_text(text, default_unit, &v)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "expects a size below 16E: a number with an optional suffix K, M, G, T (powers "
                    "of 1024)");
        return false;
    }
    *bytes = v;
    return true;
}

bool opt_parse_bool(const char *text, bool *value, GError **error)
{
    static const char *const on[] = {"on", "yes", "true", "y", NULL};
    static const char *const off[] = {"off", "no", "false", "n", NULL};

    if (g_strv_contains(on, text)) {
        *value = true;
        return true;
    }
    if (g_strv_contains(off, text)) {
        *value = false;
        return true;
    }
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects on or off");
    return false;
}

static unsigned opt_min3(unsigned a, unsigned b, unsigned c)
{
    return MIN(MIN(a, b), c);
}

/* Edit distance: insertion, deletion, replacement and the swap of two neighbours cost one, a change
 * of case nothing. Both names are at most NEAREST_MAX_LENGTH long. */
static unsigned opt_edit_distance(const char *a, const char *b)
{
    unsigned rows[3][NEAREST_MAX_LENGTH + 1];
    unsigned *before = rows[0], *previous = rows[1], *row = rows[2];
    unsigned m = (unsigned)strlen(a), n = (unsigned)strlen(b);

    for (unsigned j = 0; j <= n; j++) {
        before[j] = 0;
        previous[j] = j;
    }
    for (unsigned i = 1; i <= m; i++) {
        unsigned *oldest = before;

        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            char x = g_ascii_tolower(a[i - 1]), y = g_ascii_tolower(b[j - 1]);

            row[j] = opt_min3(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == g_ascii_tolower(b[j - 2]) &&
                y == g_ascii_tolower(a[i - 2])) {
                row[j] = MIN(row[j], before[j - 2] + 1);
            }
        }
        before = previous;
        previous = row;
        row = oldest;
    }
    return previous[n];
}

const char *opt_nearest(const char *name, const char *const *names)
{
    size_t length = strlen(name);
    const char *nearest = NULL;
    unsigned best;

    if (length > NEAREST_MAX_LENGTH) {
        return NULL;
    }
    best = (unsigned)length / 3 + 1; /* a greater distance is not similar */
    for (; *names; names++) {
        unsigned distance;

        if (strlen(*names) > NEAREST_MAX_LENGTH) {
            continue;
        }
        distance = opt_edit_distance(name, *names);
        if (distance <= best && distance < MAX(length, strlen(*names)) &&
            (distance < best || !nearest)) {
            best = distance;
            nearest = *names;
        }
    }
    return nearest;
}

bool opt_id_valid(const char *id)
{
    if (!g_ascii_isalpha(id[0])) {
        return false;
    }
    for (const char *c = id; *c != '\0'; c++) {
        if (!g_ascii_isalnum(*c) && strchr("-._", *c) == NULL) {
            return false;
        }
    }
    return true;
}

bool opt_id_check(const char *id, GError **error)
{
    if (opt_id_valid(id)) {
        return true;
    }
    g_autofree char *excerpt = opt_excerpt(id);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "the id '%s' is invalid: it must begin with a letter and contain only letters, "
                "digits, '-', '.' and '_'",
                excerpt);
    return false;
}
