/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/opts/json.h"
#include "util/opts/opts_int.h"

static OptDict *opt_dict_from_object(struct json_object *object, unsigned depth, GError **error);
static OptValue *opt_value_from_json(struct json_object *json, unsigned depth, GError **error);

static OptValue *opt_value_from_string(struct json_object *json, GError **error)
{
    const char *text = json_object_get_string(json);
    size_t length = (size_t)json_object_get_string_len(json);

    if (strlen(text) != length) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "a string with a NUL in it");
        return NULL;
    }
    return opt_value_new_text(text, length);
}

static OptValue *opt_value_from_array(struct json_object *json, unsigned depth, GError **error)
{
    OptValue *list = opt_value_new_list();

    for (size_t i = 0; i < json_object_array_length(json); i++) {
        OptValue *element =
            opt_value_from_json(json_object_array_get_idx(json, i), depth + 1, error);

        if (!element) {
            opt_value_free(list);
            return NULL;
        }
        g_ptr_array_add(list->list, element);
    }
    return list;
}

static OptValue *opt_value_from_json(struct json_object *json, unsigned depth, GError **error)
{
    const char *text;
    OptDict *dict;

    if (depth > OPT_MAX_DEPTH) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "nested deeper than %d", OPT_MAX_DEPTH);
        return NULL;
    }
    switch (json_object_get_type(json)) {
    case json_type_null:
        return opt_value_new_null();
    case json_type_boolean:
        text = json_object_get_boolean(json) ? "on" : "off";
        return opt_value_new_text(text, strlen(text));
    case json_type_int:
    case json_type_double:
        text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
        return opt_value_new_text(text, strlen(text));
    case json_type_string:
        return opt_value_from_string(json, error);
    case json_type_array:
        return opt_value_from_array(json, depth, error);
    case json_type_object:
        dict = opt_dict_from_object(json, depth, error);
        return dict ? opt_value_new_dict(dict) : NULL;
    }
    g_assert_not_reached();
}

static OptDict *opt_dict_from_object(struct json_object *object, unsigned depth, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_new();

    json_object_object_foreach(object, key, json)
    {
        OptValue *value;

        /* Dotted keys are refused: they would be a second spelling of nesting. */
        if (!opt_key_component_valid(key, strlen(key))) {
            g_autofree char *shown = opt_excerpt(key);

            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                        "'%s' is not an option name (in JSON, options nest as objects)", shown);
            return NULL;
        }
        value = opt_value_from_json(json, depth + 1, error);
        if (!value) {
            g_prefix_error(error, "'%s': ", key);
            return NULL;
        }
        if (!opt_dict_insert(d, key, value, error)) {
            return NULL;
        }
    }
    return g_steal_pointer(&d);
}

OptDict *opt_dict_from_json(struct json_object *object, GError **error)
{
    if (!json_object_is_type(object, json_type_object)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "not a JSON object");
        return NULL;
    }
    return opt_dict_from_object(object, 0, error);
}
