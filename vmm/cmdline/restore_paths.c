/* SPDX-License-Identifier: Apache-2.0 */
/* Relative paths in saved options. */
#include <string.h>
#include "util/opts/json.h"
#include "util/opts/opts.h"
#include "vmm/cmdline/restore_args.h"

#define RESTORE_JSON_DEPTH 32

/* Options whose value is the path of a file, and those whose value is that of a disk, which may be a URI. */
static const char *const restore_path_options[] = {"kernel", "bios", NULL};
static const char *const restore_disk_options[] = {"pflash", "hda", "hdb", "hdc", "hdd", NULL};
/* Options with keys. */
static const char *const restore_keyed_options[] = {"drive",  "blockdev", "fw_cfg", "smbios",
                                                    "device", "virtiofs", "object", "netdev",
                                                    "nic",    "chardev",  NULL};
/* Those whose file= is a path: in others it is the name of a node. */
static const char *const restore_file_options[] = {"drive", "fw_cfg", "smbios", NULL};
static const char *const restore_string_options[] = {"serial", "debugcon", NULL};
/* Keys, at the end of longer ones too, whose values are paths and no URIs. */
static const char *const restore_path_keys[] = {"filename", "path", "romfile", "mem-path",
                                                "logfile",  "tftp", "dir",     NULL};

/* What the paths of an option are relative to. */
typedef struct RestorePlace {
    const char *directory;
    bool has_file;     /* file= is a path */
    bool uris;         /* file= may be a URI */
    const OptDict *of; /* the option's keys; NULL: not known */
} RestorePlace;

/* The last part of @key, which may be below others. */
static const char *restore_last_part(const char *key)
{
    const char *last = strrchr(key, '.');
    return last != NULL ? last + 1 : key;
}

static bool restore_is_file(const RestorePlace *p, const char *key)
{
    return p->has_file && strcmp(key, "file") == 0;
}

/* Whether @key, a path of a socket, is a name that no folder has: its neighbour abstract= is on. */
static bool restore_is_abstract(const RestorePlace *p, const char *key)
{
    bool on = false;
    g_autofree char *neighbour =
        g_strdup_printf("%.*sabstract", (int)(restore_last_part(key) - key), key);
    const char *value = p->of != NULL ? opt_dict_get(p->of, neighbour) : NULL;
    return value != NULL && opt_parse_bool(value, &on, NULL) && on;
}

static char *restore_join_plain(const char *directory, const char *path)
{
    return path[0] == '\0' || path[0] == '/' ? g_strdup(path)
                                             : g_build_filename(directory, path, NULL);
}

static char *restore_locate_json_text(const char *text, const char *directory, bool has_file);

/* nbd+unix:///EXPORT?socket=PATH. NULL: another. */
static char *restore_join_nbd(const char *directory, const char *uri)
{
    static const char before[] = "?socket=";
    const char *found = strstr(uri, before);
    const char *path = found != NULL ? found + strlen(before) : "/";
    if (path[0] == '/' || g_ascii_strncasecmp(path, "%2f", 3) == 0 ||
        (!g_str_has_prefix(uri, "nbd+unix:") && !g_str_has_prefix(uri, "nbds+unix:"))) {
        return NULL;
    }
    g_autofree char *escaped = g_uri_escape_string(directory, "/", false);
    return g_strdup_printf("%.*s%s/%s", (int)(path - uri), uri, escaped, path);
}

/* A relative path of a disk, and not the name of an export or of a protocol. */
static char *restore_join_uri(const char *directory, const char *uri)
{
    static const char file[] = "file:", nbd[] = "nbd:unix:", json[] = "json:";
    g_autofree char *located = NULL;
    if (uri[strcspn(uri, ":/")] != ':') {
        return restore_join_plain(directory, uri);
    }
    if (g_str_has_prefix(uri, file)) {
        return restore_join_plain(directory, uri + strlen(file));
    }
    if (g_str_has_prefix(uri, nbd)) {
        located = restore_join_plain(directory, uri + strlen(nbd));
        return g_strconcat(nbd, located, NULL);
    }
    if (g_str_has_prefix(uri, json)) {
        located = restore_locate_json_text(uri + strlen(json), directory, false);
        return g_strconcat(json, located, NULL);
    }
    located = restore_join_nbd(directory, uri);
    return located != NULL ? g_steal_pointer(&located) : g_strdup(uri);
}

/* The value of @key; NULL: it is no path. */
static char *restore_join(const RestorePlace *p, const char *key, const char *value)
{
    if (restore_is_file(p, key) && p->uris) {
        return restore_join_uri(p->directory, value);
    }
    return restore_is_file(p, key) || g_strv_contains(restore_path_keys, restore_last_part(key))
               ? restore_join_plain(p->directory, value)
               : NULL;
}

/* ---- key=value ---- */

/* Appends @text with commas doubled. */
static void restore_append_value(GString *out, const char *text)
{
    for (; *text != '\0'; text++) {
        g_string_append_len(out, *text == ',' ? ",," : text, *text == ',' ? 2 : 1);
    }
}

static void restore_append_directory(GString *out, const char *directory)
{
    restore_append_value(out, directory);
    g_string_append(out, g_str_has_suffix(directory, "/") ? "" : "/");
}

const char *restore_word_end(const char *at)
{
    while (*at != '\0' && (at[0] != ',' || at[1] == ',')) {
        at += at[0] == ',' ? 2 : 1;
    }
    return at;
}

/* guestfwd=...-unix:PATH. NULL: another. */
static char *restore_join_forward(const RestorePlace *p, const char *value)
{
    static const char before[] = "-unix:";
    const char *found = strstr(value, before);
    if (found == NULL) {
        return NULL;
    }
    g_autofree char *path = restore_join_plain(p->directory, found + strlen(before));
    return g_strdup_printf("%.*s%s%s", (int)(found - value), value, before, path);
}

