/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: `key=value,...` strings and JSON objects, parsed into an OptDict and bound to structs by
 * tables.
 *
 *   key=value          comma in a value is written `,,`
 *   key                boolean true (also `key=on|off|yes|no|true|false`); "nokey" is not a
 * spelling a.b=c              nests, as in QEMU: {"a":{"b":"c"}}
 *   {"key": value}     JSON, when the string begins with `{`
 *   first value without a key goes to @implied_key (`-device virtio-blk-pci,drive=x`)
 */
#ifndef SKIFF_UTIL_OPTS_H
#define SKIFF_UTIL_OPTS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include "util/thread.h"

typedef struct OptDict OptDict;

typedef enum OptType {
    OPT_END = 0, /* ends a table */
    OPT_STRING,  /* char *, g_malloc'd, owned by the struct */
    OPT_BOOL,    /* bool */
    OPT_U8,
    OPT_U16,
    OPT_U32,
    OPT_U64,     /* decimal, 0x hex; bounded by min/max */
    OPT_SIZE,    /* uint64_t bytes; suffix k M G T (powers of 1024), default_unit when none */
    OPT_ENUM,    /* int; values: names[] is NULL-terminated, index is the value */
    OPT_DICT,    /* OptDict *, a nested object (owned) */
    OPT_STRLIST, /* GPtrArray of char *: a JSON array, or a repeated key */
} OptType;

typedef struct OptSpec {
    const char *name;
    OptType type;
    size_t offset;            /* into the target struct */
    const char *help;         /* one line, for `help` */
    const char *def;          /* default in the same spelling as the user's; NULL: zero/NULL */
    uint64_t min, max;        /* for numbers and sizes; max 0: the type's */
    uint64_t default_unit;    /* OPT_SIZE: bytes per unit when no suffix; 0 is 1 */
    const char *const *names; /* OPT_ENUM */
    bool required;
} OptSpec;

#define OPT_ERROR opt_error_quark()
GQuark opt_error_quark(void);
enum {
    OPT_ERROR_SYNTAX,
    OPT_ERROR_UNKNOWN,
    OPT_ERROR_VALUE,
    OPT_ERROR_MISSING,
    OPT_ERROR_DUPLICATE
};

/* Parses either form. NULL + error that quotes the offending part. */
OptDict *opt_dict_parse(const char *text, const char *implied_key, GError **error) ANY_THREAD;
OptDict *opt_dict_new(void) ANY_THREAD;
void opt_dict_free(OptDict *d) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OptDict, opt_dict_free)
OptDict *opt_dict_copy(const OptDict *d) ANY_THREAD;
/* Borrowed; NULL when absent or not a scalar. Numbers and booleans from JSON come as their text. */
const char *opt_dict_get(const OptDict *d, const char *key) ANY_THREAD;
bool opt_dict_has(const OptDict *d, const char *key) ANY_THREAD;
OptDict *opt_dict_get_dict(const OptDict *d, const char *key) ANY_THREAD; /* borrowed or NULL */
void opt_dict_set(OptDict *d, const char *key, const char *value) ANY_THREAD;
/* Removes and returns (owned) a scalar; NULL when absent. */
char *opt_dict_take(OptDict *d, const char *key) ANY_THREAD;
OptDict *opt_dict_take_dict(OptDict *d, const char *key) ANY_THREAD;
unsigned opt_dict_count(const OptDict *d) ANY_THREAD;

/* Sets every field of @specs in @target to its default. */
void opts_init(const OptSpec *specs, void *target) ANY_THREAD;
/* Binds @d; every key must be known to @specs. @what ("-drive", "-device virtio-blk-pci") begins
 * the error's text, which says what is wrong and what would be accepted (nearest known key, range,
 * names). On error @target is freed of strings already set, as opts_clear(). */
bool opts_bind(const OptSpec *specs, void *target, const OptDict *d, const char *what,
               GError **error) ANY_THREAD;
/* Frees strings, dicts, lists. */
void opts_clear(const OptSpec *specs, void *target) ANY_THREAD;
/* One line per option: name=<type> - help (default: x). */
void opts_print_help(const OptSpec *specs, FILE *out) ANY_THREAD;

bool opt_parse_size(const char *text, uint64_t default_unit, uint64_t *bytes, GError **error)
    ANY_THREAD;
bool opt_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value, GError **error)
    ANY_THREAD;
bool opt_parse_bool(const char *text, bool *value, GError **error) ANY_THREAD;
/* The known name nearest to @name by edit distance, or NULL when none is near. @names is
 * NULL-terminated. */
const char *opt_nearest(const char *name, const char *const *names) ANY_THREAD;

#endif
