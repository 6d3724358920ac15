/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/state/state.h"

/* Maximum nesting of tables; deeper nesting is a bug (a table that contains itself). */
#define STATE_MAX_DEPTH 8

/* ---- little-endian scalars ---- */

static uint64_t state_get_scalar(const void *field, uint32_t size)
{
    switch (size) {
    case 1:
        return *(const uint8_t *)field;
    case 2:
        return *(const uint16_t *)field;
    case 4:
        return *(const uint32_t *)field;
    case 8:
        return *(const uint64_t *)field;
    }
    g_assert_not_reached();
}

static void state_set_scalar(void *field, uint32_t size, uint64_t value)
{
    switch (size) {
    case 1:
        *(uint8_t *)field = (uint8_t)value;
        return;
    case 2:
        *(uint16_t *)field = (uint16_t)value;
        return;
    case 4:
        *(uint32_t *)field = (uint32_t)value;
        return;
    case 8:
        *(uint64_t *)field = value;
        return;
    }
    g_assert_not_reached();
}

static void state_put_le(GByteArray *out, uint64_t value, uint32_t size)
{
    uint8_t bytes[8];

    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    g_byte_array_append(out, bytes, size);
}

static uint64_t state_get_le(const uint8_t *bytes, uint32_t size)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < size; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

/* ---- saving ---- */

static void state_save_fields(const StateDesc *desc, const uint8_t *base, GByteArray *out);

static void state_save_element(const StateField *f, const uint8_t *element, GByteArray *out)
{
    switch (f->type) {
    case STATE_U8:
    case STATE_U16:
    case STATE_U32:
    case STATE_U64:
        state_put_le(out, state_get_scalar(element, f->size), f->size);
        return;
    case STATE_BOOL:
        state_put_le(out, *(const bool *)element, 1);
        return;
    case STATE_BYTES:
        g_byte_array_append(out, element, 1);
        return;
    case STATE_STRUCT:
        state_save_fields(f->sub, element, out);
        return;
    case STATE_PAD:
    case STATE_END:
        return;
    }
    g_assert_not_reached();
}

/* The number of elements of @f that are in the stream. */
static uint32_t state_elements(const StateField *f, const uint8_t *base)
{
    uint32_t used = f->count;

    if (f->length) {
        memcpy(&used, base + f->length_offset, sizeof(used));
        g_assert(used <= f->count); /* also when loading: the table's maximum was checked */
    }
    return used;
}

static void state_save_fields(const StateDesc *desc, const uint8_t *base, GByteArray *out)
{
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        uint32_t elements = state_elements(f, base);

        if (f->type == STATE_BYTES) {
            g_byte_array_append(out, base + f->offset, elements);
            continue;
        }
        for (uint32_t i = 0; i < elements; i++) {
            state_save_element(f, base + f->offset + (size_t)i * f->size, out);
        }
    }
}

void state_save(const StateDesc *desc, const void *object, GByteArray *out)
{
    size_t name_length = strlen(desc->name);
    guint length_at, payload_at;
    uint32_t payload;

    g_assert(name_length <= UINT8_MAX);
    state_put_le(out, name_length, 1);
    g_byte_array_append(out, (const guint8 *)desc->name, (guint)name_length);
    state_put_le(out, desc->version, 2);
    length_at = out->len;
    state_put_le(out, 0, 4);
    payload_at = out->len;
    state_save_fields(desc, (const uint8_t *)object + desc->struct_offset, out);
    payload = out->len - payload_at;
    for (unsigned i = 0; i < 4; i++) {
        out->data[length_at + i] = (uint8_t)(payload >> (8 * i));
    }
}

/* ---- loading ---- */

/* The bytes of @desc in version @version of the stream: with no element in each variable array, and
 * with all of them. */
typedef struct StateSize {
    uint64_t min, max;
} StateSize;

static StateSize state_payload_size(const StateDesc *desc, uint16_t version)
{
    StateSize size = {0, 0};

    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        StateSize element = {f->size, f->size};

        if (f->type == STATE_PAD || f->since > version) {
            continue;
        }
        if (f->type == STATE_STRUCT) {
            element = state_payload_size(f->sub, version);
        }
        size.min += f->length ? 0 : element.min * f->count;
        size.max += element.max * f->count;
    }
    return size;
}

/* A cursor over a payload. */
typedef struct StateReader {
    const uint8_t *at, *end;
    uint16_t version;
    const char *name; /* of the outermost table, for messages */
} StateReader;

