/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmdline/restore_args.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "util/opts/opts.h"
#include "vmm/cmdline/restore_clone.h"
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

/* Appends the words of @o, changed by @c, with the paths of @directory (NULL: the present one). */
static bool restore_add_saved(GPtrArray *out, const ConfigOption *o, RestoreChanges *c,
                              const char *directory, GError **error)
{
    if (strcmp(o->name, "exec") ==
        0) { /* files of before -exec-port: the command is not run again */
        g_ptr_array_add(out, g_strdup("-exec-port"));
        return true;
    }
    g_autofree char *value = restore_change_option(c, o, error);
    if (value == NULL && o->value != NULL) {
        return false;
    }
    g_ptr_array_add(out, g_strconcat("-", o->name, NULL));
    if (value != NULL) {
        g_ptr_array_add(out, directory != NULL ? restore_args_locate(o->name, value, directory)
                                               : g_strdup(value));
    }
    return true;
}

/* Appends the saved options that the user does not give anew. */
static bool restore_add_all_saved(GPtrArray *out, const GPtrArray *saved, GHashTable *keys,
                                  RestoreChanges *c, const char *directory, GError **error)
{
    bool port = g_hash_table_contains(keys, "exec-port");
    for (unsigned i = 0; i < saved->len; i++) {
        const ConfigOption *o = saved->pdata[i];
        if (!restore_check_option(o, error)) {
            return false;
        }
        port = port || g_str_has_prefix(o->name, "exec");
        g_autofree char *key = restore_key(o->name, o->value);
        if (key != NULL && g_hash_table_contains(keys, key)) {
            continue;
        }
        if (!restore_check_programs(o, error) || !restore_add_saved(out, o, c, directory, error)) {
            return false;
        }
    }
    if (c->cid != 0 && !c->has_cid) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "cid=%" G_GUINT64_FORMAT ": the saved machine has no vhost-vsock-pci", c->cid);
        return false;
    }
    return restore_check_exec(keys, port, error);
}

/* What -exec and -clone make of saved options. @argv has been checked. */
static RestoreChanges restore_changes(int argc, char **argv)
{
    RestoreChanges c = {.clone = false};
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        CloneOptions clone;
        c.exec = c.exec || strcmp(o.name, "exec") == 0;
        if (strcmp(o.name, "clone") == 0 && o.value != NULL &&
            clone_options_parse(&clone, o.value, NULL)) {
            c.clone = true;
            c.cid = clone.cid;
            clone_options_clear(&clone);
        }
        i += o.words;
    }
    return c;
}

char **restore_args_merge(int argc, char **argv, const GPtrArray *saved, const char *directory,
                          const char *now, GError **error)
{
    g_autoptr(GHashTable) keys = restore_users_keys(argc, argv);
    g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
    RestoreChanges changes = restore_changes(argc, argv);
    const char *moved = strcmp(directory, now) != 0 ? directory : NULL;
    g_ptr_array_add(out, g_strdup(argv[0]));
    if (!restore_add_all_saved(out, saved, keys, &changes, moved, error)) {
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

/* -restore or -clone. */
typedef struct RestoreSource {
    const char *option; /* borrowed */
    char *path;
} RestoreSource;

static bool restore_fail(GError **error, const RestoreSource *from, const char *what)
{
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-%s '%s': %s", from->option, from->path, what);
    return false;
}

/* Appends to @out until it has @size bytes, or the file ends. Memory is in proportion to the file. */
static bool restore_read(const RestoreSource *from, int fd, GByteArray *out, uint64_t size,
                         GError **error)
{
    ssize_t n = 1;
    while (n > 0 && out->len < size) {
        guint at = out->len;
        g_byte_array_set_size(out, at + (guint)MIN(size - at, RESTORE_PIECE));
        n = pread(fd, out->data + at, out->len - at, at);
        g_byte_array_set_size(out, at + (guint)MAX(n, 0));
    }
    return n >= 0 || restore_fail(error, from, g_strerror(errno));
}

static bool restore_read_stream(const RestoreSource *from, int fd, GByteArray *out, GError **error)
{
    GError *wrong = NULL;
    if (!restore_read(from, fd, out, STATE_STREAM_PREFIX, error)) {
        return false;
    }
    if (out->len == 0) {
        return restore_fail(error, from, "no state stream: the file is empty");
    }
    uint64_t length = state_stream_length(out->data, out->len, &wrong);
    if (length == 0) {
        restore_fail(error, from, wrong->message);
        g_error_free(wrong);
        return false;
    }
    return restore_read(from, fd, out, length, error);
}

static GByteArray *restore_read_file(const RestoreSource *from, GError **error)
{
    int fd = open(from->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        restore_fail(error, from, g_strerror(errno));
        return NULL;
    }
    g_autoptr(GByteArray) stream = g_byte_array_new();
    bool ok = restore_read_stream(from, fd, stream, error);
    close(fd);
    return ok ? g_steal_pointer(&stream) : NULL;
}

static bool restore_is_restore(const char *name)
{
    return strcmp(name, "restore") == 0 || strcmp(name, "clone") == 0;
}

bool restore_args_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        if (restore_is_restore(o.name)) {
            return true;
        }
        i += o.words;
    }
    return false;
}

