/* SPDX-License-Identifier: Apache-2.0 */
/* Binds an OptDict to a struct as described by a table of OptSpec. */
#include <string.h>
#include "util/opts/opts_int.h"

static void *opt_field(const OptSpec *spec, void *target)
{
    return (char *)target + spec->offset;
}

static uint64_t opt_spec_max(const OptSpec *spec)
{
    if (spec->max) {
        return spec->max;
    }
    switch (spec->type) {
    case OPT_U8:
        return UINT8_MAX;
    case OPT_U16:
        return UINT16_MAX;
    case OPT_U32:
        return UINT32_MAX;
    default:
        return UINT64_MAX;
    }
}

/* ---- one value ---- */

static bool opt_bind_enum(const OptSpec *spec, const char *text, int *field, GError **error)
{
    g_autofree char *all = NULL;

    for (int i = 0; spec->names[i]; i++) {
        if (!strcmp(spec->names[i], text)) {
            *field = i;
            return true;
        }
    }
    all = g_strjoinv(", ", (char **)(uintptr_t)spec->names);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects one of %s", all);
    return false;
}

/* Formats @bytes with the largest suffix that is exact. */
static char *opt_size_text(uint64_t bytes)
{
    unsigned power = 0;

    while (power < 4 && bytes != 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        power++;
    }
    return g_strdup_printf("%" G_GUINT64_FORMAT "%.*s", bytes, power > 0, &"BKMGT"[power]);
}

static bool opt_bind_size(const OptSpec *spec, const char *text, uint64_t *field, GError **error)
{
    uint64_t bytes;
    bool limited = spec->min > 0 || opt_spec_max(spec) < UINT64_MAX;
    bool number = opt_parse_size(text, spec->default_unit, &bytes, limited ? NULL : error);

    if (limited && (!number || bytes < spec->min || bytes > opt_spec_max(spec))) {
        g_autofree char *least = opt_size_text(spec->min);
        g_autofree char *most = opt_size_text(opt_spec_max(spec));

        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects a size from %s to %s%s", least,
                    most, number ? "" : ": a number with an optional suffix K, M, G, T");
        return false;
    }
    if (!number) {
        return false;
    }
    *field = bytes;
    return true;
}

static bool opt_bind_number(const OptSpec *spec, const char *text, void *field, GError **error)
{
    uint64_t value;

    if (!opt_parse_u64(text, spec->min, opt_spec_max(spec), &value, error)) {
        return false;
    }
    switch (spec->type) {
    case OPT_U8:
        *(uint8_t *)field = (uint8_t)value;
        return true;
    case OPT_U16:
        *(uint16_t *)field = (uint16_t)value;
        return true;
    case OPT_U32:
        *(uint32_t *)field = (uint32_t)value;
        return true;
    case OPT_U64:
        *(uint64_t *)field = value;
        return true;
    default:
        g_assert_not_reached();
    }
}

static bool opt_bind_text(const OptSpec *spec, const char *text, void *field, GError **error)
{
    switch (spec->type) {
    case OPT_STRING:
        g_free(*(char **)field);
        *(char **)field = g_strdup(text);
        return true;
    case OPT_BOOL:
        return opt_parse_bool(text, field, error);
    case OPT_U8:
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
        return opt_bind_number(spec, text, field, error);
    case OPT_SIZE:
        return opt_bind_size(spec, text, field, error);
    case OPT_ENUM:
        return opt_bind_enum(spec, text, field, error);
    case OPT_END:
    case OPT_DICT:
    case OPT_STRLIST:
        break;
    }
    g_assert_not_reached();
}

/* ---- lists ---- */

/* The text of a list's element: "x", or {"str": "x"} as in QAPI's StringList. */
static const char *opt_list_element_text(const OptValue *value)
{
    if (value->kind == OPT_KIND_TEXT) {
        return value->text;
    }
    if (value->kind == OPT_KIND_DICT && opt_dict_count(value->dict) == 1) {
        return opt_dict_get(value->dict, "str");
    }
    return NULL;
}

static bool opt_list_append(GPtrArray *list, const OptValue *value, GError **error)
{
    const char *text = opt_list_element_text(value);

    if (!text) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects a list of strings");
        return false;
    }
    g_ptr_array_add(list, g_strdup(text));
    return true;
}

/* name.0=a,name.1=b */
static bool opt_list_from_dict(GPtrArray *list, const OptDict *d, GError **error)
{
    for (unsigned i = 0; i < opt_dict_count(d); i++) {
        g_autofree char *key = g_strdup_printf("%u", i);
        const OptEntry *entry = opt_dict_lookup(d, key, NULL);

        if (!entry) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "expects a list: elements are .0, .1, ... without a gap");
            return false;
        }
        if (!opt_list_append(list, entry->value, error)) {
            return false;
        }
    }
    return true;
}

