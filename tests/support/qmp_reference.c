/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/qmp_reference.h"

#include <inttypes.h>
#include <string.h>
#include "vmm/monitor/qmp/qmp_schema.h"

static const char reference_begin[] =
    "# QMP reference\n"
    "\n"
    "Generated from the tables in `vmm/monitor/` by `make docs-reference`; do not edit.\n"
    "\n"
    "skiff implements the protocol of QEMU 10 (its `docs/interop/qmp-spec`) on the character "
    "devices of `-qmp`, `-qmp-pretty` and `-mon mode=control`. Commands, events and types are "
    "those of QEMU or a subset, unless noted. A client sends `qmp_capabilities` first. Its "
    "commands are executed in order; at most 8 commands of 64 KiB in all wait. Commands marked "
    "*at once* never wait, whatever the VM is doing. A client that has enabled the capability "
    "`oob` may send them out of band (`exec-oob`).\n"
    "\n"
    "JSON is strict (RFC 8259), but strings may also have single quotes. A duplicate key is an "
    "error. A request has at most 64 levels and 1 MiB. After invalid JSON the parser resumes at "
    "the next line; a byte 0xFF makes it drop an incomplete value. Errors have QEMU's classes.\n";

/* ---- types ---- */

/* Types with a section of their own, by name. */
typedef GHashTable Sections;

static char *reference_type(const QmpType *type)
{
    switch (type->kind) {
    case QMP_KIND_STRING:
        return g_strdup("string");
    case QMP_KIND_INT:
        if (type->min != 0 || type->max != 0) {
            return g_strdup_printf("integer, %" PRId64 " to %" PRId64, type->min, type->max);
        }
        return g_strdup("integer");
    case QMP_KIND_SIZE:
        return g_strdup("integer, bytes");
    case QMP_KIND_NUMBER:
        return g_strdup("number");
    case QMP_KIND_BOOL:
        return g_strdup("boolean");
    case QMP_KIND_NULL:
        return g_strdup("null");
    case QMP_KIND_ANY:
        return g_strdup("any value");
    case QMP_KIND_ARRAY: {
        g_autofree char *element = reference_type(type->element);
        return g_strconcat("list of ", element, NULL);
    }
    case QMP_KIND_ENUM:
    case QMP_KIND_STRUCT:
    case QMP_KIND_ALTERNATE: {
        g_autofree char *anchor = g_ascii_strdown(type->name, -1);
        return g_strdup_printf("[%s](#%s)", type->name, anchor);
    }
    }
    return NULL;
}

static void reference_collect(Sections *sections, const QmpType *type)
{
    if (type == NULL) {
        return;
    }
    if (type->kind == QMP_KIND_ARRAY) {
        reference_collect(sections, type->element);
        return;
    }
    if (type->kind != QMP_KIND_ENUM && type->kind != QMP_KIND_STRUCT &&
        type->kind != QMP_KIND_ALTERNATE) {
        return;
    }
    if (!g_hash_table_contains(sections, type->name)) {
        g_hash_table_insert(sections, (gpointer)(uintptr_t)type->name, (gpointer)(uintptr_t)type);
        for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
            reference_collect(sections, m->type);
        }
    }
}

static void reference_members(GString *out, Sections *sections, const QmpType *type)
{
    for (const QmpMember *m = type->members; m != NULL && m->name != NULL; m++) {
        g_autofree char *text = reference_type(m->type);
        g_string_append_printf(out, "- `%s` (%s%s): %s\n", m->name, text,
                               m->optional ? ", optional" : "", m->doc != NULL ? m->doc : "");
        reference_collect(sections, m->type);
    }
    if (type->open) {
        g_string_append(out, "- further members\n");
    }
}

static void reference_section(GString *out, Sections *sections, const QmpType *type)
{
    g_string_append_printf(out, "\n### %s\n\n", type->name);
    if (type->doc != NULL) {
        g_string_append_printf(out, "%s\n\n", type->doc);
    }
    if (type->kind == QMP_KIND_ENUM) {
        g_autofree char *values = g_strjoinv("`, `", (char **)(uintptr_t)type->values);
        g_string_append_printf(out, "One of `%s`.\n", values);
        return;
    }
    if (type->kind == QMP_KIND_ALTERNATE) {
        g_string_append(out, "One of these, selected by the type of the JSON value:\n\n");
    } else if ((type->members == NULL || type->members->name == NULL) && !type->open) {
        g_string_append(out, "An empty object.\n");
    }
    reference_members(out, sections, type);
}

/* ---- commands and events ---- */

typedef struct Reference {
    GString *out;
    Sections *sections;
    GPtrArray *rows; /* QmpCommand or QmpEvent */
} Reference;

static void reference_add_command(const QmpCommand *c, void *opaque)
{
    g_ptr_array_add(opaque, (gpointer)(uintptr_t)c);
}

static void reference_add_event(const QmpEvent *e, void *opaque)
{
    g_ptr_array_add(opaque, (gpointer)(uintptr_t)e);
}

/* Both begin with the member `name`. */
static int reference_compare(gconstpointer a, gconstpointer b)
{
    return g_ascii_strcasecmp(**(const char *const *const *)a, **(const char *const *const *)b);
}

static void reference_object(Reference *r, const char *title, const QmpType *type)
{
    if (type != NULL) {
        g_string_append_printf(r->out, "\n%s:\n\n", title);
        reference_members(r->out, r->sections, type);
    }
}

static void reference_command(Reference *r, const QmpCommand *c)
{
    g_string_append_printf(r->out, "\n### %s\n\n%s\n", c->name, c->doc);
    if ((c->flags & QMP_INSTANT) != 0) {
        g_string_append(r->out, "*At once.*\n");
    }
    reference_object(r, "Arguments", c->args);
    if (c->ret != NULL) {
        g_autofree char *text = reference_type(c->ret);
        g_string_append_printf(r->out, "\nReturns: %s\n", text);
        reference_collect(r->sections, c->ret);
    }
}

static void reference_event(Reference *r, const QmpEvent *e)
{
    g_string_append_printf(r->out, "\n### %s\n\n%s\n", e->name, e->doc);
    reference_object(r, "Data", e->data);
}

static void reference_types(Reference *r)
{
    g_autoptr(GList) names =
        g_list_sort(g_hash_table_get_keys(r->sections), (GCompareFunc)(void *)g_ascii_strcasecmp);
    for (GList *l = names; l != NULL; l = l->next) {
        reference_section(r->out, r->sections, g_hash_table_lookup(r->sections, l->data));
    }
}

char *qmp_reference_text(void)
{
    Reference r = {
        .out = g_string_new(reference_begin),
        .sections = g_hash_table_new(g_str_hash, g_str_equal),
        .rows = g_ptr_array_new(),
    };
    g_string_append(r.out, "\n## Commands\n");
    qmp_command_foreach(reference_add_command, r.rows);
    g_ptr_array_sort(r.rows, reference_compare);
    for (unsigned i = 0; i < r.rows->len; i++) {
        reference_command(&r, r.rows->pdata[i]);
    }
    g_string_append(r.out, "\n## Events\n");
    g_ptr_array_set_size(r.rows, 0);
    qmp_event_foreach(reference_add_event, r.rows);
    g_ptr_array_sort(r.rows, reference_compare);
    for (unsigned i = 0; i < r.rows->len; i++) {
        reference_event(&r, r.rows->pdata[i]);
    }
    g_string_append(r.out, "\n## Types\n");
    reference_types(&r);
    g_hash_table_destroy(r.sections);
    g_ptr_array_free(r.rows, true);
    return g_string_free(r.out, false);
}