static void restore_locate_word(GString *out, const char *word, size_t size, const RestorePlace *p)
{
    const char *equals = memchr(word, '=', size);
    g_autofree char *absolute = NULL;
    if (equals != NULL) {
        g_autofree char *key = g_strndup(word, (size_t)(equals - word));
        g_autoptr(GString) value = g_string_new_len(equals + 1, word + size - (equals + 1));
        g_string_replace(value, ",,", ",", 0);
        absolute = strcmp(key, "guestfwd") == 0  ? restore_join_forward(p, value->str)
                   : restore_is_abstract(p, key) ? NULL
                                                 : restore_join(p, key, value->str);
    }
    if (absolute == NULL) {
        g_string_append_len(out, word, (gssize)size);
        return;
    }
    g_string_append_len(out, word, equals + 1 - word);
    restore_append_value(out, absolute);
}

/* Appends the words from @at on. */
static void restore_locate_words(GString *out, const char *at, const RestorePlace *p)
{
    for (;;) {
        const char *end = restore_word_end(at);
        restore_locate_word(out, at, (size_t)(end - at), p);
        if (*end == '\0') {
            return;
        }
        g_string_append_c(out, ',');
        at = end + 1;
    }
}

/* ---- -serial and -initrd ---- */

/* [mon:]file:PATH or unix:PATH, and keys. */
static void restore_locate_string(GString *out, const char *value, const RestorePlace *p)
{
    static const char *const prefixes[] = {"file:", "unix:"};
    if (g_str_has_prefix(value, "mon:")) {
        g_string_append(out, "mon:");
        value += strlen("mon:");
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (!g_str_has_prefix(value, prefixes[i])) {
            continue;
        }
        const char *path = value + strlen(prefixes[i]), *end = restore_word_end(path);
        bool keyed = memchr(path, '=', (size_t)(end - path)) != NULL;
        g_string_append(out, prefixes[i]);
        if (!keyed && *path != '/' && end != path && !restore_is_abstract(p, "path")) {
            restore_append_directory(out, p->directory);
        }
        value = path;
    }
    restore_locate_words(out, value, p);
}

/* Files, each with a module's arguments; commas in names are doubled. */
static char *restore_locate_modules(const char *at, const char *directory)
{
    GString *out = g_string_new(NULL);
    for (;;) {
        const char *end = restore_word_end(at);
        if (*at != '/' && end != at) {
            restore_append_directory(out, directory);
        }
        g_string_append_len(out, at, end - at);
        if (*end == '\0') {
            return g_string_free(out, FALSE);
        }
        g_string_append_c(out, ',');
        at = end + 1;
    }
}

/* ---- JSON ---- */

/* Whether the path in @o is an abstract name. */
static bool restore_json_is_abstract(struct json_object *o)
{
    struct json_object *abstract;
    return json_object_object_get_ex(o, "abstract", &abstract) &&
           json_object_is_type(abstract, json_type_boolean) && json_object_get_boolean(abstract);
}

static void restore_locate_json(struct json_object *o, const RestorePlace *p)
{
    const RestorePlace below = {.directory = p->directory};
    if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            restore_locate_json(json_object_array_get_idx(o, i), &below);
        }
    }
    if (!json_object_is_type(o, json_type_object)) {
        return;
    }
    bool abstract = restore_json_is_abstract(o);
    json_object_object_foreach(o, key, value)
    {
        if (!json_object_is_type(value, json_type_string)) {
            restore_locate_json(value, &below);
            continue;
        }
        g_autofree char *absolute =
            abstract ? NULL : restore_join(p, key, json_object_get_string(value));
        if (absolute != NULL) {
            json_object_set_string(value, absolute);
        }
    }
}

static char *restore_locate_json_text(const char *text, const char *directory, bool has_file)
{
    struct json_object *o = json_parse_text(text, strlen(text), RESTORE_JSON_DEPTH, NULL);
    if (o == NULL) {
        return g_strdup(text); /* the option's own handler says what is wrong */
    }
    GString *out = g_string_new(NULL);
    restore_locate_json(o, &(RestorePlace){directory, has_file, has_file, NULL});
    json_write_text(out, o, false);
    json_object_put(o);
    return g_string_free(out, FALSE);
}

/* ---- any option ---- */

/* Of an option with keys, which is no JSON. */
static char *restore_locate_keyed(const char *name, const char *value, const char *directory)
{
    GString *out = g_string_new(NULL);
    g_autoptr(OptDict) of = opt_dict_parse(value, "implied", NULL);
    const RestorePlace p = {.directory = directory,
                            .has_file = g_strv_contains(restore_file_options, name),
                            .uris = strcmp(name, "drive") == 0,
                            .of = of};
    if (g_strv_contains(restore_string_options, name)) {
        restore_locate_string(out, value, &p);
    } else {
        restore_locate_words(out, value, &p);
    }
    return g_string_free(out, FALSE);
}

char *restore_args_locate(const char *name, const char *value, const char *directory)
{
    bool keyed = g_strv_contains(restore_keyed_options, name);
    if (g_strv_contains(restore_path_options, name)) {
        return restore_join_plain(directory, value);
    }
    if (g_strv_contains(restore_disk_options, name)) {
        return restore_join_uri(directory, value);
    }
    if (strcmp(name, "initrd") == 0) {
        return restore_locate_modules(value, directory);
    }
    if (keyed && value[0] == '{') {
        return restore_locate_json_text(value, directory,
                                        g_strv_contains(restore_file_options, name));
    }
    return keyed || g_strv_contains(restore_string_options, name)
               ? restore_locate_keyed(name, value, directory)
               : g_strdup(value);
}