static bool opt_list_from_array(GPtrArray *list, const GPtrArray *values, GError **error)
{
    for (unsigned i = 0; i < values->len; i++) {
        if (!opt_list_append(list, g_ptr_array_index(values, i), error)) {
            return false;
        }
    }
    return true;
}

static bool opt_bind_strlist(const OptSpec *spec, const OptDict *d, GPtrArray **field,
                             GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(g_free);
    const char *dot = strrchr(spec->name, '.');
    const char *key = dot ? dot + 1 : spec->name;
    const OptDict *in = d;

    if (dot) {
        g_autofree char *parent = g_strndup(spec->name, (size_t)(dot - spec->name));

        in = opt_dict_get_dict(d, parent);
    }
    for (unsigned i = 0; i < in->entries->len; i++) {
        const OptEntry *entry = g_ptr_array_index(in->entries, i);
        bool ok;

        if (strcmp(entry->key, key)) {
            continue;
        }
        if (entry->value->kind == OPT_KIND_LIST) {
            ok = opt_list_from_array(list, entry->value->list, error);
        } else if (entry->value->kind == OPT_KIND_DICT &&
                   !opt_dict_has(entry->value->dict, "str")) {
            ok = opt_list_from_dict(list, entry->value->dict, error);
        } else {
            ok = opt_list_append(list, entry->value, error);
        }
        if (!ok) {
            return false;
        }
    }
    if (*field) {
        g_ptr_array_unref(*field);
    }
    *field = g_steal_pointer(&list);
    return true;
}

/* ---- tables ---- */

void opts_init(const OptSpec *specs, void *target)
{
    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        void *field = opt_field(spec, target);
        g_autoptr(GError) error = NULL;

        switch (spec->type) {
        case OPT_STRING:
        case OPT_DICT:
        case OPT_STRLIST:
            *(void **)field = NULL;
            break;
        case OPT_BOOL:
            *(bool *)field = false;
            break;
        case OPT_U8:
            *(uint8_t *)field = 0;
            break;
        case OPT_U16:
            *(uint16_t *)field = 0;
            break;
        case OPT_U32:
            *(uint32_t *)field = 0;
            break;
        case OPT_U64:
        case OPT_SIZE:
            *(uint64_t *)field = 0;
            break;
        case OPT_ENUM:
            *(int *)field = 0;
            break;
        case OPT_END:
            break;
        }
        if (spec->def && !opt_bind_text(spec, spec->def, field, &error)) {
            bug_abort("default of option '%s': %s", spec->name, error->message);
        }
    }
}

void opts_clear(const OptSpec *specs, void *target)
{
    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        void **field = opt_field(spec, target);

        if (spec->type == OPT_STRING) {
            g_clear_pointer((char **)field, g_free);
        } else if (spec->type == OPT_DICT) {
            g_clear_pointer((OptDict **)field, opt_dict_free);
        } else if (spec->type == OPT_STRLIST) {
            g_clear_pointer((GPtrArray **)field, g_ptr_array_unref);
        }
    }
}

/* Whether @path is an option; @below: whether it is a dict on the path to one. It can be both. */
static bool opt_path_known(const OptSpec *specs, const char *path, bool *below)
{
    size_t length = strlen(path);
    bool known = false;

    *below = false;
    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        known = known || !strcmp(spec->name, path);
        if (!strncmp(spec->name, path, length) && spec->name[length] == '.') {
            *below = true;
        }
    }
    return known;
}

static void opt_set_unknown_error(const OptSpec *specs, const char *path, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    g_autofree char *shown = opt_excerpt(path);
    g_autofree char *all = NULL;
    const char *nearest;

    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        g_ptr_array_add(names, (gpointer)(uintptr_t)spec->name);
    }
    g_ptr_array_add(names, NULL);
    if (names->len == 1) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "no option '%s': no options are accepted here", shown);
        return;
    }
    nearest = opt_nearest(path, (const char *const *)names->pdata);
    if (nearest) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "no option '%s'; did you mean '%s'?",
                    shown, nearest);
        return;
    }
    all = g_strjoinv(", ", (char **)names->pdata);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "no option '%s'; there %s %s", shown,
                names->len == 2 ? "is only" : "are", all);
}

