/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/state_table.h"

#include <string.h>

/* The numbers of types are part of the format. */
_Static_assert(STATE_U8 == 1 && STATE_U16 == 2 && STATE_U32 == 3 && STATE_U64 == 4 &&
                   STATE_BOOL == 5 && STATE_BYTES == 6 && STATE_STRUCT == 7,
               "docs/state-format.md");

/* ---- bytes ---- */

const uint8_t *state_cursor_take(StateCursor *c, size_t n)
{
    const uint8_t *at = c->at;
    if ((size_t)(c->end - at) < n) {
        return NULL;
    }
    c->at += n;
    return at;
}

bool state_cursor_number(StateCursor *c, unsigned size, uint64_t *value)
{
    const uint8_t *bytes = state_cursor_take(c, size);
    if (bytes == NULL) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < size; i++) {
        *value |= (uint64_t)bytes[i] << (8 * i);
    }
    return true;
}

bool state_text_is_name(const uint8_t *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '!' || text[i] > '~') {
            return false;
        }
    }
    return true;
}

char *state_cursor_name(StateCursor *c, bool may_be_empty)
{
    uint64_t size;
    if (!state_cursor_number(c, 1, &size) || size > STATE_NAME_MAX ||
        (size == 0 && !may_be_empty)) {
        return NULL;
    }
    const uint8_t *text = state_cursor_take(c, size);
    return text != NULL && state_text_is_name(text, size) ? g_strndup((const char *)text, size)
                                                          : NULL;
}

void state_append_number(GByteArray *out, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    g_byte_array_append(out, bytes, size);
}

void state_append_name(GByteArray *out, const char *name)
{
    size_t size = name != NULL ? strlen(name) : 0;
    g_assert(size <= STATE_NAME_MAX && state_text_is_name((const uint8_t *)name, size));
    state_append_number(out, size, 1);
    g_byte_array_append(out, (const uint8_t *)name, (guint)size);
}

/* ---- types ---- */

static const struct {
    const char *name;
    unsigned size;
} state_types[] = {
    [STATE_U8] = {"u8", 1},         [STATE_U16] = {"u16", 2},   [STATE_U32] = {"u32", 4},
    [STATE_U64] = {"u64", 8},       [STATE_BOOL] = {"bool", 1}, [STATE_BYTES] = {"bytes", 1},
    [STATE_STRUCT] = {"struct", 0},
};

unsigned state_type_size(StateType type)
{
    return state_types[type].size;
}

const char *state_type_name(StateType type)
{
    return state_types[type].name;
}

/* ---- the description ---- */

static void table_encode_fields(const StateDesc *desc, GByteArray *out)
{
    guint count_at = out->len;
    unsigned count = 0;
    state_append_number(out, 0, 2);
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        if (f->type == STATE_PAD) {
            continue;
        }
        count++;
        state_append_name(out, f->name);
        state_append_number(out, f->type, 1);
        state_append_number(out, f->count, 4);
        state_append_number(out, f->since, 2);
        state_append_number(out, f->max, 8);
        state_append_name(out, f->length);
        if (f->type == STATE_STRUCT) {
            state_append_name(out, f->sub->name);
            table_encode_fields(f->sub, out);
        }
    }
    g_assert(count > 0 && count <= UINT16_MAX);
    out->data[count_at] = (uint8_t)count;
    out->data[count_at + 1] = (uint8_t)(count >> 8);
}

void state_table_encode(const StateDesc *desc, GByteArray *out)
{
    state_append_name(out, desc->name);
    table_encode_fields(desc, out);
}

void state_table_free(StateTable *t)
{
    for (unsigned i = 0; t != NULL && i < t->count; i++) {
        StateTableField *f = &t->fields[i];
        g_free(f->name);
        g_free(f->length);
        state_table_free(f->sub);
    }
    if (t != NULL) {
        g_free(t->fields);
        g_free(t->name);
        g_free(t);
    }
}

static StateTable *table_decode(StateCursor *c, uint16_t version, unsigned depth, GError **error);

