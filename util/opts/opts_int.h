/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the option parser: the layout of an OptDict. Only for opts_*.c. */
#ifndef SKIFF_UTIL_OPTS_OPTS_INT_H
#define SKIFF_UTIL_OPTS_OPTS_INT_H

#include "util/opts/opts.h"

/* Nesting of `a.b.c=` and of JSON. Bounds every recursion over a dict. */
#define OPT_MAX_DEPTH 32
/* Entries of one dict. Lookups are linear, so this bounds the work a hostile string can cause. */
#define OPT_MAX_ENTRIES 1024

typedef enum OptKind {
    OPT_KIND_TEXT,
    OPT_KIND_NULL, /* JSON null */
    OPT_KIND_DICT,
    OPT_KIND_LIST, /* JSON array */
} OptKind;

typedef struct OptValue {
    OptKind kind;
    union {
        char *text;
        OptDict *dict;
        GPtrArray *list; /* of OptValue */
    };
} OptValue;

typedef struct OptEntry {
    char *key;
    OptValue *value;
    bool repeated; /* the same key was given before (and may have been taken since) */
} OptEntry;

/* Entries in the order given. A key that was given twice has two entries. */
struct OptDict {
    GPtrArray *entries; /* of OptEntry */
};

OptValue *opt_value_new_text(const char *text, size_t length);
OptValue *opt_value_new_null(void);
OptValue *opt_value_new_dict(OptDict *dict_taken);
OptValue *opt_value_new_list(void);
void opt_value_free(OptValue *value);
/* A copy in which each list is a dict with the keys 0, 1, ...; NULL: a list is too long. */
OptValue *opt_value_copy_as_dicts(const OptValue *value);

/* The first entry at @path, whose components are keys of nested dicts; NULL when absent.
 * *@count (@count may be NULL) is the number of times the last component was given. */
OptEntry *opt_dict_lookup(const OptDict *d, const char *path, unsigned *count);
/* Adds at @path and creates the dicts on the way. Takes @value, also on failure. */
bool opt_dict_insert(OptDict *d, const char *path, OptValue *value, GError **error);
/* One component of a key: letters, digits, '_' and '-', also a leading '+' (CPU features). */
bool opt_key_component_valid(const char *key, size_t length);

#endif
