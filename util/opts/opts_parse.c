/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses `key=value,...` into an OptDict.
 *
 *   text    := element *( "," element ) [ "," ]
 *   element := key "=" value | key | value (the first element, if there is an implied key)
 *   value   := any bytes; a comma is written ",,"
 */
#include <string.h>
#include "util/opts/json.h"
#include "util/opts/opts_int.h"

/* A key that is replaced by another. */
typedef struct OptFold {
    const char *key, *into;
} OptFold;

/* Reads up to a single comma or the end; `,,` is a comma. Returns the end of what was read. */
static const char *opt_read_value(const char *p, GString *value)
{
    while (*p) {
        if (*p == ',') {
            if (p[1] != ',') {
                break;
            }
            p++;
        }
        g_string_append_c(value, *p++);
    }
    return p;
}

static bool opt_path_valid(const char *path)
{
    for (;;) {
        size_t length = strcspn(path, ".");

        if (!opt_key_component_valid(path, length)) {
            return false;
        }
        if (!path[length]) {
            return true;
        }
        path += length + 1;
    }
}

static bool opt_add_element(OptDict *d, const char *key, const char *value, size_t length,
                            GError **error)
{
    if (!opt_path_valid(key)) {
        g_autofree char *shown = opt_excerpt(key);

        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                    "'%s' is not an option name (options are key=value,...; "
                    "a comma in a value is written ',,')",
                    shown);
        return false;
    }
    return opt_dict_insert(d, key, opt_value_new_text(value, length), error);
}

/* Parses one element at *@p and moves *@p to the comma or the end after it. */
static bool opt_parse_element(OptDict *d, const char **p, const char *implied_key,
                              const OptFold *fold, GError **error)
{
    size_t key_length = strcspn(*p, "=,");
    g_autoptr(GString) value = g_string_new(NULL);
    g_autofree char *key = NULL;

    if ((*p)[key_length] == '=') {
        key = g_strndup(*p, key_length);
        if (fold != NULL && strcmp(key, fold->key) == 0) {
            g_free(key);
            key = g_strdup(fold->into);
        }
        *p = opt_read_value(*p + key_length + 1, value);
        return opt_add_element(d, key, value->str, value->len, error);
    }
    *p = opt_read_value(*p, value);
    if (implied_key) {
        return opt_add_element(d, implied_key, value->str, value->len, error);
    }
    return opt_add_element(d, value->str, "on", 2, error);
}

/* Whether @text has an option below @key: "key.x=". */
static bool opt_text_has_below(const char *text, const char *key)
{
    size_t length = strlen(key);
    const char *p = text;
    while (*p) {
        g_autoptr(GString) element = g_string_new(NULL);
        p = opt_read_value(p, element);
        if (strncmp(element->str, key, length) == 0 && element->str[length] == '.') {
            return true;
        }
        p += *p == ',';
    }
    return false;
}

static OptDict *opt_dict_parse_pairs(const char *text, const char *implied_key, const OptFold *fold,
                                     GError **error)
{
    g_autoptr(OptDict) d = opt_dict_new();
    const char *p = text;

    while (*p) {
        if (!opt_parse_element(d, &p, p == text ? implied_key : NULL, fold, error)) {
            return NULL;
        }
        if (*p == ',') {
            p++;
        }
    }
    return g_steal_pointer(&d);
}

OptDict *opt_dict_parse(const char *text, const char *implied_key, GError **error)
{
    g_autoptr(OptDict) d = NULL;
    struct json_object *json;

    if (text[0] != '{') {
        return opt_dict_parse_pairs(text, implied_key, NULL, error);
    }
    json = json_parse_text(text, strlen(text), OPT_MAX_DEPTH, error);
    if (!json) {
        return NULL;
    }
    d = opt_dict_from_json(json, error);
    json_object_put(json);
    return g_steal_pointer(&d);
}

OptDict *opt_dict_parse_folding(const char *text, const char *key, const char *below,
                                GError **error)
{
    if (text[0] == '{' || !opt_text_has_below(text, key)) {
        return opt_dict_parse(text, NULL, error);
    }
    g_autofree char *into = g_strdup_printf("%s.%s", key, below);
    OptFold fold = {.key = key, .into = into};
    return opt_dict_parse_pairs(text, NULL, &fold, error);
}
