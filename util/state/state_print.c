/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/state_print.h"

#include <inttypes.h>
#include "util/opts/opts.h"
#include "util/state/state_table.h"

#define PRINT_ROW 16u /* elements of an array in a line */

static uint64_t print_number(const StateTableField *f, const uint8_t *data, uint32_t index)
{
    unsigned size = state_type_size(f->type);
    StateCursor c = {data + (size_t)index * size, data + (size_t)(index + 1) * size};
    uint64_t value = 0;
    state_cursor_number(&c, size, &value);
    return value;
}

/* ---- for people ---- */

typedef struct PrintText {
    GString *out;
    unsigned indent;
} PrintText;

static void print_indent(const PrintText *p)
{
    for (unsigned i = 0; i < p->indent; i++) {
        g_string_append(p->out, "  ");
    }
}

static void print_scalar(const PrintText *p, const StateTableField *f, uint64_t value)
{
    if (f->type == STATE_BOOL) {
        g_string_append(p->out, value != 0 ? "on" : "off");
    } else {
        g_string_append_printf(p->out, value > 9 ? "%" PRIu64 " (0x%" PRIx64 ")" : "%" PRIu64,
                               value, value);
    }
}

static void print_values(void *opaque, const StateTableField *f, const uint8_t *data,
                         uint32_t count)
{
    PrintText *p = opaque;
    print_indent(p);
    if (f->count == 1 && f->length == NULL && f->type != STATE_BYTES) {
        g_string_append_printf(p->out, "%s: ", f->name);
        print_scalar(p, f, print_number(f, data, 0));
        g_string_append_c(p->out, '\n');
        return;
    }
    g_string_append_printf(p->out, "%s[%u]:", f->name, count);
    for (uint32_t i = 0; i < count; i++) {
        if (count > PRINT_ROW && i % PRINT_ROW == 0) {
            g_string_append_c(p->out, '\n');
            print_indent(p);
            g_string_append_printf(p->out, "  %04x:", i);
        }
        g_string_append_printf(p->out, " %0*" PRIx64, 2 * (int)state_type_size(f->type),
                               print_number(f, data, i));
    }
    g_string_append_c(p->out, '\n');
}

static void print_element(void *opaque, const StateTableField *f, uint32_t index)
{
    PrintText *p = opaque;
    print_indent(p);
    if (f->count == 1 && f->length == NULL) {
        g_string_append_printf(p->out, "%s:\n", f->name);
    } else {
        g_string_append_printf(p->out, "%s[%u]:\n", f->name, index);
    }
    p->indent++;
}

static void print_element_end(void *opaque, const StateTableField *f)
{
    PrintText *p = opaque;
    p->indent--;
}

void state_print_head(const StateStream *s, GString *out)
{
    g_string_append_printf(out, "state stream, format version %u: %" PRIu64 " bytes, %u sections\n",
                           STATE_STREAM_VERSION, s->bytes, s->sections->len);
    for (unsigned i = 0; i < s->texts->len; i++) {
        const StateText *t = s->texts->pdata[i];
        g_autofree char *value = opt_printable(t->value);
        g_string_append_printf(out, "%s: %s\n", t->name, value);
    }
}

void state_print_section(const StateSection *x, unsigned number, bool values, GString *out)
{
    static const StateVisitor visitor = {
        .values = print_values, .element = print_element, .element_end = print_element_end};
    PrintText p = {out, 1};
    g_string_append_printf(out, "section %u: %s of %s, version %u, %u bytes%s\n", number,
                           x->table->name, x->instance, x->version, x->payload_size,
                           x->flags & STATE_SECTION_IGNORABLE ? ", may be ignored" : "");
    if (values) {
        state_table_walk(x->table, x->payload, x->payload_size, &visitor, &p, NULL);
    }
}

/* ---- for programs ---- */

typedef struct PrintJson {
    struct json_object *at[2 * STATE_TABLE_DEPTH + 1]; /* the objects and arrays that are open */
    unsigned depth;
} PrintJson;

static struct json_object *json_scalar(const StateTableField *f, uint64_t value)
{
    return f->type == STATE_BOOL ? json_object_new_boolean(value != 0)
                                 : json_object_new_uint64(value);
}

static struct json_object *json_bytes(const uint8_t *data, uint32_t count)
{
    g_autoptr(GString) hex = g_string_sized_new(2 * (gsize)count);
    for (uint32_t i = 0; i < count; i++) {
        g_string_append_printf(hex, "%02x", data[i]);
    }
    return json_object_new_string(hex->str);
}

static void json_values(void *opaque, const StateTableField *f, const uint8_t *data, uint32_t count)
{
    PrintJson *p = opaque;
    struct json_object *value;
    if (f->type == STATE_BYTES) {
        value = json_bytes(data, count);
    } else if (f->count == 1 && f->length == NULL) {
        value = json_scalar(f, print_number(f, data, 0));
    } else {
        value = json_object_new_array();
        for (uint32_t i = 0; i < count; i++) {
            json_object_array_add(value, json_scalar(f, print_number(f, data, i)));
        }
    }
    json_object_object_add(p->at[p->depth], f->name, value);
}

static void json_begin(void *opaque, const StateTableField *f, uint32_t count)
{
    PrintJson *p = opaque;
    struct json_object *list = json_object_new_array();
    json_object_object_add(p->at[p->depth], f->name, list);
    p->at[++p->depth] = list;
}

static void json_element(void *opaque, const StateTableField *f, uint32_t index)
{
    PrintJson *p = opaque;
    struct json_object *element = json_object_new_object();
    json_object_array_add(p->at[p->depth], element);
    p->at[++p->depth] = element;
}

static void json_element_end(void *opaque, const StateTableField *f)
{
    PrintJson *p = opaque;
    p->depth--;
}

static void json_end(void *opaque, const StateTableField *f)
{
    PrintJson *p = opaque;
    p->depth--;
}

struct json_object *state_json_head(const StateStream *s)
{
    struct json_object *o = json_object_new_object(), *machine = json_object_new_object();
    json_object_object_add(o, "format-version", json_object_new_uint64(STATE_STREAM_VERSION));
    json_object_object_add(o, "bytes", json_object_new_uint64(s->bytes));
    for (unsigned i = 0; i < s->texts->len; i++) {
        const StateText *t = s->texts->pdata[i];
        json_object_object_add(machine, t->name, json_object_new_string(t->value));
    }
    json_object_object_add(o, "machine", machine);
    return o;
}

struct json_object *state_json_section(const StateSection *x, bool values)
{
    static const StateVisitor visitor = {.values = json_values,
                                         .begin = json_begin,
                                         .element = json_element,
                                         .element_end = json_element_end,
                                         .end = json_end};
    struct json_object *o = json_object_new_object();
    json_object_object_add(o, "name", json_object_new_string(x->table->name));
    json_object_object_add(o, "instance", json_object_new_string(x->instance));
    json_object_object_add(o, "version", json_object_new_int(x->version));
    json_object_object_add(o, "bytes", json_object_new_uint64(x->payload_size));
    json_object_object_add(o, "may-be-ignored",
                           json_object_new_boolean(x->flags & STATE_SECTION_IGNORABLE));
    if (values) {
        PrintJson p = {.at = {json_object_new_object()}};
        json_object_object_add(o, "fields", p.at[0]);
        state_table_walk(x->table, x->payload, x->payload_size, &visitor, &p, NULL);
    }
    return o;
}
