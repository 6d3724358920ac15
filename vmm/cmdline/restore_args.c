/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmdline/restore_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "util/opts/opts.h"
#include "vmm/config.h"
#include "vmm/snapshot/machine_options.h"

#define RESTORE_PIECE (UINT64_C(1) << 20) /* bytes of the file that are read at once */

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

/* ---- command lines ---- */

typedef struct RestoreOption {
    const char *name;  /* without dashes; "hda" for a file name alone */
    const char *value; /* NULL: the option takes none, or it is missing */
    int words;         /* of the command line */
} RestoreOption;

/* The option at @at. What follows one that takes an argument is that, whatever it looks like. */
static RestoreOption restore_option_at(int argc, char **argv, int at)
{
    bool has_argument, of_process;
    const char *word = argv[at];
    if (word[0] != '-') {
        return (RestoreOption){"hda", word, 1};
    }
    const char *name = word + (word[1] == '-' ? 2 : 1);
    if (!cmdline_find_kind(name, &has_argument, &of_process) || !has_argument || at + 1 == argc) {
        return (RestoreOption){name, NULL, 1};
    }
    return (RestoreOption){name, argv[at + 1], 2};
}

/* The keys of the user's options. */
static GHashTable *restore_users_keys(int argc, char **argv)
{
    GHashTable *keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        char *key = restore_key(o.name, o.value);
        if (key != NULL) {
            g_hash_table_add(keys, key);
        }
        i += o.words;
    }
    return keys;
}

/* ---- what a saved machine may have ---- */

static bool restore_refuse(GError **error, const ConfigOption *o, const char *what)
{
    g_autofree char *shown = o->value != NULL ? opt_excerpt(o->value) : NULL;
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "the saved option -%s%s%s %s", o->name,
                shown != NULL ? " " : "", shown != NULL ? shown : "", what);
    return false;
}

/* Sets *@opaque if the row of a network names a program: a script, a helper, or guestfwd=...-cmd:PROGRAM. */
static void restore_find_program(const char *key, const char *value, void *opaque)
{
    static const char *const programs[] = {"script", "downscript", "helper", NULL};
    bool *found = opaque;
    *found |= (g_strv_contains(programs, key) && strcmp(value, "no") != 0) ||
              (g_str_has_prefix(key, "guestfwd") && strstr(value, "-cmd:") != NULL);
}

/* Programs of the host that a saved option names are not run. */
static bool restore_check_programs(const ConfigOption *o, GError **error)
{
    if (strcmp(o->name, "netdev") != 0 && strcmp(o->name, "nic") != 0) {
        return true;
    }
    bool found = false;
    g_autoptr(OptDict) d = opt_dict_parse(o->value, "type", NULL);
    if (d != NULL) {
        opt_dict_foreach(d, restore_find_program, &found);
    }
    return !found ||
           restore_refuse(error, o,
                          "runs a program of the host: give the option yourself, with the same id");
}

/* The file is input: each option is one of a machine, and stays one word or two of the command line. */
static bool restore_check_option(const ConfigOption *o, GError **error)
{
    bool has_argument, of_process;
    bool known = cmdline_find_kind(o->name, &has_argument, &of_process);
    g_autofree char *dashed = g_strconcat("-", o->name, NULL);
    if (!known) {
        return restore_refuse(error, o, "is none that this skiff has");
    }
    if (of_process && strcmp(o->name, "exec") != 0) {
        return restore_refuse(error, o, "is no machine's: the user gives it, and no file");
    }
    if (has_argument != (o->value != NULL)) {
        return restore_refuse(error, o, has_argument ? "lacks its argument" : "takes no argument");
    }
    if (has_argument && cmdline_is_help_request(dashed, o->value)) {
        return restore_refuse(error, o, "asks for help");
    }
    return true;
}

/* Whether the user gives a command and the saved machine, @port, can take one. */
static bool restore_check_exec(GHashTable *users_keys, bool port, GError **error)
{
    if (g_hash_table_contains(users_keys, "exec") && !port) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-exec: the saved machine has no port for it: save one that was started with "
                    "-exec-port");
        return false;
    }
    return true;
}

/* ---- both together ---- */

