/* SPDX-License-Identifier: Apache-2.0 */
/* Checks JSON against the schema. Messages are QEMU's, with the accepted values added. */
#include <inttypes.h>
#include <string.h>
#include "util/opts/opts.h"
#include "vmm/monitor/qmp/qmp.h"

const QmpType qmp_str = {.name = "str", .kind = QMP_KIND_STRING};
const QmpType qmp_int = {.name = "int", .kind = QMP_KIND_INT};
const QmpType qmp_size = {.name = "size", .kind = QMP_KIND_SIZE};
const QmpType qmp_number = {.name = "number", .kind = QMP_KIND_NUMBER};
const QmpType qmp_bool = {.name = "bool", .kind = QMP_KIND_BOOL};
const QmpType qmp_null = {.name = "null", .kind = QMP_KIND_NULL};
const QmpType qmp_any = {.name = "any", .kind = QMP_KIND_ANY};
const QmpType qmp_u8 = {.name = "uint8", .kind = QMP_KIND_INT, .min = 0, .max = UINT8_MAX};
const QmpType qmp_u16 = {.name = "uint16", .kind = QMP_KIND_INT, .min = 0, .max = UINT16_MAX};
const QmpType qmp_u32 = {.name = "uint32", .kind = QMP_KIND_INT, .min = 0, .max = UINT32_MAX};
const QmpType qmp_u64 = {.name = "uint64", .kind = QMP_KIND_INT, .u64 = true};
const QmpType qmp_str_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_str};

GQuark qmp_error_quark(void)
{
    return g_quark_from_static_string("qmp-error-quark");
}

const char *qmp_error_class(const GError *error)
{
    static const char *const classes[] = {"GenericError", "CommandNotFound", "DeviceNotActive",
                                          "DeviceNotFound", "KVMMissingCap"};
    return error->domain == QMP_ERROR ? classes[error->code] : classes[QMP_ERROR_GENERIC];
}

bool qmp_refuse(GError **error, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC, text);
    return false;
}

static bool qmp_wrong_type(const char *what, const char *expected, GError **error)
{
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                "Invalid parameter type for '%s', expected: %s", what, expected);
    return false;
}

static bool qmp_check_int(const QmpType *type, struct json_object *value, const char *what,
                          GError **error)
{
    if (!json_object_is_type(value, json_type_int)) {
        return qmp_wrong_type(what, "integer", error);
    }
    bool above =
        json_object_get_uint64(value) > (uint64_t)INT64_MAX && json_object_get_int64(value) > 0;
    int64_t number = json_object_get_int64(value);
    bool bounded = type->min != 0 || type->max != 0;
    int64_t min = type->kind == QMP_KIND_SIZE ? 0 : bounded ? type->min : INT64_MIN;
    int64_t max = bounded ? type->max : INT64_MAX;
    if (above ? type->u64 : number >= min && number <= max) {
        return true;
    }
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                "Parameter '%s' expects an integer from %" PRId64 " to %" PRId64 ", not %s", what,
                min, max, json_object_to_json_string(value));
    return false;
}

static bool qmp_check_enum(const QmpType *type, struct json_object *value, const char *what,
                           GError **error)
{
    if (!json_object_is_type(value, json_type_string)) {
        return qmp_wrong_type(what, "string", error);
    }
    const char *text = json_object_get_string(value);
    if (g_strv_contains(type->values, text)) {
        return true;
    }
    g_autofree char *known = g_strjoinv("', '", (char **)(uintptr_t)type->values);
    g_autofree char *excerpt = opt_excerpt(text);
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                "Parameter '%s' does not accept value '%s'; accepted: '%s'", what, excerpt, known);
    return false;
}

static const QmpMember *qmp_member_find(const QmpType *type, const char *name)
{
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) {
            return m;
        }
    }
    return NULL;
}

static bool qmp_unexpected(const QmpType *type, const char *name, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        g_ptr_array_add(names, (char *)(uintptr_t)m->name);
    }
    g_ptr_array_add(names, NULL);
    const char *near = opt_nearest(name, (const char *const *)names->pdata);
    g_autofree char *excerpt = opt_excerpt(name);
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Parameter '%s' is unexpected%s%s%s", excerpt,
                near != NULL ? "; nearest is '" : "", near != NULL ? near : "",
                near != NULL ? "'" : "");
    return false;
}

static bool qmp_check_struct(const QmpType *type, struct json_object *value, const char *what,
                             GError **error)
{
    if (!json_object_is_type(value, json_type_object)) {
        return qmp_wrong_type(what, "object", error);
    }
    json_object_object_foreach(value, name, member)
    {
        const QmpMember *m = qmp_member_find(type, name);
        if (m == NULL && !type->open) {
            return qmp_unexpected(type, name, error);
        }
        if (m != NULL && !qmp_check(m->type, member, name, error)) {
            return false;
        }
    }
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        if (!m->optional && !json_object_object_get_ex(value, m->name, NULL)) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Parameter '%s' is missing", m->name);
            return false;
        }
    }
    return true;
}

static bool qmp_check_array(const QmpType *type, struct json_object *value, const char *what,
                            GError **error)
{
    if (!json_object_is_type(value, json_type_array)) {
        return qmp_wrong_type(what, "array", error);
    }
    for (size_t i = 0; i < json_object_array_length(value); i++) {
        g_autofree char *element = g_strdup_printf("%s[%zu]", what, i);
        if (!qmp_check(type->element, json_object_array_get_idx(value, i), element, error)) {
            return false;
        }
    }
    return true;
}

static bool qmp_check_alternate(const QmpType *type, struct json_object *value, const char *what,
                                GError **error)
{
    for (const QmpMember *m = type->members; m->name != NULL; m++) {
        if (qmp_check(m->type, value, what, NULL)) {
            return true;
        }
    }
    return qmp_wrong_type(what, type->name, error);
}

bool qmp_check(const QmpType *type, struct json_object *value, const char *what, GError **error)
{
    switch (type->kind) {
    case QMP_KIND_STRING:
        return json_object_is_type(value, json_type_string) ||
               qmp_wrong_type(what, "string", error);
    case QMP_KIND_INT:
    case QMP_KIND_SIZE:
        return qmp_check_int(type, value, what, error);
    case QMP_KIND_NUMBER:
        return json_object_is_type(value, json_type_int) ||
               json_object_is_type(value, json_type_double) ||
               qmp_wrong_type(what, "number", error);
    case QMP_KIND_BOOL:
        return json_object_is_type(value, json_type_boolean) ||
               qmp_wrong_type(what, "boolean", error);
    case QMP_KIND_NULL:
        return value == NULL || qmp_wrong_type(what, "null", error);
    case QMP_KIND_ANY:
        return true;
    case QMP_KIND_ENUM:
        return qmp_check_enum(type, value, what, error);
    case QMP_KIND_STRUCT:
        return qmp_check_struct(type, value, what, error);
    case QMP_KIND_ARRAY:
        return qmp_check_array(type, value, what, error);
    case QMP_KIND_ALTERNATE:
        return qmp_check_alternate(type, value, what, error);
    }
    return false;
}
