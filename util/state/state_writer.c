/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/state/crc32c.h"
#include "util/state/state_stream_int.h"

struct StateWriter {
    GByteArray *out;
    GByteArray *head; /* body of HEAD; NULL once it is in @out */
    GHashTable *keys; /* names of texts, "INSTANCE NAME" of sections */
    char *parent;     /* "INSTANCE TABLE/" of the newest section that is no subsection */
    unsigned texts, sections;
};

StateWriter *state_writer_new(void)
{
    StateWriter *w = g_new0(StateWriter, 1);
    w->out = g_byte_array_new();
    w->head = g_byte_array_new();
    w->keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    w->parent = g_strdup("");
    g_byte_array_set_size(w->out, STATE_STREAM_PREFIX);
    memset(w->out->data, 0, STATE_STREAM_PREFIX);
    state_append_number(w->head, 0, 4);
    return w;
}

void state_writer_free(StateWriter *w)
{
    if (w == NULL) {
        return;
    }
    g_clear_pointer(&w->out, g_byte_array_unref);
    g_clear_pointer(&w->head, g_byte_array_unref);
    g_hash_table_unref(w->keys);
    g_free(w->parent);
    g_free(w);
}

static void writer_record(StateWriter *w, uint32_t kind, const GByteArray *body)
{
    guint at = w->out->len;
    state_append_number(w->out, kind, 4);
    state_append_number(w->out, body->len, 4);
    g_byte_array_append(w->out, body->data, body->len);
    state_append_number(w->out, crc32c(0, w->out->data + at, w->out->len - at), 4);
}

static bool writer_add(StateWriter *w, uint32_t kind, const GByteArray *body, GError **error)
{
    /* Room for END is kept. */
    if (body->len > STATE_RECORD_MAX || w->out->len + body->len > STATE_STREAM_MAX - 4096) {
        g_set_error(
            error, STATE_ERROR, STATE_ERROR_VALUE,
            "a part of the machine's state has %u bytes; a section may have %u, all together %u",
            body->len, STATE_RECORD_MAX, STATE_STREAM_MAX);
        return false;
    }
    writer_record(w, kind, body);
    return true;
}

static bool writer_end_head(StateWriter *w, GError **error)
{
    g_autoptr(GByteArray) head = g_steal_pointer(&w->head);
    if (head == NULL) {
        return true;
    }
    for (unsigned i = 0; i < 4; i++) {
        head->data[i] = (uint8_t)(w->texts >> (8 * i));
    }
    return writer_add(w, STATE_RECORD_HEAD, head, error);
}

bool state_writer_text(StateWriter *w, const char *name, const char *value, GError **error)
{
    size_t size = strlen(value);
    g_assert(w->head != NULL && w->texts < STATE_TEXT_LIMIT);
    g_assert(g_hash_table_add(w->keys, g_strdup(name)));
    if (!state_text_is_valid(value, size)) {
        g_set_error(
            error, STATE_ERROR, STATE_ERROR_VALUE,
            "%s of the machine is no UTF-8 text without control characters of at most %u bytes",
            name, STATE_TEXT_MAX);
        return false;
    }
    w->texts++;
    state_append_name(w->head, name);
    state_append_number(w->head, size, 4);
    g_byte_array_append(w->head, (const uint8_t *)value, (guint)size);
    return true;
}

/* A subsection has to follow its section; each section occurs once. */
static void writer_check_order(StateWriter *w, const char *instance, const StateDesc *desc)
{
    char *key = g_strdup_printf("%s %s", instance, desc->name);
    if (strchr(desc->name, '/') != NULL) {
        g_assert(g_str_has_prefix(key, w->parent));
    } else {
        g_free(w->parent);
        w->parent = g_strdup_printf("%s/", key);
    }
    g_assert(g_hash_table_add(w->keys, key));
}

bool state_writer_section(StateWriter *w, const char *instance, const StateDesc *desc,
                          const void *object, unsigned flags, GError **error)
{
    size_t size = strlen(instance);
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_assert(size > 0 && size <= STATE_INSTANCE_MAX &&
             state_text_is_name((const uint8_t *)instance, size));
    if (!writer_end_head(w, error)) {
        return false;
    }
    if (w->sections == STATE_SECTION_LIMIT) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "the machine's state has more than %u sections", STATE_SECTION_LIMIT);
        return false;
    }
    writer_check_order(w, instance, desc);
    state_append_number(body, w->sections, 4);
    state_append_number(body, flags, 4);
    state_append_number(body, size, 2);
    g_byte_array_append(body, (const uint8_t *)instance, (guint)size);
    state_append_number(body, desc->version, 2);
    state_table_encode(desc, body);
    state_save(desc, object, body);
    if (!writer_add(w, STATE_RECORD_SECTION, body, error)) {
        return false;
    }
    w->sections++;
    return true;
}

GByteArray *state_writer_end(StateWriter *w, GError **error)
{
    g_autoptr(GByteArray) body = g_byte_array_new();
    g_autoptr(GByteArray) prefix = g_byte_array_new();
    if (!writer_end_head(w, error)) {
        return NULL;
    }
    state_append_number(body, w->sections, 4);
    writer_record(w, STATE_RECORD_END, body);
    g_byte_array_append(prefix, (const uint8_t *)STATE_STREAM_MAGIC, 8);
    state_append_number(prefix, STATE_STREAM_VERSION, 4);
    state_append_number(prefix, 0, 4); /* features */
    state_append_number(prefix, w->out->len, 8);
    state_append_number(prefix, 0, 4);
    state_append_number(prefix, crc32c(0, prefix->data, prefix->len), 4);
    g_assert(prefix->len == STATE_STREAM_PREFIX);
    memcpy(w->out->data, prefix->data, STATE_STREAM_PREFIX);
    return g_steal_pointer(&w->out);
}
