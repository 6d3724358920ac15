/* SPDX-License-Identifier: Apache-2.0 */
#include "util/state/state_stream.h"

#include <string.h>
#include "util/opts/opts.h"
#include "util/state/crc32c.h"
#include "util/state/state_stream_int.h"

/* A record whose CRC is right. */
typedef struct StateRecord {
    uint32_t kind, crc;
    StateCursor body;
} StateRecord;

static bool stream_wrong(GError **error, const char *what)
{
    g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "state stream: %s", what);
    return false;
}

bool state_text_is_valid(const char *value, size_t size)
{
    if (size > STATE_TEXT_MAX || !g_utf8_validate_len(value, size, NULL)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)value[i] < ' ' || value[i] == 0x7f) {
            return false;
        }
    }
    return true;
}

uint64_t state_stream_length(const uint8_t *prefix, size_t available, GError **error)
{
    StateCursor c = {prefix, prefix + available};
    uint64_t version, features, length, reserved, crc;
    const uint8_t *magic = state_cursor_take(&c, 8);
    if (magic == NULL || memcmp(magic, STATE_STREAM_MAGIC, 8) != 0) {
        return stream_wrong(error, "this is no saved state of skiff");
    }
    if (!state_cursor_number(&c, 4, &version) || !state_cursor_number(&c, 4, &features) ||
        !state_cursor_number(&c, 8, &length) || !state_cursor_number(&c, 4, &reserved) ||
        !state_cursor_number(&c, 4, &crc)) {
        return stream_wrong(error, "the prefix is cut short");
    }
    if (crc != crc32c(0, prefix, STATE_STREAM_PREFIX - 4)) {
        return stream_wrong(error, "the CRC of the prefix is wrong");
    }
    if (version != STATE_STREAM_VERSION) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VERSION,
                    "state stream: format version %" G_GUINT64_FORMAT "; version %u is supported",
                    version, STATE_STREAM_VERSION);
        return 0;
    }
    if (features != 0 || reserved != 0) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VERSION,
                    "state stream: features 0x%x are not supported",
                    (unsigned)(features | reserved));
        return 0;
    }
    if (length < STATE_STREAM_PREFIX || length > STATE_STREAM_MAX) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state stream: a length of %" G_GUINT64_FORMAT
                    " bytes; at most %u are supported",
                    length, STATE_STREAM_MAX);
        return 0;
    }
    return length;
}

/* The next record. */
static bool stream_take_record(StateCursor *c, StateRecord *r, GError **error)
{
    const uint8_t *start = c->at;
    uint64_t kind, length, crc;
    if (!state_cursor_number(c, 4, &kind) || !state_cursor_number(c, 4, &length)) {
        return stream_wrong(error, "it is cut short before its END");
    }
    r->body.at = length <= STATE_RECORD_MAX ? state_cursor_take(c, length) : NULL;
    if (r->body.at == NULL || !state_cursor_number(c, 4, &crc)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state stream: a record of %" G_GUINT64_FORMAT
                    " bytes is cut short or too long",
                    length);
        return false;
    }
    r->body.end = r->body.at + length;
    r->kind = (uint32_t)kind;
    r->crc = (uint32_t)crc;
    return crc == crc32c(0, start, 8 + length) ||
           stream_wrong(error, "the CRC of a record is wrong");
}

/* ---- HEAD ---- */

static void stream_text_free(void *text)
{
    StateText *t = text;
    g_free(t->name);
    g_free(t->value);
    g_free(t);
}

const char *state_stream_text(const StateStream *s, const char *name)
{
    for (unsigned i = 0; i < s->texts->len; i++) {
        const StateText *t = s->texts->pdata[i];
        if (strcmp(t->name, name) == 0) {
            return t->value;
        }
    }
    return NULL;
}

static bool stream_decode_head(StateStream *s, StateCursor c, GError **error)
{
    uint64_t count, size;
    if (!state_cursor_number(&c, 4, &count) || count > STATE_TEXT_LIMIT) {
        return stream_wrong(error, "HEAD has no number of texts, or too many");
    }
    for (uint64_t i = 0; i < count; i++) {
        g_autofree char *name = state_cursor_name(&c, false);
        const uint8_t *value = NULL;
        if (name != NULL && state_cursor_number(&c, 4, &size)) {
            value = state_cursor_take(&c, size);
        }
        if (value == NULL || !state_text_is_valid((const char *)value, size)) {
            return stream_wrong(error, "a text of HEAD is cut short or no text");
        }
        if (state_stream_text(s, name) != NULL) {
            return stream_wrong(error, "a text of HEAD comes twice");
        }
        StateText *t = g_new(StateText, 1);
        t->name = g_steal_pointer(&name);
        t->value = g_strndup((const char *)value, size);
        g_ptr_array_add(s->texts, t);
    }
    return c.at == c.end || stream_wrong(error, "HEAD has bytes too many");
}