/* The one -restore or -clone: sets *@name, and its argument, *@value. */
static bool restore_find(int argc, char **argv, const char **name, const char **value,
                         GError **error)
{
    *value = NULL;
    for (int i = 1; i < argc;) {
        RestoreOption o = restore_option_at(argc, argv, i);
        bool is_restore = restore_is_restore(o.name);
        if (strcmp(o.name, "loadstate") == 0 || strcmp(o.name, "loadvm") == 0 ||
            (is_restore && (*value != NULL || o.value == NULL))) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                        o.value == NULL ? "-%s: needs an argument: -%s file"
                                        : "-%s: a machine goes on from one state",
                        o.name, o.name);
            return false;
        }
        *name = is_restore ? o.name : *name;
        *value = is_restore ? o.value : *value;
        i += o.words;
    }
    return *value != NULL;
}

/* Sets @from, whose path the caller frees. */
static bool restore_find_source(int argc, char **argv, RestoreSource *from, GError **error)
{
    const char *value;
    CloneOptions clone;
    if (!restore_find(argc, argv, &from->option, &value, error)) {
        return false;
    }
    if (strcmp(from->option, "restore") == 0) {
        from->path = g_strdup(value);
        return true;
    }
    if (!clone_options_parse(&clone, value, error)) {
        return false;
    }
    from->path = g_strdup(clone.file);
    clone_options_clear(&clone);
    return true;
}

static bool restore_check_changed(const RestoreSource *from, const StateStream *s, GError **error)
{
    const char *changed = state_stream_text(s, MACHINE_TEXT_CHANGED);
    g_autofree char *why =
        changed != NULL
            ? g_strdup_printf("its options do not make this machine, which changed after its start "
                              "(%s): give all options, and -loadstate instead",
                              changed)
            : NULL;
    return why == NULL || restore_fail(error, from, why);
}

static char **restore_expand_from(const RestoreSource *from, int argc, char **argv, GError **error)
{
    g_autoptr(GByteArray) stream = restore_read_file(from, error);
    if (stream == NULL) {
        return NULL;
    }
    GError *wrong = NULL;
    g_autoptr(StateStream) s = state_stream_decode(stream->data, stream->len, &wrong);
    g_autoptr(GPtrArray) saved = s != NULL ? machine_options_read(s, &wrong) : NULL;
    const char *text = s != NULL ? state_stream_text(s, "directory") : NULL;
    g_autofree char *directory = text != NULL ? machine_text_unescape(text) : NULL;
    if (saved == NULL || directory == NULL) {
        restore_fail(error, from, saved == NULL ? wrong->message : "it does not name a directory");
        g_clear_error(&wrong);
        return NULL;
    }
    if (!restore_check_changed(from, s, error)) {
        return NULL;
    }
    g_autofree char *now = g_get_current_dir();
    char **all = restore_args_merge(argc, argv, saved, directory, now, &wrong);
    if (all == NULL) {
        restore_fail(error, from, wrong->message);
        g_error_free(wrong);
    }
    return all;
}

char **restore_args_expand(int argc, char **argv, GError **error)
{
    RestoreSource from = {.path = NULL};
    char **all = restore_find_source(argc, argv, &from, error)
                     ? restore_expand_from(&from, argc, argv, error)
                     : NULL;
    g_free(from.path);
    return all;
}