/* Whether @size more bytes are there: always, unless variable arrays took more than there are. */
static bool state_reader_has(const StateReader *in, const StateField *f, uint64_t size,
                             GError **error)
{
    if ((uint64_t)(in->end - in->at) >= size) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "state of %s is cut short at %s", in->name,
                f->name);
    return false;
}

static bool state_load_fields(const StateDesc *desc, uint8_t *base, StateReader *in,
                              GError **error);

static bool state_load_scalar(const StateField *f, uint8_t *element, StateReader *in,
                              GError **error)
{
    uint64_t value;
    uint64_t max = f->type == STATE_BOOL ? 1 : f->max ? f->max : UINT64_MAX;

    if (!state_reader_has(in, f, f->size, error)) {
        return false;
    }
    value = state_get_le(in->at, f->size);
    in->at += f->size;
    if (value > max) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VALUE,
                    "state of %s: %s is %" G_GUINT64_FORMAT ", more than %" G_GUINT64_FORMAT,
                    in->name, f->name, value, max);
        return false;
    }
    if (f->type == STATE_BOOL) {
        *(bool *)element = value == 1;
    } else {
        state_set_scalar(element, f->size, value);
    }
    return true;
}

static bool state_load_field(const StateField *f, uint8_t *base, StateReader *in, GError **error)
{
    uint32_t elements = state_elements(f, base);

    memset(base + f->offset + (size_t)elements * f->size, 0,
           (size_t)(f->count - elements) * f->size);
    if (f->type == STATE_BYTES) {
        if (!state_reader_has(in, f, elements, error)) {
            return false;
        }
        memcpy(base + f->offset, in->at, elements);
        in->at += elements;
        return true;
    }
    for (uint32_t i = 0; i < elements; i++) {
        uint8_t *element = base + f->offset + (size_t)i * f->size;

        if (f->type == STATE_STRUCT ? !state_load_fields(f->sub, element, in, error)
                                    : !state_load_scalar(f, element, in, error)) {
            return false;
        }
    }
    return true;
}

static bool state_load_fields(const StateDesc *desc, uint8_t *base, StateReader *in, GError **error)
{
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        if (f->type == STATE_PAD || f->since > in->version) {
            continue;
        }
        if (!state_load_field(f, base, in, error)) {
            return false;
        }
    }
    if (desc->check && !desc->check(base, error)) {
        g_prefix_error(error, "state of %s: ", in->name);
        return false;
    }
    return true;
}

/* Reads name, version and length. *@payload to *@end is inside @data. */
static bool state_load_header(const StateDesc *desc, const uint8_t *data, size_t size,
                              uint16_t *version, const uint8_t **payload, const uint8_t **end,
                              GError **error)
{
    size_t name_length = strlen(desc->name);
    StateSize expected;
    uint64_t length;

    if (size < 1 || data[0] != name_length || size < 1 + name_length ||
        memcmp(data + 1, desc->name, name_length)) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state of %s expected, but the stream has another name", desc->name);
        return false;
    }
    data += 1 + name_length;
    size -= 1 + name_length;
    if (size < 6) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "state of %s is cut short", desc->name);
        return false;
    }
    *version = (uint16_t)state_get_le(data, 2);
    if (*version < desc->min_version || *version > desc->version) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_VERSION,
                    "state of %s is version %u; versions %u to %u are supported", desc->name,
                    *version, desc->min_version, desc->version);
        return false;
    }
    length = state_get_le(data + 2, 4);
    expected = state_payload_size(desc, *version);
    if (length < expected.min || length > expected.max || length > size - 6) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "state of %s: version %u has %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT
                    " bytes, the stream says %" G_GUINT64_FORMAT " and has %zu",
                    desc->name, *version, expected.min, expected.max, length, size - 6);
        return false;
    }
    *payload = data + 6;
    *end = *payload + length;
    return true;
}

bool state_load(const StateDesc *desc, void *object, const uint8_t *data, size_t size, size_t *used,
                GError **error)
{
    uint8_t *state = (uint8_t *)object + desc->struct_offset;
    g_autofree uint8_t *scratch = NULL;
    StateReader in = {.name = desc->name};

    if (!state_load_header(desc, data, size, &in.version, &in.at, &in.end, error)) {
        return false;
    }
    scratch = g_memdup2(state, desc->struct_size);
    if (!state_load_fields(desc, scratch, &in, error)) {
        return false;
    }
    if (in.at != in.end) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT, "state of %s has %zu bytes too many",
                    desc->name, (size_t)(in.end - in.at));
        return false;
    }
    memcpy(state, scratch, desc->struct_size);
    *used = (size_t)(in.at - data);
    return true;
}

/* ---- checking a table ---- */