/* ---- sections ---- */

static void stream_section_free(void *section)
{
    StateSection *x = section;
    g_free(x->instance);
    state_table_free(x->table);
    g_free(x);
}

static guint stream_section_hash(gconstpointer section)
{
    const StateSection *x = section;
    return g_str_hash(x->instance) * 31 + g_str_hash(x->table->name);
}

static gboolean stream_section_equal(gconstpointer a, gconstpointer b)
{
    const StateSection *x = a, *y = b;
    return strcmp(x->instance, y->instance) == 0 && strcmp(x->table->name, y->table->name) == 0;
}

static char *stream_take_instance(StateCursor *c)
{
    uint64_t size;
    if (!state_cursor_number(c, 2, &size) || size == 0 || size > STATE_INSTANCE_MAX) {
        return NULL;
    }
    const uint8_t *text = state_cursor_take(c, size);
    return text != NULL && state_text_is_name(text, size) ? g_strndup((const char *)text, size)
                                                          : NULL;
}

/* Finds the payload in the data that state_save() wrote. */
static bool stream_find_payload(StateSection *x, GError **error)
{
    StateCursor c = {x->data, x->data + x->size};
    g_autofree char *name = state_cursor_name(&c, false);
    uint64_t version, length;
    if (name == NULL || !state_cursor_number(&c, 2, &version) ||
        !state_cursor_number(&c, 4, &length) || strcmp(name, x->table->name) != 0 ||
        version != x->version || length != (size_t)(c.end - c.at)) {
        return stream_wrong(error, "the data has not the name, version and length of its section");
    }
    x->payload = c.at;
    x->payload_size = (uint32_t)length;
    return true;
}

/* Everything of a section but its place among the others. */
static bool stream_decode_body(StateSection *x, StateCursor c, uint64_t expected, GError **error)
{
    static const StateVisitor check = {0};
    uint64_t number, flags, version;
    if (!state_cursor_number(&c, 4, &number) || !state_cursor_number(&c, 4, &flags) ||
        number != expected) {
        return stream_wrong(error, "it is not the next section");
    }
    if ((flags & ~(uint64_t)STATE_SECTION_IGNORABLE) != 0) {
        return stream_wrong(error, "it has unknown flags");
    }
    x->flags = (unsigned)flags;
    x->instance = stream_take_instance(&c);
    if (x->instance == NULL || !state_cursor_number(&c, 2, &version) || version == 0) {
        return stream_wrong(error, "it has no instance or no version");
    }
    x->version = (uint16_t)version;
    x->table = state_table_decode(&c, x->version, error);
    if (x->table == NULL) {
        return false;
    }
    x->data = c.at;
    x->size = (uint32_t)(c.end - c.at);
    return stream_find_payload(x, error) &&
           state_table_walk(x->table, x->payload, x->payload_size, &check, NULL, error);
}

/* Whether the section may stand behind the newest one. */
static bool stream_check_place(const StateStream *s, const StateSection *x, GError **error)
{
    const char *slash = strchr(x->table->name, '/');
    if (slash == NULL) {
        return true;
    }
    if (s->sections->len > 0) {
        const StateSection *y = s->sections->pdata[s->sections->len - 1];
        size_t size = (size_t)(slash - x->table->name);
        if (strcmp(y->instance, x->instance) == 0 &&
            strncmp(y->table->name, x->table->name, size) == 0 &&
            (y->table->name[size] == '\0' || y->table->name[size] == '/')) {
            return true;
        }
    }
    return stream_wrong(error, "a subsection is not behind its section");
}

static bool stream_decode_section(StateStream *s, const StateRecord *r, GError **error)
{
    StateSection *x = g_new0(StateSection, 1);
    unsigned number = s->sections->len;
    x->crc = r->crc;
    bool ok = number < STATE_SECTION_LIMIT || stream_wrong(error, "there are too many sections");
    ok = ok && stream_decode_body(x, r->body, number, error) && stream_check_place(s, x, error);
    if (ok && g_hash_table_contains(s->index, x)) {
        ok = stream_wrong(error, "the section comes twice");
    }
    if (!ok) {
        g_prefix_error(error, "section %u (%s%s%s): ", number,
                       x->table != NULL ? x->table->name : "unknown",
                       x->instance != NULL ? " of " : "", x->instance != NULL ? x->instance : "");
        stream_section_free(x);
        return false;
    }
    g_hash_table_add(s->index, x);
    g_ptr_array_add(s->sections, x);
    return true;
}

