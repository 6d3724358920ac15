/* SPDX-License-Identifier: Apache-2.0 */
/* Relative paths in saved options. */
#include <string.h>
#include "util/opts/json.h"
#include "vmm/cmdline/restore_args.h"

#define RESTORE_JSON_DEPTH 32

/* Options whose value is the path of a file. */
static const char *const restore_path_options[] = {"kernel", "initrd", "bios", "pflash", "hda",
                                                   "hdb",    "hdc",    "hdd",  NULL};
/* Options with keys, and whether a value without a key is the path. */
static const char *const restore_keyed_options[] = {"drive",  "blockdev", "fw_cfg", "smbios",
                                                    "device", "virtiofs", "object", NULL};
static const char *const restore_path_keys[] = {"file",    "filename", "path",
                                                "romfile", "mem-path", NULL};

/* Whether @key, which may be below others, names a path. */
static bool restore_is_path_key(const char *key, size_t size)
{
    g_autofree char *whole = g_strndup(key, size);
    const char *last = strrchr(whole, '.');
    return g_strv_contains(restore_path_keys, last != NULL ? last + 1 : whole);
}

/* A relative path of a file, and not the name of an export or of a protocol. */
static bool restore_is_relative(const char *path)
{
    size_t name = strcspn(path, ":/");
    return path[0] != '\0' && path[0] != '/' &&
           (path[name] != ':' || g_str_has_prefix(path, "file:"));
}

static char *restore_join(const char *directory, const char *path)
{
    if (!restore_is_relative(path)) {
        return g_strdup(path);
    }
    return g_build_filename(directory,
                            g_str_has_prefix(path, "file:") ? path + strlen("file:") : path, NULL);
}

/* ---- key=value ---- */

/* Appends @text with commas doubled. */
static void restore_append_value(GString *out, const char *text)
{
    for (; *text != '\0'; text++) {
        g_string_append_len(out, *text == ',' ? ",," : text, *text == ',' ? 2 : 1);
    }
}

const char *restore_word_end(const char *at)
{
    while (*at != '\0' && (at[0] != ',' || at[1] == ',')) {
        at += at[0] == ',' ? 2 : 1;
    }
    return at;
}

static void restore_locate_word(GString *out, const char *word, size_t size, const char *directory)
{
    const char *equals = memchr(word, '=', size);
    if (equals == NULL || !restore_is_path_key(word, (size_t)(equals - word))) {
        g_string_append_len(out, word, (gssize)size);
        return;
    }
    g_string_append_len(out, word, equals + 1 - word);
    g_autoptr(GString) path = g_string_new_len(equals + 1, word + size - (equals + 1));
    g_string_replace(path, ",,", ",", 0);
    g_autofree char *absolute = restore_join(directory, path->str);
    restore_append_value(out, absolute);
}

static char *restore_locate_keyed(const char *value, const char *directory)
{
    GString *out = g_string_new(NULL);
    for (const char *at = value;;) {
        const char *end = restore_word_end(at);
        restore_locate_word(out, at, (size_t)(end - at), directory);
        if (*end == '\0') {
            return g_string_free(out, FALSE);
        }
        g_string_append_c(out, ',');
        at = end + 1;
    }
}

/* ---- JSON ---- */

static void restore_locate_json(struct json_object *o, const char *directory)
{
    if (json_object_is_type(o, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(o); i++) {
            restore_locate_json(json_object_array_get_idx(o, i), directory);
        }
    }
    if (!json_object_is_type(o, json_type_object)) {
        return;
    }
    json_object_object_foreach(o, key, value)
    {
        if (json_object_is_type(value, json_type_string) && restore_is_path_key(key, strlen(key))) {
            g_autofree char *absolute = restore_join(directory, json_object_get_string(value));
            json_object_set_string(value, absolute);
        } else {
            restore_locate_json(value, directory);
        }
    }
}

char *restore_args_locate(const char *name, const char *value, const char *directory)
{
    if (g_strv_contains(restore_path_options, name)) {
        return restore_join(directory, value);
    }
    if (!g_strv_contains(restore_keyed_options, name)) {
        return g_strdup(value);
    }
    if (value[0] != '{') {
        return restore_locate_keyed(value, directory);
    }
    struct json_object *o = json_parse_text(value, strlen(value), RESTORE_JSON_DEPTH, NULL);
    if (o == NULL) {
        return g_strdup(value); /* the option's own handler says what is wrong */
    }
    GString *out = g_string_new(NULL);
    restore_locate_json(o, directory);
    json_write_text(out, o, false);
    json_object_put(o);
    return g_string_free(out, FALSE);
}
