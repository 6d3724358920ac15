/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_introspect.h"

#include "vmm/monitor/qmp/qmp.h"

/*
 * As in QEMU, types that are not built in have numbers for names, so that clients do not rely on
 * them. A type is identified by its row, so two types may have the same name. A type comes before
 * the types it refers to.
 */
typedef struct Introspection {
    struct json_object *list;
    GHashTable *numbers; /* QmpType -> its number */
    GHashTable *arrays;  /* names of arrays in the list */
    GPtrArray *types;    /* QmpType in the order of their numbers */
} Introspection;

static const char *const qmp_builtin_json[][2] = {
    {"str", "string"},   {"int", "int"},   {"number", "number"},
    {"bool", "boolean"}, {"null", "null"}, {"any", "value"},
};

static const char *qmp_builtin_name(const QmpType *type)
{
    switch (type->kind) {
    case QMP_KIND_STRING:
        return "str";
    case QMP_KIND_INT:
    case QMP_KIND_SIZE:
        return "int";
    case QMP_KIND_NUMBER:
        return "number";
    case QMP_KIND_BOOL:
        return "bool";
    case QMP_KIND_NULL:
        return "null";
    case QMP_KIND_ANY:
        return "any";
    default:
        return NULL;
    }
}

/* ---- rows ---- */

static struct json_object *introspect_row(Introspection *in, const char *name, const char *meta)
{
    struct json_object *row = json_object_new_object();
    qmp_put_str(row, "name", name);
    qmp_put_str(row, "meta-type", meta);
    json_object_array_add(in->list, row);
    return row;
}

/* Returns the name of @type in the list and adds @type to the list if needed. */
static char *introspect_name(Introspection *in, const QmpType *type)
{
    gpointer number;
    if (qmp_builtin_name(type) != NULL) {
        return g_strdup(qmp_builtin_name(type));
    }
    if (type->kind == QMP_KIND_ARRAY) {
        g_autofree char *element = introspect_name(in, type->element);
        char *name = g_strdup_printf("[%s]", element);
        if (g_hash_table_add(in->arrays, g_strdup(name))) {
            qmp_put_str(introspect_row(in, name, "array"), "element-type", element);
        }
        return name;
    }
    if (!g_hash_table_lookup_extended(in->numbers, type, NULL, &number)) {
        number = GUINT_TO_POINTER(in->types->len);
        g_hash_table_insert(in->numbers, (gpointer)(uintptr_t)type, number);
        g_ptr_array_add(in->types, (gpointer)(uintptr_t)type);
    }
    return g_strdup_printf("%u", GPOINTER_TO_UINT(number));
}

static void introspect_put_type(Introspection *in, struct json_object *row, const char *key,
                                const QmpType *type)
{
    static const QmpType empty = {.name = "q_empty", .kind = QMP_KIND_STRUCT};
    g_autofree char *name = introspect_name(in, type != NULL ? type : &empty);
    qmp_put_str(row, key, name);
}

static void introspect_command(const QmpCommand *c, void *opaque)
{
    struct json_object *row = introspect_row(opaque, c->name, "command");
    introspect_put_type(opaque, row, "arg-type", c->args);
    introspect_put_type(opaque, row, "ret-type", c->ret);
    qmp_put_bool(row, "allow-oob", (c->flags & QMP_INSTANT) != 0);
}

static void introspect_event(const QmpEvent *e, void *opaque)
{
    introspect_put_type(opaque, introspect_row(opaque, e->name, "event"), "arg-type", e->data);
}

static void introspect_members(Introspection *in, struct json_object *row, const QmpType *type)
{
    struct json_object *members = json_object_new_array();
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        struct json_object *member = json_object_new_object();
        if (type->kind == QMP_KIND_STRUCT) {
            qmp_put_str(member, "name", m->name);
        }
        introspect_put_type(in, member, "type", m->type);
        if (m->optional) {
            qmp_put(member, "default", NULL);
        }
        json_object_array_add(members, member);
    }
    qmp_put(row, "members", members);
}

static void introspect_values(struct json_object *row, const QmpType *type)
{
    struct json_object *members = json_object_new_array(), *values = json_object_new_array();
    for (const char *const *value = type->values; *value != NULL; value++) {
        struct json_object *member = json_object_new_object();
        qmp_put_str(member, "name", *value);
        json_object_array_add(members, member);
        json_object_array_add(values, json_object_new_string(*value));
    }
    qmp_put(row, "members", members);
    qmp_put(row, "values", values);
}

static void introspect_type(Introspection *in, unsigned number)
{
    const QmpType *type = in->types->pdata[number];
    g_autofree char *name = g_strdup_printf("%u", number);
    if (type->kind == QMP_KIND_ENUM) {
        introspect_values(introspect_row(in, name, "enum"), type);
    } else {
        bool alternate = type->kind == QMP_KIND_ALTERNATE;
        introspect_members(in, introspect_row(in, name, alternate ? "alternate" : "object"), type);
    }
}

/* ---- the list ---- */

static struct json_object *introspect_make(void)
{
    Introspection in = {
        .list = json_object_new_array(),
        .numbers = g_hash_table_new(NULL, NULL),
        .arrays = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
        .types = g_ptr_array_new(),
    };
    qmp_command_foreach(introspect_command, &in);
    qmp_event_foreach(introspect_event, &in);
    for (unsigned i = 0; i < in.types->len; i++) { /* may append types */
        introspect_type(&in, i);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(qmp_builtin_json); i++) {
        qmp_put_str(introspect_row(&in, qmp_builtin_json[i][0], "builtin"), "json-type",
                    qmp_builtin_json[i][1]);
    }
    g_hash_table_destroy(in.numbers);
    g_hash_table_destroy(in.arrays);
    g_ptr_array_free(in.types, true);
    return in.list;
}

struct json_object *qmp_introspect(void)
{
    static struct json_object *list; /* main */
    if (list == NULL) {
        list = introspect_make();
    }
    return json_object_get(list);
}
