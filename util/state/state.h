/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State tables: one declaration from which device state is saved, loaded and checked.
 *
 * A device keeps the state to save in a nested struct `state`; its StateDesc lists each field of it
 * once. The stream is tagged and sized, little-endian, independent of the struct's layout:
 *
 *   +-------------+------+-------------+--------------------+------------------------------------+
 *   | name length | name | version u16 | payload length u32 | fields in table order, each with   |
 *   | u8          |      |             |                    | its elements; sub-tables in place  |
 *   +-------------+------+-------------+--------------------+------------------------------------+
 *
 * The payload's length follows from the table and the version; a stream with another length is
 * refused before its payload is read. A table with variable arrays (STATE_VAR_ARRAY) has a smallest
 * and a largest length, and the numbers of elements must add up to the length. `since` counts
 * versions of the outermost table, also in sub-tables.
 * The functions keep no state: any thread that may access the object.
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
    STATE_BOOL,   /* one byte; only 0 and 1 are accepted */
    STATE_BYTES,  /* count raw bytes */
    STATE_STRUCT, /* count elements described by sub */
    STATE_PAD, /* unused bytes of the struct, not saved: declares the gap for the coverage check */
} StateType;

typedef struct StateDesc StateDesc;
typedef struct StateField {
    const char *name;
    StateType type;
    uint32_t offset; /* into the state struct */
    uint32_t size;   /* of one element in the struct */
    uint32_t count;  /* elements; 1 for a scalar; the most that a variable array can have */
    /* Stream version that added the field; older streams leave the field at its reset value. */
    uint16_t since;
    uint64_t max; /* scalars: largest accepted value; 0: no limit */
    const StateDesc *sub;
    /* A variable array: the earlier STATE_U32 field of the same table whose value is the number of
     * elements in the stream. Loading zeroes the other elements. NULL: all elements are. */
    const char *length;
    uint32_t length_offset; /* of that field in the struct */
} StateField;

struct StateDesc {
    const char *name;
    uint16_t version;       /* version written */
    uint16_t min_version;   /* oldest version accepted */
    uint32_t struct_offset; /* of the state struct in the object passed to state_save() */
    uint32_t struct_size;
    const StateField *fields;
    /* Cross-field checks after all fields were read into a scratch copy; the object is not changed
     * when they fail. Checks of sub-tables run on each of their elements. May be NULL. */
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
/* An explicit padding member, or a member that is rebuilt on load. */
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
/* The first @n elements of the array @f. Behind STATE_FIELD_MAX(S, STATE_U32, n, <elements of f>). */
#define STATE_VAR_ARRAY(S, T, f, n)                                                                \
    {                                                                                              \
        .name = #f, .type = (T), .offset = offsetof(S, f), .size = sizeof(((S *)0)->f[0]),         \
        .count = sizeof(((S *)0)->f) / sizeof(((S *)0)->f[0]), .length = #n,                       \
        .length_offset = offsetof(S, n)                                                            \
    }
#define STATE_VAR_STRUCTS(S, f, n, d)                                                              \
    {                                                                                              \
        .name = #f, .type = STATE_STRUCT, .offset = offsetof(S, f),                                \
        .size = sizeof(((S *)0)->f[0]), .count = sizeof(((S *)0)->f) / sizeof(((S *)0)->f[0]),     \
        .sub = (d), .length = #n, .length_offset = offsetof(S, n)                                  \
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
    STATE_ERROR_FORMAT,  /* cut short, wrong lengths, another device's state */
    STATE_ERROR_VERSION, /* too old or too new */
    STATE_ERROR_VALUE,   /* a field is out of range */
    STATE_ERROR_TABLE,   /* state_check_coverage(): the table is wrong */
    STATE_ERROR_MACHINE, /* the stream belongs to another machine */
};

/* Appends the state of @object to @out. No variable array has more elements than it has room for. */
void state_save(const StateDesc *desc, const void *object, GByteArray *out) ANY_THREAD;
/* Loads it from @data; *@used is the number of bytes consumed. The object changes only on success.
 * @data is untrusted. */
bool state_load(const StateDesc *desc, void *object, const uint8_t *data, size_t size, size_t *used,
                GError **error) ANY_THREAD;
/* Checks that every byte of the struct is covered exactly once and every scalar's size fits its
 * type: false names the gap or overlap. For tests. */
bool state_check_coverage(const StateDesc *desc, GError **error) ANY_THREAD;

#endif
