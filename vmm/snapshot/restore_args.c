/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/restore_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "util/opts/opts.h"
#include "vmm/snapshot/machine_options.h"

/* ---- which saved options the user replaces ---- */

/* Options whose rows have an id, and its key. */
static const struct {
    const char *name, *key, *implied;
} restore_named[] = {
    {"chardev", "id", "backend"}, {"netdev", "id", "type"},   {"drive", "id", "file"},
    {"object", "id", "qom-type"}, {"device", "id", "driver"}, {"blockdev", "node-name", "driver"},
};

/* What identifies the option: "NAME ID", or "NAME" where the user's replace all that were saved. The caller owns
 * it. */
static char *restore_key(const char *name, const char *value)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(restore_named); i++) {
        if (strcmp(name, restore_named[i].name) != 0) {
            continue;
        }
        g_autoptr(OptDict) d =
            value != NULL ? opt_dict_parse(value, restore_named[i].implied, NULL) : NULL;
        const char *id = d != NULL ? opt_dict_get(d, restore_named[i].key) : NULL;
        /* Without an id it replaces none. */
        return id != NULL ? g_strconcat(name, " ", id, NULL) : NULL;
    }
    return g_strdup(strcmp(name, "M") == 0 ? "machine" : name);
}

/* The name of the option that is the word @word, or NULL. */
static const char *restore_option_name(const char *word)
{
    if (word[0] != '-' || word[1] == '\0') {
        return NULL;
    }
    return word + (word[1] == '-' ? 2 : 1);
}

static bool restore_is_restore(const char *word)
{
    const char *name = restore_option_name(word);
    return name != NULL && strcmp(name, "restore") == 0;
}

/* The keys of the user's options. A word that only looks like an option is the value of one: it replaces a saved
 * option only if it is spelled like one. */
static GHashTable *restore_users_keys(int argc, char **argv)
{
    GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 1; i < argc; i++) {
        const char *name = restore_option_name(argv[i]);
        char *key = name != NULL ? restore_key(name, i + 1 < argc ? argv[i + 1] : NULL) : NULL;
        if (key != NULL) {
            g_hash_table_add(keys, key);
        }
    }
    return keys;
}

char **restore_args_merge(int argc, char **argv, const GPtrArray *saved, const char *directory,
                          const char *now)
{
    g_autoptr(GHashTable) keys = restore_users_keys(argc, argv);
    GPtrArray *out = g_ptr_array_new();
    bool moved = strcmp(directory, now) != 0;
    g_ptr_array_add(out, g_strdup(argv[0]));
    for (unsigned i = 0; i < saved->len; i++) {
        const ConfigOption *o = saved->pdata[i];
        g_autofree char *key = restore_key(o->name, o->value);
        if (key != NULL && g_hash_table_contains(keys, key)) {
            continue;
        }
        g_ptr_array_add(out, g_strconcat("-", o->name, NULL));
        if (o->value != NULL) {
            g_ptr_array_add(out, moved ? restore_args_locate(o->name, o->value, directory)
                                       : g_strdup(o->value));
        }
    }
    for (int i = 1; i < argc; i++) {
        g_ptr_array_add(out, g_strdup(argv[i]));
    }
    g_ptr_array_add(out, NULL);
    return (char **)g_ptr_array_free(out, FALSE);
}

/* ---- the file ---- */

static bool restore_fail(GError **error, const char *path, const char *what)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-restore '%s': %s", path, what);
    return false;
}

static bool restore_read(const char *path, int fd, GByteArray *out, GError **error)
{
    while (out->len < STATE_STREAM_MAX) {
        guint at = out->len, want = at == 0 ? STATE_STREAM_PREFIX : 0;
        if (at != 0) {
            GError *wrong = NULL;
            uint64_t length = state_stream_length(out->data, at, &wrong);
            if (length == 0) {
                restore_fail(error, path, wrong->message);
                g_error_free(wrong);
                return false;
            }
            want = length > at ? (guint)MIN(length - at, 1u << 20) : 0;
        }
        if (want == 0) {
            return true;
        }
        g_byte_array_set_size(out, at + want);
        ssize_t n = pread(fd, out->data + at, want, at);
        g_byte_array_set_size(out, at + (guint)MAX(n, 0));
        if (n < 0) {
            return restore_fail(error, path, g_strerror(errno));
        }
        if (n == 0) {
            return at != 0 || restore_fail(error, path, "no state stream: the file is empty");
        }
    }
    return true;
}

static GByteArray *restore_read_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        restore_fail(error, path, g_strerror(errno));
        return NULL;
    }
    g_autoptr(GByteArray) stream = g_byte_array_new();
    bool ok = restore_read(path, fd, stream, error);
    close(fd);
    return ok ? g_steal_pointer(&stream) : NULL;
}

bool restore_args_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (restore_is_restore(argv[i])) {
            return true;
        }
    }
    return false;
}

/* The argument of the one -restore; NULL + error. */
static const char *restore_find_path(int argc, char **argv, GError **error)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (!restore_is_restore(argv[i])) {
            continue;
        }
        if (path != NULL || i + 1 == argc) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                        path != NULL ? "-restore: a machine goes on from one state"
                                     : "-restore: needs an argument: -restore file");
            return NULL;
        }
        path = argv[++i];
    }
    return path;
}

char **restore_args_expand(int argc, char **argv, GError **error)
{
    const char *path = restore_find_path(argc, argv, error);
    g_autoptr(GByteArray) stream = path != NULL ? restore_read_file(path, error) : NULL;
    if (stream == NULL) {
        return NULL;
    }
    GError *wrong = NULL;
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, &wrong);
    g_autoptr(GPtrArray) saved = s != NULL ? machine_options_read(s, &wrong) : NULL;
    const char *text = s != NULL ? state_stream_text(s, "directory") : NULL;
    g_autofree char *directory = text != NULL ? machine_text_unescape(text) : NULL;
    if (saved == NULL || directory == NULL) {
        restore_fail(error, path, saved == NULL ? wrong->message : "it does not name a directory");
        g_clear_error(&wrong);
        return NULL;
    }
    g_autofree char *now = g_get_current_dir();
    return restore_args_merge(argc, argv, saved, directory, now);
}