/* The field with the number of elements of the variable array @f of the fields before it. */
static bool table_find_length(const StateTable *t, StateTableField *f)
{
    for (unsigned i = 0; &t->fields[i] != f; i++) {
        const StateTableField *n = &t->fields[i];
        if (strcmp(n->name, f->length) == 0) {
            f->length_index = i;
            return n->type == STATE_U32 && n->count == 1 && n->max == f->count && n->length == NULL;
        }
    }
    return false;
}

/* Reads all of a field but its sub-table. Returns what is wrong, or NULL. */
static const char *table_decode_field(StateCursor *c, const StateTable *t, StateTableField *f,
                                      uint16_t version)
{
    uint64_t type, count, since;
    f->name = state_cursor_name(c, false);
    if (f->name == NULL || !state_cursor_number(c, 1, &type) ||
        !state_cursor_number(c, 4, &count) || !state_cursor_number(c, 2, &since) ||
        !state_cursor_number(c, 8, &f->max)) {
        return "is cut short or has no name";
    }
    f->length = state_cursor_name(c, true);
    if (f->length == NULL) {
        return "is cut short or has a wrong name";
    }
    if (f->length[0] == '\0') {
        g_clear_pointer(&f->length, g_free);
    }
    if (type < STATE_U8 || type > STATE_STRUCT) {
        return "has an unknown type";
    }
    f->type = (StateType)type;
    f->count = (uint32_t)count;
    f->since = (uint16_t)since;
    unsigned bits = 8 * state_type_size(f->type);
    if (count == 0) {
        return "has no elements";
    }
    if (f->since > version) {
        return "is newer than the table";
    }
    if (bits == 0 ? f->max != 0 : bits < 64 && f->max >> bits != 0) {
        return "has a maximum that exceeds its type";
    }
    if (f->length != NULL && !table_find_length(t, f)) {
        return "has no earlier field with its length";
    }
    return NULL;
}

static bool table_decode_fields(StateCursor *c, StateTable *t, unsigned count, uint16_t version,
                                unsigned depth, GError **error)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (unsigned i = 0; i < count; i++) {
        StateTableField *f = &t->fields[i];
        t->count = i + 1;
        const char *wrong = table_decode_field(c, t, f, version);
        if (wrong == NULL && !g_hash_table_add(names, f->name)) {
            wrong = "comes twice";
        }
        if (wrong != NULL) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "table %s: field %u%s%s %s",
                        t->name, i, f->name != NULL ? ", " : "", f->name != NULL ? f->name : "",
                        wrong);
            return false;
        }
        if (f->type == STATE_STRUCT) {
            f->sub = table_decode(c, version, depth + 1, error);
            if (f->sub == NULL) {
                return false;
            }
        }
    }
    return true;
}

#define STATE_TABLE_FIELD_BYTES 18u /* the least that the description of a field has */

static StateTable *table_decode(StateCursor *c, uint16_t version, unsigned depth, GError **error)
{
    uint64_t count;
    g_autoptr(StateTable) t = g_new0(StateTable, 1);
    t->name = state_cursor_name(c, false);
    if (t->name == NULL || !state_cursor_number(c, 2, &count) || count == 0 ||
        count > (size_t)(c->end - c->at) / STATE_TABLE_FIELD_BYTES) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "table %s is cut short, or has no name or no field",
                    t->name != NULL ? t->name : "without a name");
        return NULL;
    }
    if (depth >= STATE_TABLE_DEPTH) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "table %s: tables nest too deeply",
                    t->name);
        return NULL;
    }
    t->fields = g_new0(StateTableField, count);
    return table_decode_fields(c, t, (unsigned)count, version, depth, error) ? g_steal_pointer(&t)
                                                                             : NULL;
}

StateTable *state_table_decode(StateCursor *c, uint16_t version, GError **error)
{
    return table_decode(c, version, 0, error);
}

