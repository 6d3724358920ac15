/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The description of a state table in a state stream, and the values that it describes. For state_stream.c
 * and state_print.c.
 *
 * Invariants of a decoded table
 *   1. It has a field, and no two fields of one name. Tables nest at most STATE_TABLE_DEPTH deep.
 *   2. A field has at least one element, or is a variable array whose length is an earlier field. So each
 *      element in a payload has a byte at least, and a walk ends within the payload.
 */
#ifndef SKIFF_UTIL_STATE_STATE_TABLE_H
#define SKIFF_UTIL_STATE_STATE_TABLE_H

#include "util/state/state_stream.h"

#define STATE_TABLE_DEPTH 8u

/* A range of bytes, read from its front. Nothing is read past the end. */
typedef struct StateCursor {
    const uint8_t *at, *end;
} StateCursor;
/* The next @n bytes, or NULL if there are fewer. */
const uint8_t *state_cursor_take(StateCursor *c, size_t n) ANY_THREAD;
/* The next little-endian number of @size bytes. False: there are fewer. */
bool state_cursor_number(StateCursor *c, unsigned size, uint64_t *value) ANY_THREAD;
/* A name: its length (1 to STATE_NAME_MAX; @may_be_empty: from 0) in a byte, and that many characters from
 * '!' to '~'. NULL: it is none. */
char *state_cursor_name(StateCursor *c, bool may_be_empty) ANY_THREAD;
/* Whether @text consists of characters from '!' to '~'. */
bool state_text_is_name(const uint8_t *text, size_t size) ANY_THREAD;
/* Appends a little-endian number of @size bytes. */
void state_append_number(GByteArray *out, uint64_t value, unsigned size) ANY_THREAD;
/* Appends a name with its length. NULL: an empty one. */
void state_append_name(GByteArray *out, const char *name) ANY_THREAD;

typedef struct StateTableField {
    char *name;
    StateType type;
    uint32_t count; /* elements; the most of a variable array */
    uint16_t since;
    uint64_t max;          /* 0: no limit */
    char *length;          /* name of the field with the number of elements, or NULL */
    unsigned length_index; /* of that field */
    StateTable *sub;       /* of STATE_STRUCT */
    uint32_t value;        /* during a walk: the first element, if a variable array may need it */
} StateTableField;

struct StateTable {
    char *name;
    StateTableField *fields;
    unsigned count;
};

/* Appends the description of @desc. */
void state_table_encode(const StateDesc *desc, GByteArray *out) ANY_THREAD;
/* Decodes a description of version @version. NULL + error: it is wrong. */
StateTable *state_table_decode(StateCursor *c, uint16_t version, GError **error) ANY_THREAD;
void state_table_free(StateTable *t) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StateTable, state_table_free)
/* Whether @t is the table @desc of version @version. Maximums may differ. */
bool state_table_matches(const StateTable *t, const StateDesc *desc, uint16_t version,
                         GError **error) ANY_THREAD;
/* Bytes of an element of a scalar type or STATE_BYTES. */
unsigned state_type_size(StateType type) ANY_THREAD;
const char *state_type_name(StateType type) ANY_THREAD;

/* Called for each field of a payload, in order. Each may be NULL. */
typedef struct StateVisitor {
    /* All @count elements of a field that is no STATE_STRUCT. */
    void (*values)(void *opaque, const StateTableField *f, const uint8_t *data, uint32_t count);
    /* Before and after the elements of a STATE_STRUCT, of which there are @count; and each element. */
    void (*begin)(void *opaque, const StateTableField *f, uint32_t count);
    void (*element)(void *opaque, const StateTableField *f, uint32_t index);
    void (*element_end)(void *opaque, const StateTableField *f);
    void (*end)(void *opaque, const StateTableField *f);
} StateVisitor;
/* Walks through a payload and checks it. False + error: the values do not fit the table. */
bool state_table_walk(StateTable *t, const uint8_t *payload, size_t size,
                      const StateVisitor *visitor, void *opaque, GError **error) ANY_THREAD;

#endif