/* ---- the stream ---- */

static bool stream_decode_end(const StateStream *s, StateCursor c, const StateCursor *rest,
                              GError **error)
{
    uint64_t count;
    if (!state_cursor_number(&c, 4, &count) || c.at != c.end || count != s->sections->len) {
        return stream_wrong(error, "the number of sections in END is wrong");
    }
    return rest->at == rest->end || stream_wrong(error, "there are bytes behind END");
}

static bool stream_decode_records(StateStream *s, StateCursor c, GError **error)
{
    StateRecord r;
    if (!stream_take_record(&c, &r, error)) {
        return false;
    }
    if (r.kind != STATE_RECORD_HEAD) {
        return stream_wrong(error, "the first record is not HEAD");
    }
    if (!stream_decode_head(s, r.body, error)) {
        return false;
    }
    for (;;) {
        if (!stream_take_record(&c, &r, error)) {
            return false;
        }
        if (r.kind == STATE_RECORD_END) {
            return stream_decode_end(s, r.body, &c, error);
        }
        if (r.kind != STATE_RECORD_SECTION) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                        "state stream: a record of kind 0x%08x where a section or END is expected",
                        r.kind);
            return false;
        }
        if (!stream_decode_section(s, &r, error)) {
            return false;
        }
    }
}

StateStream *state_stream_decode(const uint8_t *data, size_t size, GError **error)
{
    uint64_t length = state_stream_length(data, size, error);
    if (length == 0) {
        return NULL;
    }
    if (length > size) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state stream: it is cut short: %zu of %" G_GUINT64_FORMAT " bytes are there",
                    size, length);
        return NULL;
    }
    g_autoptr(StateStream) s = g_new0(StateStream, 1);
    s->texts = g_ptr_array_new_with_free_func(stream_text_free);
    s->sections = g_ptr_array_new_with_free_func(stream_section_free);
    s->index = g_hash_table_new(stream_section_hash, stream_section_equal);
    s->bytes = length;
    StateCursor c = {data + STATE_STREAM_PREFIX, data + length};
    return stream_decode_records(s, c, error) ? g_steal_pointer(&s) : NULL;
}

void state_stream_free(StateStream *s)
{
    if (s != NULL) {
        g_hash_table_unref(s->index);
        g_ptr_array_unref(s->texts);
        g_ptr_array_unref(s->sections);
        g_free(s);
    }
}

bool state_stream_expect(const StateStream *s, const char *name, const char *value, GError **error)
{
    const char *text = state_stream_text(s, name);
    if (text == NULL || strcmp(text, value) != 0) {
        g_autofree char *start = g_strndup(text != NULL ? text : "not in it", 200);
        g_autofree char *shown = opt_printable(start);
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                    "the state is another machine's: %s is %s, not %s", name, shown, value);
        return false;
    }
    return true;
}

/* ---- loading ---- */

StateSection *state_stream_find(const StateStream *s, const char *instance, const char *name)
{
    StateTable table = {.name = (char *)(uintptr_t)name};
    const StateSection key = {.instance = (char *)(uintptr_t)instance, .table = &table};
    return g_hash_table_lookup(s->index, &key);
}

const char *state_section_name(const StateSection *section)
{
    return section->table->name;
}

bool state_section_load(StateSection *section, const StateDesc *desc, void *object, GError **error)
{
    size_t used = 0;
    /* A version out of range gets the message of state_load(). */
    bool known = section->version >= desc->min_version && section->version <= desc->version;
    if ((known && !state_table_matches(section->table, desc, section->version, error)) ||
        !state_load(desc, object, section->data, section->size, &used, error)) {
        g_prefix_error(error, "%s: ", section->instance);
        return false;
    }
    section->taken = true;
    return true;
}

bool state_stream_load(StateStream *s, const char *instance, const StateDesc *desc, void *object,
                       bool optional, GError **error)
{
    StateSection *section = state_stream_find(s, instance, desc->name);
    if (section != NULL) {
        return state_section_load(section, desc, object, error);
    }
    if (!optional) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE, "%s: the state has no section %s",
                    instance, desc->name);
    }
    return optional;
}

bool state_stream_all_taken(const StateStream *s, GError **error)
{
    for (unsigned i = 0; i < s->sections->len; i++) {
        const StateSection *x = s->sections->pdata[i];
        if (!x->taken && !(x->flags & STATE_SECTION_IGNORABLE)) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "the state has a section %s of %s, which this machine does not have",
                        x->table->name, x->instance);
            return false;
        }
    }
    return true;
}