bool state_table_matches(const StateTable *t, const StateDesc *desc, uint16_t version,
                         GError **error)
{
    unsigned i = 0;
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        if (f->type == STATE_PAD || f->since > version) {
            continue;
        }
        const StateTableField *s = i < t->count ? &t->fields[i] : NULL;
        if (s == NULL || strcmp(s->name, f->name) != 0 || s->type != f->type ||
            s->count != f->count || g_strcmp0(s->length, f->length) != 0) {
            g_set_error(
                error, STATE_ERROR, STATE_ERROR_FORMAT,
                "state of %s: in version %u field %u is %s, %s[%u]; the stream has %s, %s[%u]",
                desc->name, version, i, f->name, state_type_name(f->type), f->count,
                s != NULL ? s->name : "none", s != NULL ? state_type_name(s->type) : "",
                s != NULL ? s->count : 0);
            return false;
        }
        if (f->type == STATE_STRUCT && !state_table_matches(s->sub, f->sub, version, error)) {
            return false;
        }
        i++;
    }
    if (i != t->count) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state of %s: in version %u there is no field %s", desc->name, version,
                    t->fields[i].name);
        return false;
    }
    return true;
}

/* ---- values ---- */

static bool table_check_values(StateTableField *f, const uint8_t *data, uint32_t count,
                               GError **error)
{
    unsigned size = state_type_size(f->type);
    uint64_t max = f->type == STATE_BOOL ? 1 : f->max != 0 ? f->max : UINT64_MAX, value = 0;
    StateCursor c = {data, data + (size_t)size * count};
    for (uint32_t i = 0; f->type != STATE_BYTES && i < count; i++) {
        state_cursor_number(&c, size, &value);
        if (value > max) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                        "field %s is %" G_GUINT64_FORMAT ", more than %" G_GUINT64_FORMAT, f->name,
                        value, max);
            return false;
        }
        if (i == 0) {
            f->value = (uint32_t)value;
        }
    }
    return true;
}

static bool table_walk(StateTable *t, StateCursor *c, const StateVisitor *v, void *opaque,
                       GError **error);

static bool table_walk_structs(StateTableField *f, uint32_t count, StateCursor *c,
                               const StateVisitor *v, void *opaque, GError **error)
{
    if (v->begin != NULL) {
        v->begin(opaque, f, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (v->element != NULL) {
            v->element(opaque, f, i);
        }
        if (!table_walk(f->sub, c, v, opaque, error)) {
            return false;
        }
        if (v->element_end != NULL) {
            v->element_end(opaque, f);
        }
    }
    if (v->end != NULL) {
        v->end(opaque, f);
    }
    return true;
}

static bool table_walk(StateTable *t, StateCursor *c, const StateVisitor *v, void *opaque,
                       GError **error)
{
    for (unsigned i = 0; i < t->count; i++) {
        StateTableField *f = &t->fields[i];
        /* A length exceeds no count: it is a field with that maximum, and has been checked. */
        uint32_t count = f->length != NULL ? t->fields[f->length_index].value : f->count;
        if (f->type == STATE_STRUCT) {
            if (!table_walk_structs(f, count, c, v, opaque, error)) {
                return false;
            }
            continue;
        }
        const uint8_t *data = state_cursor_take(c, (size_t)state_type_size(f->type) * count);
        if (data == NULL) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "field %s is cut short", f->name);
            return false;
        }
        if (!table_check_values(f, data, count, error)) {
            return false;
        }
        if (v->values != NULL) {
            v->values(opaque, f, data, count);
        }
    }
    return true;
}

bool state_table_walk(StateTable *t, const uint8_t *payload, size_t size,
                      const StateVisitor *visitor, void *opaque, GError **error)
{
    StateCursor c = {payload, payload + size};
    if (!table_walk(t, &c, visitor, opaque, error)) {
        g_prefix_error(error, "state of %s: ", t->name);
        return false;
    }
    if (c.at != c.end) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "state of %s has %zu bytes too many",
                    t->name, (size_t)(c.end - c.at));
        return false;
    }
    return true;
}