static bool state_scalar_size_fits(const StateField *f)
{
    switch (f->type) {
    case STATE_U8:
    case STATE_BYTES:
        return f->size == 1;
    case STATE_U16:
        return f->size == 2;
    case STATE_U32:
        return f->size == 4;
    case STATE_U64:
        return f->size == 8;
    case STATE_BOOL:
        return f->size == sizeof(bool);
    case STATE_STRUCT:
        return f->sub && f->size == f->sub->struct_size;
    case STATE_PAD:
        return true;
    case STATE_END:
        break;
    }
    return false;
}

/* Whether the number of elements of @f is a field before it, with the right limit. */
static bool state_length_is_field(const StateDesc *desc, const StateField *f)
{
    for (const StateField *n = desc->fields; n != f; n++) {
        if (n->name && g_str_equal(n->name, f->length)) {
            return n->type == STATE_U32 && n->count == 1 && n->offset == f->length_offset &&
                   n->max == f->count && n->since == f->since;
        }
    }
    return false;
}

static bool state_check_desc(const StateDesc *desc, uint16_t version, unsigned depth,
                             GError **error);

static bool state_check_field(const StateDesc *desc, const StateField *f, uint16_t version,
                              unsigned depth, GError **error)
{
    const char *wrong = NULL;

    if (!f->name) {
        wrong = "has no name";
    } else if (!state_scalar_size_fits(f)) {
        wrong = "has a size in the struct that differs from its type";
    } else if (f->count == 0) {
        wrong = "has no elements";
    } else if (f->size < 8 && f->max >> (8 * f->size)) {
        wrong = "has a maximum that exceeds its type";
    } else if (f->since > version) {
        wrong = "has `since` above the written version";
    } else if (f->length && (f->type == STATE_PAD || !state_length_is_field(desc, f))) {
        wrong = "has no length: a STATE_U32 before it, with as many elements as maximum and its "
                "`since`";
    }
    if (wrong) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE, "%s: field %s %s", desc->name,
                    f->name ? f->name : "(null)", wrong);
        return false;
    }
    return f->type != STATE_STRUCT || state_check_desc(f->sub, version, depth + 1, error);
}

/* Marks the bytes of each field in @covered; finds bytes marked twice or past the end. */
static bool state_check_overlap(const StateDesc *desc, uint8_t *covered, GError **error)
{
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        uint64_t end = f->offset + (uint64_t)f->size * f->count;

        if (end > desc->struct_size) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE,
                        "%s: field %s ends at byte %" G_GUINT64_FORMAT " of %u", desc->name,
                        f->name, end, desc->struct_size);
            return false;
        }
        for (uint64_t i = f->offset; i < end; i++) {
            if (covered[i]++) {
                g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE,
                            "%s: field %s overlaps another at byte %" G_GUINT64_FORMAT, desc->name,
                            f->name, i);
                return false;
            }
        }
    }
    return true;
}

static bool state_check_desc(const StateDesc *desc, uint16_t version, unsigned depth,
                             GError **error)
{
    g_autofree uint8_t *covered = g_malloc0(desc->struct_size + 1);
    const char *before = "the start";
    uint64_t before_end = 0;

    if (depth > STATE_MAX_DEPTH) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE, "%s: tables nest too deeply",
                    desc->name);
        return false;
    }
    for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
        if (!state_check_field(desc, f, version, depth, error)) {
            return false;
        }
    }
    if (!state_check_overlap(desc, covered, error)) {
        return false;
    }
    for (uint32_t gap = 0; gap < desc->struct_size; gap++) {
        if (covered[gap]) {
            continue;
        }
        for (const StateField *f = desc->fields; f->type != STATE_END; f++) {
            uint64_t end = f->offset + (uint64_t)f->size * f->count;

            if (end <= gap && end > before_end) {
                before = f->name;
                before_end = end;
            }
        }
        g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE,
                    "%s: byte %u of %u, behind %s, is in no field", desc->name, gap,
                    desc->struct_size, before);
        return false;
    }
    return true;
}

bool state_check_coverage(const StateDesc *desc, GError **error)
{
    if (!desc->name || !*desc->name || strlen(desc->name) > UINT8_MAX) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE, "a table's name has 1 to 255 bytes");
        return false;
    }
    if (desc->min_version == 0 || desc->min_version > desc->version) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_TABLE,
                    "%s: versions %u to %u are accepted, but not the one written", desc->name,
                    desc->min_version, desc->version);
        return false;
    }
    return state_check_desc(desc, desc->version, 0, error);
}

GQuark state_error_quark(void)
{
    return g_quark_from_static_string("skiff-state");
}