static bool opt_check_known(const OptSpec *specs, const OptDict *d, const char *prefix,
                            GError **error)
{
    for (unsigned i = 0; i < d->entries->len; i++) {
        const OptEntry *entry = g_ptr_array_index(d->entries, i);
        g_autofree char *path = g_strconcat(prefix, entry->key, NULL);
        bool below;

        bool known = opt_path_known(specs, path, &below);
        below = below && entry->value->kind == OPT_KIND_DICT;
        if (known && !below) {
            continue;
        }
        if (below) {
            g_autofree char *next = g_strconcat(path, ".", NULL);

            if (!opt_check_known(specs, entry->value->dict, next, error)) {
                return false;
            }
            continue;
        }
        if (entry->repeated) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "option '%s' is given twice", path);
        } else {
            opt_set_unknown_error(specs, path, error);
        }
        return false;
    }
    return true;
}

/* A list becomes a dict with the keys 0, 1, ..., as the dotted spelling makes it. */
static bool opt_bind_dict(const OptValue *value, OptDict **field, GError **error)
{
    OptValue *copy = value->kind == OPT_KIND_DICT || value->kind == OPT_KIND_LIST
                         ? opt_value_copy_as_dicts(value)
                         : NULL;
    if (!copy) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects options below it (.x=y)");
        return false;
    }
    opt_dict_free(*field);
    *field = g_steal_pointer(&copy->dict);
    opt_value_free(copy);
    return true;
}

static bool opt_bind_entry(const OptSpec *spec, void *target, const OptDict *d,
                           const OptEntry *entry, GError **error)
{
    void *field = opt_field(spec, target);

    if (spec->type == OPT_STRLIST) {
        if (opt_bind_strlist(spec, d, field, error)) {
            return true;
        }
    } else if (spec->type == OPT_DICT) {
        if (opt_bind_dict(entry->value, field, error)) {
            return true;
        }
    } else if (entry->value->kind == OPT_KIND_TEXT) {
        g_autofree char *shown = opt_excerpt(entry->value->text);

        if (opt_bind_text(spec, entry->value->text, field, error)) {
            return true;
        }
        g_prefix_error(error, "%s=%s: ", spec->name, shown);
        return false;
    } else {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "expects one plain value");
    }
    g_prefix_error(error, "%s: ", spec->name);
    return false;
}

static bool opt_bind_spec(const OptSpec *specs, const OptSpec *spec, void *target, const OptDict *d,
                          GError **error)
{
    unsigned count;
    bool below;
    const OptEntry *entry = opt_dict_lookup(d, spec->name, &count);

    if (entry && entry->value->kind == OPT_KIND_DICT) {
        opt_path_known(specs, spec->name, &below);
        entry = below ? NULL : entry; /* its options are bound to others of the table */
    }
    if (!entry) {
        if (spec->required) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING, "option '%s' is missing%s%s%s",
                        spec->name, spec->help ? " (" : "", spec->help ? spec->help : "",
                        spec->help ? ")" : "");
        }
        return !spec->required;
    }
    if ((count > 1 || entry->repeated) && spec->type != OPT_STRLIST) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE, "option '%s' is given twice",
                    spec->name);
        return false;
    }
    return opt_bind_entry(spec, target, d, entry, error);
}

bool opts_bind(const OptSpec *specs, void *target, const OptDict *d, const char *what,
               GError **error)
{
    bool ok = opt_check_known(specs, d, "", error);

    for (const OptSpec *spec = specs; ok && spec && spec->type != OPT_END; spec++) {
        ok = opt_bind_spec(specs, spec, target, d, error);
    }
    if (!ok) {
        opts_clear(specs, target);
        if (what) {
            g_prefix_error(error, "%s: ", what);
        }
    }
    return ok;
}

/* ---- help ---- */

static char *opt_type_text(const OptSpec *spec)
{
    switch (spec->type) {
    case OPT_STRING:
        return g_strdup("<string>");
    case OPT_BOOL:
        return g_strdup("on|off");
    case OPT_U8:
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
        if (spec->max) {
            return g_strdup_printf("<%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT ">", spec->min,
                                   spec->max);
        }
        return g_strdup("<number>");
    case OPT_SIZE:
        return g_strdup("<size>");
    case OPT_ENUM:
        return g_strjoinv("|", (char **)(uintptr_t)spec->names);
    case OPT_DICT:
        return g_strdup("{...}");
    case OPT_STRLIST:
        return g_strdup("<string> (may be repeated)");
    case OPT_END:
        break;
    }
    g_assert_not_reached();
}

void opts_print_help(const OptSpec *specs, FILE *out)
{
    for (const OptSpec *spec = specs; spec && spec->type != OPT_END; spec++) {
        g_autofree char *type = opt_type_text(spec);
        g_autofree char *head = g_strconcat(spec->name, "=", type, NULL);

        fprintf(out, "  %-30s - %s", head, spec->help ? spec->help : "");
        if (spec->required) {
            fputs(" (required)", out);
        } else if (spec->def) {
            fprintf(out, " (default: %s)", spec->def);
        }
        fputc('\n', out);
    }
}
