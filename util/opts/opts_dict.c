/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "util/opts/opts_int.h"

#define EXCERPT_BYTES 60
#define PRINTABLE_BYTES 4000

GQuark opt_error_quark(void)
{
    return g_quark_from_static_string("skiff-option");
}

static char *opt_escape(const char *text, size_t most)
{
    GString *out = g_string_new(NULL);
    size_t i = 0, size;

    for (; text[i]; i += size) {
        gunichar c = g_utf8_get_char_validated(text + i, -1);
        bool valid = c < (gunichar)-2;

        size = valid ? (size_t)g_utf8_skip[(unsigned char)text[i]] : 1;
        if (i + size > most) {
            break; /* never split a character */
        }
        if (valid && !g_unichar_iscntrl(c)) {
            g_string_append_len(out, text + i, (gssize)size);
            continue;
        }
        for (size_t k = 0; k < size; k++) {
            g_string_append_printf(out, "\\x%02x", (unsigned char)text[i + k]);
        }
    }
    if (text[i]) {
        g_string_append(out, "...");
    }
    return g_string_free(out, FALSE);
}

char *opt_excerpt(const char *text)
{
    return opt_escape(text, EXCERPT_BYTES);
}

char *opt_printable(const char *text)
{
    return opt_escape(text, PRINTABLE_BYTES);
}

/* ---- values ---- */

OptValue *opt_value_new_text(const char *text, size_t length)
{
    OptValue *value = g_new0(OptValue, 1);

    value->kind = OPT_KIND_TEXT;
    value->text = g_strndup(text, length);
    return value;
}

OptValue *opt_value_new_null(void)
{
    OptValue *value = g_new0(OptValue, 1);

    value->kind = OPT_KIND_NULL;
    return value;
}

OptValue *opt_value_new_dict(OptDict *dict_taken)
{
    OptValue *value = g_new0(OptValue, 1);

    value->kind = OPT_KIND_DICT;
    value->dict = dict_taken;
    return value;
}

static void opt_value_free_pointer(gpointer value)
{
    opt_value_free(value);
}

OptValue *opt_value_new_list(void)
{
    OptValue *value = g_new0(OptValue, 1);

    value->kind = OPT_KIND_LIST;
    value->list = g_ptr_array_new_with_free_func(opt_value_free_pointer);
    return value;
}

void opt_value_free(OptValue *value)
{
    if (!value) {
        return;
    }
    switch (value->kind) {
    case OPT_KIND_TEXT:
        g_free(value->text);
        break;
    case OPT_KIND_NULL:
        break;
    case OPT_KIND_DICT:
        opt_dict_free(value->dict);
        break;
    case OPT_KIND_LIST:
        g_ptr_array_unref(value->list);
        break;
    }
    g_free(value);
}

static OptValue *opt_value_copy(const OptValue *value)
{
    OptValue *copy;

    switch (value->kind) {
    case OPT_KIND_TEXT:
        return opt_value_new_text(value->text, strlen(value->text));
    case OPT_KIND_NULL:
        return opt_value_new_null();
    case OPT_KIND_DICT:
        return opt_value_new_dict(opt_dict_copy(value->dict));
    case OPT_KIND_LIST:
        copy = opt_value_new_list();
        for (unsigned i = 0; i < value->list->len; i++) {
            g_ptr_array_add(copy->list, opt_value_copy(g_ptr_array_index(value->list, i)));
        }
        return copy;
    }
    g_assert_not_reached();
}

/* ---- dicts ---- */

static void opt_entry_free(gpointer data)
{
    OptEntry *entry = data;

    g_free(entry->key);
    opt_value_free(entry->value);
    g_free(entry);
}

OptDict *opt_dict_new(void)
{
    OptDict *d = g_new0(OptDict, 1);

    d->entries = g_ptr_array_new_with_free_func(opt_entry_free);
    return d;
}

void opt_dict_free(OptDict *d)
{
    if (d) {
        g_ptr_array_unref(d->entries);
        g_free(d);
    }
}

OptDict *opt_dict_copy(const OptDict *d)
{
    OptDict *copy = opt_dict_new();

    for (unsigned i = 0; i < d->entries->len; i++) {
        const OptEntry *entry = g_ptr_array_index(d->entries, i);
        OptEntry *twin = g_new0(OptEntry, 1);

        twin->key = g_strdup(entry->key);
        twin->value = opt_value_copy(entry->value);
        twin->repeated = entry->repeated;
        g_ptr_array_add(copy->entries, twin);
    }
    return copy;
}

