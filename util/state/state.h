/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State tables: one declaration from which device state is saved, loaded and checked.
 *
 * A device keeps what must survive in a nested struct `state`; its StateDesc lists every field of
 * it once. The stream is tagged and sized, little-endian, independent of the struct's layout:
 *
 *   +-------------+------+-------------+--------------------+------------------------------------+
 *   | name length | name | version u16 | payload length u32 | fields in table order, each with   |
 *   | u8          |      |             |                    | its elements; sub-tables in place  |
 *   +-------------+------+-------------+--------------------+------------------------------------+
 *
 * The payload's length follows from table and version, so a stream that says otherwise is refused
 * before a byte of it is read. `since` counts versions of the outermost table, also in sub-tables.
 *
 * No function here keeps state: any thread that may touch the object.
 */
#ifndef SKIFF_UTIL_STATE_STATE_H
#define SKIFF_UTIL_STATE_STATE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef enum StateType {
    STATE_END = 0,
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,   /* one byte; nothing but 0 and 1 loads */
    STATE_BYTES,  /* count bytes as they are */
    STATE_STRUCT, /* count elements described by sub */
    STATE_PAD,    /* unused bytes of the struct, not saved: names the gap for the coverage check */
} StateType;

typedef struct StateDesc StateDesc;
typedef struct StateField {
    const char *name;
    StateType type;
    uint32_t offset; /* into the state struct */
    uint32_t size;   /* of one element in the struct */
    uint32_t count;  /* elements; 1 for a scalar */
    /* Stream version that brought the field; older streams leave it as reset left it. */
    uint16_t since;
    uint64_t max; /* scalars: largest value that loads; 0: any */
    const StateDesc *sub;
} StateField;

struct StateDesc {
    const char *name;
    uint16_t version;       /* written */
    uint16_t min_version;   /* oldest that loads */
    uint32_t struct_offset; /* of the state struct in the object handed to state_save() */
    uint32_t struct_size;
    const StateField *fields;
    /* Cross-field checks after all fields were read into a scratch copy; the object is untouched
     * when it fails. Sub-tables' checks run on each of their elements. NULL: none. */
    bool (*check)(const void *state, GError **error);
};

/* Declaring a table:
 *   static const StateField uart_fields[] = { STATE_FIELD(UartState, STATE_U8, ier), ..., {0} };
 *   const StateDesc uart_state = STATE_DESC("uart16550", 1, Uart, state, UartState, uart_fields);
 */
#define STATE_FIELD(S, T, f)                                                                       \
    {                                                                                              \
        .name = #f, .type = (T), .offset = offsetof(S, f), .size = sizeof(((S *)0)->f), .count = 1 \
    }
#define STATE_FIELD_MAX(S, T, f, m)                                                                \
    {                                                                                              \
        .name = #f, .type = (T), .offset = offsetof(S, f), .size = sizeof(((S *)0)->f),            \
        .count = 1, .max = (m)                                                                     \
    }
#define STATE_FIELD_SINCE(S, T, f, v)                                                              \
    {                                                                                              \
        .name = #f, .type = (T), .offset = offsetof(S, f), .size = sizeof(((S *)0)->f),            \
        .count = 1, .since = (v)                                                                   \
    }
/* An explicit padding member, or one that is rebuilt on load. */
#define STATE_PADDING(S, f)                                                                        \
    {                                                                                              \
        .name = #f, .type = STATE_PAD, .offset = offsetof(S, f), .size = sizeof(((S *)0)->f),      \
        .count = 1                                                                                 \
    }
#define STATE_ARRAY(S, T, f)                                                                       \
    {                                                                                              \
        .name = #f, .type = (T), .offset = offsetof(S, f), .size = sizeof(((S *)0)->f[0]),         \
        .count = sizeof(((S *)0)->f) / sizeof(((S *)0)->f[0])                                      \
    }
#define STATE_STRUCTS(S, f, d)                                                                     \
    {                                                                                              \
        .name = #f, .type = STATE_STRUCT, .offset = offsetof(S, f),                                \
        .size = sizeof(((S *)0)->f[0]), .count = sizeof(((S *)0)->f) / sizeof(((S *)0)->f[0]),     \
        .sub = (d)                                                                                 \
    }
/* One nested struct (not an array of them). */
#define STATE_STRUCT_ONE(S, f, d)                                                                  \
    {                                                                                              \
        .name = #f, .type = STATE_STRUCT, .offset = offsetof(S, f), .size = sizeof(((S *)0)->f),   \
        .count = 1, .sub = (d)                                                                     \
    }
#define STATE_DESC(n, v, OBJ, member, S, t)                                                        \
    {                                                                                              \
        .name = (n), .version = (v), .min_version = 1, .struct_offset = offsetof(OBJ, member),     \
        .struct_size = sizeof(S), .fields = (t)                                                    \
    }

#define STATE_ERROR state_error_quark()
GQuark state_error_quark(void);
enum {
    STATE_ERROR_FORMAT,  /* cut short, lengths that lie, another device's state */
    STATE_ERROR_VERSION, /* too old or too new */
    STATE_ERROR_VALUE,   /* a field out of its range */
    STATE_ERROR_TABLE,   /* state_check_coverage(): the table is wrong */
};

/* Appends the state of @object to @out. */
void state_save(const StateDesc *desc, const void *object, GByteArray *out) ANY_THREAD;
/* Reads it back from @data; *@used tells how much was taken. The object changes only on success.
 * Hostile input is expected. */
bool state_load(const StateDesc *desc, void *object, const uint8_t *data, size_t size, size_t *used,
                GError **error) ANY_THREAD;
/* Every byte of the struct is covered exactly once and every scalar's size fits its type: false
 * names the gap or overlap. For tests. */
bool state_check_coverage(const StateDesc *desc, GError **error) ANY_THREAD;

#endif