static void restore_add_saved(GPtrArray *out, const ConfigOption *o, const char *directory)
{
    if (strcmp(o->name, "exec") ==
        0) { /* files of before -exec-port: the command is not run again */
        g_ptr_array_add(out, g_strdup("-exec-port"));
        return;
    }
    g_ptr_array_add(out, g_strconcat("-", o->name, NULL));
    if (o->value != NULL) {
        g_ptr_array_add(out, directory != NULL ? restore_args_locate(o->name, o->value, directory)
                                               : g_strdup(o->value));
    }
}

char **restore_args_merge(int argc, char **argv, const GPtrArray *saved, const char *directory,
                          const char *now, GError **error)
{
    g_autoptr(GHashTable) keys = restore_users_keys(argc, argv);
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
    const char *moved = strcmp(directory, now) != 0 ? directory : NULL;
    bool port = g_hash_table_contains(keys, "exec-port");
    g_ptr_array_add(out, g_strdup(argv[0]));
    for (unsigned i = 0; i < saved->len; i++) {
        const ConfigOption *o = saved->pdata[i];
        if (!restore_check_option(o, error)) {
            return NULL;
        }
        port = port || g_str_has_prefix(o->name, "exec");
        g_autofree char *key = restore_key(o->name, o->value);
        if (key != NULL && g_hash_table_contains(keys, key)) {
            continue;
        }
        if (!restore_check_programs(o, error)) {
            return NULL;
        }
        restore_add_saved(out, o, moved);
    }
    if (!restore_check_exec(keys, port, error)) {
        return NULL;
    }
    for (int i = 1, words; i < argc; i += words) {
        RestoreOption o = restore_option_at(argc, argv, i);
        words = o.words;
        g_ptr_array_add(out, g_strdup(argv[i]));
        if (words == 2) {
            g_ptr_array_add(out, g_strdup(o.value));
        }
    }
    g_ptr_array_add(out, NULL);
    g_ptr_array_set_free_func(out, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&out), FALSE);
}

/* ---- the file ---- */

static bool restore_fail(GError **error, const char *path, const char *what)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-restore '%s': %s", path, what);
    return false;
}

/* Appends to @out until it has @size bytes, or the file ends. Memory is in proportion to the file. */
static bool restore_read(const char *path, int fd, GByteArray *out, uint64_t size, GError **error)
{
    ssize_t n = 1;
    while (n > 0 && out->len < size) {
        guint at = out->len;
        g_byte_array_set_size(out, at + (guint)MIN(size - at, RESTORE_PIECE));
        n = pread(fd, out->data + at, out->len - at, at);
        g_byte_array_set_size(out, at + (guint)MAX(n, 0));
    }
    return n >= 0 || restore_fail(error, path, g_strerror(errno));
}

static bool restore_read_stream(const char *path, int fd, GByteArray *out, GError **error)
{
    GError *wrong = NULL;
    if (!restore_read(path, fd, out, STATE_STREAM_PREFIX, error)) {
        return false;
    }
    if (out->len == 0) {
        return restore_fail(error, path, "no state stream: the file is empty");
    }
    uint64_t length = state_stream_length(out->data, out->len, &wrong);
    if (length == 0) {
        restore_fail(error, path, wrong->message);
        g_error_free(wrong);
        return false;
    }
    return restore_read(path, fd, out, length, error);
}

static GByteArray *restore_read_file(const char *path, GError **error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        restore_fail(error, path, g_strerror(errno));
        return NULL;
    }
    g_autoptr(GByteArray) stream = g_byte_array_new();
    bool ok = restore_read_stream(path, fd, stream, error);
    close(fd);
    return ok ? g_steal_pointer(&stream) : NULL;
}

bool restore_args_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        if (strcmp(o.name, "restore") == 0) {
            return true;
        }
        i += o.words;
    }
    return false;
}

/* The argument of the one -restore; NULL + error. */
static const char *restore_find_path(int argc, char **argv, GError **error)
{
    const char *path = NULL;
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        bool is_restore = strcmp(o.name, "restore") == 0;
        if (strcmp(o.name, "loadstate") == 0 || (is_restore && (path != NULL || o.value == NULL))) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                        o.value == NULL ? "-%s: needs an argument: -%s file"
                                        : "-restore: a machine goes on from one state",
                        o.name, o.name);
            return NULL;
        }
        path = is_restore ? o.value : path;
        i += o.words;
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
    char **all = restore_args_merge(argc, argv, saved, directory, now, &wrong);
    if (all == NULL) {
        restore_fail(error, path, wrong->message);
        g_error_free(wrong);
    }
    return all;
}