unsigned opt_dict_count(const OptDict *d)
{
    return d->entries->len;
}

/* The first entry whose key is the @length bytes at @key. */
static OptEntry *opt_dict_find(const OptDict *d, const char *key, size_t length, unsigned *count)
{
    OptEntry *found = NULL;
    unsigned n = 0;

    for (unsigned i = 0; i < d->entries->len; i++) {
        OptEntry *entry = g_ptr_array_index(d->entries, i);

        if (strlen(entry->key) == length && !memcmp(entry->key, key, length)) {
            n++;
            found = found ? found : entry;
        }
    }
    if (count) {
        *count = n;
    }
    return found;
}

/* The dict that holds the last component of @path (stored in *@last). NULL when there is none. */
static const OptDict *opt_dict_descend(const OptDict *d, const char *path, const char **last)
{
    const char *dot;

    while ((dot = strchr(path, '.'))) {
        const OptEntry *entry = opt_dict_find(d, path, (size_t)(dot - path), NULL);

        if (!entry || entry->value->kind != OPT_KIND_DICT) {
            return NULL;
        }
        d = entry->value->dict;
        path = dot + 1;
    }
    *last = path;
    return d;
}

OptEntry *opt_dict_lookup(const OptDict *d, const char *path, unsigned *count)
{
    const char *last;
    const OptDict *in = opt_dict_descend(d, path, &last);

    if (!in) {
        if (count) {
            *count = 0;
        }
        return NULL;
    }
    return opt_dict_find(in, last, strlen(last), count);
}

bool opt_key_component_valid(const char *key, size_t length)
{
    if (length == 0) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!g_ascii_isalnum(key[i]) && key[i] != '-' && key[i] != '_' &&
            !(i == 0 && key[i] == '+')) {
            return false;
        }
    }
    return true;
}

static bool opt_dict_add(OptDict *d, const char *key, OptValue *value, GError **error)
{
    unsigned count;
    OptEntry *other = opt_dict_find(d, key, strlen(key), &count);
    OptEntry *entry;

    if (other && (other->value->kind == OPT_KIND_DICT || value->kind == OPT_KIND_DICT)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                    "'%s' has a value of its own and options below it", key);
        opt_value_free(value);
        return false;
    }
    if (d->entries->len >= OPT_MAX_ENTRIES) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "more than %d options", OPT_MAX_ENTRIES);
        opt_value_free(value);
        return false;
    }
    entry = g_new0(OptEntry, 1);
    entry->key = g_strdup(key);
    entry->value = value;
    entry->repeated = other != NULL;
    g_ptr_array_add(d->entries, entry);
    return true;
}

static OptValue *opt_list_copy_as_dict(const GPtrArray *list)
{
    OptDict *d = opt_dict_new();
    for (unsigned i = 0; i < list->len; i++) {
        g_autofree char *key = g_strdup_printf("%u", i);
        OptValue *element = opt_value_copy_as_dicts(g_ptr_array_index(list, i));
        if (!element || !opt_dict_add(d, key, element, NULL)) {
            opt_dict_free(d);
            return NULL;
        }
    }
    return opt_value_new_dict(d);
}

OptValue *opt_value_copy_as_dicts(const OptValue *value)
{
    if (value->kind == OPT_KIND_LIST) {
        return opt_list_copy_as_dict(value->list);
    }
    if (value->kind != OPT_KIND_DICT) {
        return opt_value_copy(value);
    }
    OptDict *d = opt_dict_new();
    for (unsigned i = 0; i < value->dict->entries->len; i++) {
        const OptEntry *entry = g_ptr_array_index(value->dict->entries, i);
        OptValue *element = opt_value_copy_as_dicts(entry->value);
        if (!element || !opt_dict_add(d, entry->key, element, NULL)) {
            opt_dict_free(d);
            return NULL;
        }
    }
    return opt_value_new_dict(d);
}

bool opt_dict_insert(OptDict *d, const char *path, OptValue *value, GError **error)
{
    unsigned depth = 1;
    const char *dot;

    while ((dot = strchr(path, '.'))) {
        g_autofree char *key = g_strndup(path, (size_t)(dot - path));
        OptEntry *entry = opt_dict_find(d, key, strlen(key), NULL);

        if (++depth > OPT_MAX_DEPTH) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "nested deeper than %d", OPT_MAX_DEPTH);
            opt_value_free(value);
            return false;
        }
        if (!entry) {
            OptDict *sub = opt_dict_new();

            if (!opt_dict_add(d, key, opt_value_new_dict(sub), error)) {
                opt_value_free(value);
                return false;
            }
            d = sub;
        } else if (entry->value->kind == OPT_KIND_DICT) {
            d = entry->value->dict;
        } else {
            g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                        "'%s' has a value of its own and options below it", key);
            opt_value_free(value);
            return false;
        }
        path = dot + 1;
    }
    return opt_dict_add(d, path, value, error);
}

