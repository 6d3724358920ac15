/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options: `key=value,...` strings and JSON objects, parsed into an OptDict and bound to structs by
 * tables.
 *
 *   key=value          `,,` in a value stands for a comma
 *   key                boolean true (also `key=on|off|yes|no|true|false`); there is no "nokey"
 *   a.b=c              nests, as in QEMU: {"a": {"b": "c"}}
 *   {"key": value}     JSON, when the string begins with `{`
 *
 * The first value without a key goes to the implied key (`-device virtio-blk-pci,drive=x`). A comma
 * at the end is ignored. opts_bind() refuses a repeated key unless the table declares it as
 * OPT_STRLIST. Where a function or a table takes a key, "a.b" means key b of the dict at a.
 *
 * The functions keep no state: they may run in any thread; a dict is used by one thread at a time.
 */
#ifndef SKIFF_UTIL_OPTS_OPTS_H
#define SKIFF_UTIL_OPTS_OPTS_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include "util/loop/thread.h"

typedef struct OptDict OptDict;

typedef enum OptType {
    OPT_END = 0, /* ends a table */
    OPT_STRING,  /* char *, g_malloc'd, owned by the struct */
    OPT_BOOL,    /* bool */
    OPT_U8,
    OPT_U16,
    OPT_U32,
    OPT_U64,     /* decimal (also with leading zeros), 0x hex; bounded by min/max */
    OPT_SIZE,    /* uint64_t bytes; suffix k M G T (powers of 1024), default_unit when none; 1.5G */
    OPT_ENUM,    /* int; values: names[] is NULL-terminated, index is the value */
    OPT_DICT,    /* OptDict *, a nested object (owned); lists have the keys 0, 1, ... */
    OPT_STRLIST, /* GPtrArray of char * (NULL if absent): repeated key, key.0= key.1=, or array
                  */
} OptType;

typedef struct OptSpec {
    /* May be dotted: "cache.direct". With "a" and "a.b" in a table, a user gives either a value or
     * options below it. */
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

/* A row of a table: OPT_SPEC(Disk, "cache.direct", OPT_BOOL, direct, .help = "...", .def = "off").
 */
#define OPT_SPEC(S, option_name, option_type, field, ...)                                          \
    {                                                                                              \
        .name = (option_name), .type = (option_type), .offset = offsetof(S, field), ##__VA_ARGS__  \
    }

#define OPT_ERROR opt_error_quark()
GQuark opt_error_quark(void);
enum {
    OPT_ERROR_SYNTAX,
    OPT_ERROR_UNKNOWN,
    OPT_ERROR_VALUE,
    OPT_ERROR_MISSING,
    OPT_ERROR_DUPLICATE
};

/* Parses either form. On failure returns NULL; @error quotes the offending part. */
OptDict *opt_dict_parse(const char *text, const char *implied_key, GError **error) ANY_THREAD;
/* The same, but @key may have a value of its own as well as options below it: "file=x,file.aio=y"
 * with key "file" and below "filename" is {"file": {"filename": "x", "aio": "y"}}. */
OptDict *opt_dict_parse_folding(const char *text, const char *key, const char *below,
                                GError **error) ANY_THREAD;
OptDict *opt_dict_new(void) ANY_THREAD;
void opt_dict_free(OptDict *d) ANY_THREAD;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OptDict, opt_dict_free)
OptDict *opt_dict_copy(const OptDict *d) ANY_THREAD;
/* Borrowed; NULL when absent or not a scalar; the first value of a repeated key. JSON numbers are
 * returned as text, booleans as "on" and "off". */
const char *opt_dict_get(const OptDict *d, const char *key) ANY_THREAD;
bool opt_dict_has(const OptDict *d, const char *key) ANY_THREAD;
bool opt_dict_is_null(const OptDict *d, const char *key) ANY_THREAD;      /* JSON null */
OptDict *opt_dict_get_dict(const OptDict *d, const char *key) ANY_THREAD; /* borrowed or NULL */
/* Replaces the old value. @key comes from the program, not the user: an invalid one aborts. */
void opt_dict_set(OptDict *d, const char *key, const char *value) ANY_THREAD;
/* The same, unless @key is already set. */
void opt_dict_set_default(OptDict *d, const char *key, const char *value) ANY_THREAD;
void opt_dict_set_dict(OptDict *d, const char *key, OptDict *value_taken) ANY_THREAD;
void opt_dict_remove(OptDict *d, const char *key) ANY_THREAD;
/* Removes a scalar and returns it (owned); NULL when absent. opts_bind() still refuses the
 * remaining entry of a repeated key. */
char *opt_dict_take(OptDict *d, const char *key) ANY_THREAD;
OptDict *opt_dict_take_dict(OptDict *d, const char *key) ANY_THREAD;
/* The number of entries at the top level. */
unsigned opt_dict_count(const OptDict *d) ANY_THREAD;
/* Calls @fn for each scalar in the order given, nested ones by their dotted key. Lists are
 * skipped.
 */
void opt_dict_foreach(const OptDict *d,
                      void (*fn)(const char *key, const char *value, void *opaque), void *opaque)
    ANY_THREAD;

/* Sets every field of @specs in @target to its default. */
void opts_init(const OptSpec *specs, void *target) ANY_THREAD;
/* Binds @d onto @target, which opts_init() has prepared; every key must be in @specs. The error
 * text begins with @what ("-drive", "-device virtio-blk-pci") and says what is wrong and what would
 * be accepted (nearest known key, range, names). On error the strings already set in @target are
 * freed, as by opts_clear(). */
bool opts_bind(const OptSpec *specs, void *target, const OptDict *d, const char *what,
               GError **error) ANY_THREAD;
/* Copies all options from one target to another one, which has none yet. */
void opts_copy(const OptSpec *specs, void *to, const void *from) ANY_THREAD;
/* Frees strings, dicts, lists. */
void opts_clear(const OptSpec *specs, void *target) ANY_THREAD;
/* One line per option: name=<type> - help (default: x). */
void opts_print_help(const OptSpec *specs, FILE *out) ANY_THREAD;

/* Single values. The error says what would be accepted; the caller prefixes the option's name.
 */
bool opt_parse_size(const char *text, uint64_t default_unit, uint64_t *bytes, GError **error)
    ANY_THREAD;
bool opt_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value, GError **error)
    ANY_THREAD;
bool opt_parse_bool(const char *text, bool *value, GError **error) ANY_THREAD;
/* Whether @id is a valid user-chosen name: a letter, then letters, digits, '-', '.', '_'.
 */
bool opt_id_valid(const char *id) ANY_THREAD;
/* The same, with an error (OPT_ERROR_VALUE) that states the rule. */
bool opt_id_check(const char *id, GError **error) ANY_THREAD;
/* Returns a copy of @text (user input) for a message: shortened, in valid UTF-8, with control
 * characters and invalid bytes escaped. Owned by the caller. */
char *opt_excerpt(const char *text) ANY_THREAD;
/* The same for a whole message, with a much higher length limit. */
char *opt_printable(const char *text) ANY_THREAD;
/* The known name nearest to @name by edit distance, or NULL when none is near. @names is
 * NULL-terminated. */
const char *opt_nearest(const char *name, const char *const *names) ANY_THREAD;

#endif