const char *opt_dict_get(const OptDict *d, const char *key)
{
    const OptEntry *entry = opt_dict_lookup(d, key, NULL);

    return entry && entry->value->kind == OPT_KIND_TEXT ? entry->value->text : NULL;
}

bool opt_dict_has(const OptDict *d, const char *key)
{
    return opt_dict_lookup(d, key, NULL) != NULL;
}

bool opt_dict_is_null(const OptDict *d, const char *key)
{
    const OptEntry *entry = opt_dict_lookup(d, key, NULL);

    return entry && entry->value->kind == OPT_KIND_NULL;
}

OptDict *opt_dict_get_dict(const OptDict *d, const char *key)
{
    const OptEntry *entry = opt_dict_lookup(d, key, NULL);

    return entry && entry->value->kind == OPT_KIND_DICT ? entry->value->dict : NULL;
}

void opt_dict_remove(OptDict *d, const char *key)
{
    const char *last;
    const OptDict *in = opt_dict_descend(d, key, &last);

    if (!in) {
        return;
    }
    for (unsigned i = in->entries->len; i-- > 0;) {
        const OptEntry *entry = g_ptr_array_index(in->entries, i);

        if (!strcmp(entry->key, last)) {
            g_ptr_array_remove_index(in->entries, i);
        }
    }
}

static void opt_dict_replace(OptDict *d, const char *key, OptValue *value)
{
    g_autoptr(GError) error = NULL;

    opt_dict_remove(d, key);
    if (!opt_dict_insert(d, key, value, &error)) {
        bug_abort("option '%s': %s", key, error->message);
    }
}

void opt_dict_set(OptDict *d, const char *key, const char *value)
{
    opt_dict_replace(d, key, opt_value_new_text(value, strlen(value)));
}

void opt_dict_set_default(OptDict *d, const char *key, const char *value)
{
    if (!opt_dict_has(d, key)) {
        opt_dict_set(d, key, value);
    }
}

void opt_dict_set_dict(OptDict *d, const char *key, OptDict *value)
{
    opt_dict_replace(d, key, opt_value_new_dict(value));
}

/* Removes the first entry at @key if it has the kind @kind; the caller owns its value. */
static bool opt_dict_take_value(OptDict *d, const char *key, OptKind kind, OptValue *taken)
{
    OptEntry *entry = opt_dict_lookup(d, key, NULL);
    const char *last;

    if (!entry || entry->value->kind != kind) {
        return false;
    }
    *taken = *entry->value;
    entry->value->kind = OPT_KIND_NULL;
    g_ptr_array_remove(opt_dict_descend(d, key, &last)->entries, entry);
    return true;
}

char *opt_dict_take(OptDict *d, const char *key)
{
    OptValue taken;

    return opt_dict_take_value(d, key, OPT_KIND_TEXT, &taken) ? taken.text : NULL;
}

OptDict *opt_dict_take_dict(OptDict *d, const char *key)
{
    OptValue taken;

    return opt_dict_take_value(d, key, OPT_KIND_DICT, &taken) ? taken.dict : NULL;
}

static void opt_dict_walk(const OptDict *d, const char *prefix,
                          void (*fn)(const char *key, const char *value, void *opaque),
                          void *opaque)
{
    for (unsigned i = 0; i < d->entries->len; i++) {
        const OptEntry *entry = g_ptr_array_index(d->entries, i);
        g_autofree char *path = g_strconcat(prefix, entry->key, NULL);

        if (entry->value->kind == OPT_KIND_TEXT) {
            fn(path, entry->value->text, opaque);
        } else if (entry->value->kind == OPT_KIND_DICT) {
            g_autofree char *below = g_strconcat(path, ".", NULL);

            opt_dict_walk(entry->value->dict, below, fn, opaque);
        }
    }
}

void opt_dict_foreach(const OptDict *d,
                      void (*fn)(const char *key, const char *value, void *opaque), void *opaque)
{
    opt_dict_walk(d, "", fn, opaque);
}
