/* SPDX-License-Identifier: Apache-2.0 */
/* Translates the short form of chardevs (`-serial tcp::4444,server=on`) into the long one
 * (-chardev). */
#include <string.h>
#include "hw/chardev/chardev_set.h"

/* Accepts `nowait` and similar flags, which are in common use. */
static bool chardev_string_short_flags(OptDict *d, GError **error)
{
    static const char *const names[] = {"wait", "server", "delay", "telnet"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *negated = g_strconcat("no", names[i], NULL);
        g_autofree char *value = NULL;

        if (!strcmp(negated, "nodelay")) {
            continue; /* a separate option */
        }
        value = opt_dict_take(d, negated);
        if (!value) {
            continue;
        }
        if (strcmp(value, "on") || opt_dict_has(d, names[i])) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s: write %s=off", negated, names[i]);
            return false;
        }
        opt_dict_set(d, names[i], "off");
    }
    return true;
}

/* HOST:PORT or [V6]:PORT, split at the last colon. */
static bool chardev_string_host_port(OptDict *d, const char *text, GError **error)
{
    const char *colon = strrchr(text, ':');
    g_autofree char *host = NULL;

    g_autofree char *shown = opt_excerpt(text);

    if (!colon || !colon[1]) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "expected tcp:HOST:PORT, not tcp:%s",
                    shown);
        return false;
    }
    host = g_strndup(text, (size_t)(colon - text));
    if (host[0] == '[' && g_str_has_suffix(host, "]")) {
        memmove(host, host + 1, strlen(host));
        host[strlen(host) - 1] = '\0';
    } else if (strchr(host, ':')) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                    "expected an IPv6 address in brackets, as in tcp:[::1]:4444, not tcp:%s",
                    shown);
        return false;
    }
    opt_dict_set(d, "host", host);
    opt_dict_set(d, "port", colon + 1);
    return true;
}

/* @rest of "PREFIX:rest": its first part is the path or address, followed by options. */
static OptDict *chardev_string_with_argument(const char *prefix, const char *rest, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(rest[0] == '{' ? "" : rest, "argument", error);
    g_autofree char *argument = NULL;

    if (!d) {
        return NULL;
    }
    argument = opt_dict_take(d, "argument");
    if (!argument || !*argument) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "%s: nothing usable after the colon",
                    prefix);
        return NULL;
    }
    if (!strcmp(prefix, "tcp")) {
        if (!chardev_string_host_port(d, argument, error)) {
            return NULL;
        }
    } else {
        opt_dict_set(d, "path", argument);
    }
    if (!chardev_string_short_flags(d, error)) {
        return NULL;
    }
    opt_dict_set(d, "backend", strcmp(prefix, "file") ? "socket" : "file");
    return g_steal_pointer(&d);
}

static const char *chardev_string_nearest(const char *name)
{
    static const char *const nearest[][2] = {
        {"telnet", "tcp:HOST:PORT (clients: socat, nc)"},
        {"websocket", "tcp:HOST:PORT"},
        {"tn3270", "tcp:HOST:PORT"},
        {"udp", "tcp:HOST:PORT"},
        {"vc", "pty"},
        {"con", "stdio"},
        {"msmouse", "null"},
        {"wctablet", "null"},
        {"braille", "null"},
        {"pipe", "file:FIFO, or unix:PATH for both directions"},
        {"ptty", "pty"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(nearest); i++) {
        if (!strcmp(nearest[i][0], name)) {
            return nearest[i][1];
        }
    }
    return name[0] == '/' ? "unix:PATH or pty (with socat to the device)" : NULL;
}

static OptDict *chardev_string_unknown(const char *text, GError **error)
{
    g_autofree char *first = g_strndup(text, strcspn(text, ":,"));
    g_autofree char *name = opt_excerpt(first);
    const char *nearest = chardev_string_nearest(name);

    if (nearest) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "skiff has no '%s'; nearest is %s", name,
                    nearest);
    } else {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "'%s' is no character device; use stdio, mon:stdio, file:PATH, pty, "
                    "unix:PATH, tcp:HOST:PORT, null, none, chardev:ID",
                    name);
    }
    return NULL;
}

static OptDict *chardev_string_parse_backend(const char *text, GError **error)
{
    static const char *const plain[] = {"null", "stdio", "pty"};
    static const char *const prefixes[] = {"file", "unix", "tcp"};

    for (size_t i = 0; i < G_N_ELEMENTS(plain); i++) {
        size_t length = strlen(plain[i]);

        if (!strncmp(text, plain[i], length) && (text[length] == '\0' || text[length] == ',')) {
            return opt_dict_parse(text, "backend", error);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        size_t length = strlen(prefixes[i]);

        if (!strncmp(text, prefixes[i], length) && text[length] == ':') {
            return chardev_string_with_argument(prefixes[i], text + length + 1, error);
        }
    }
    return chardev_string_unknown(text, error);
}

bool chardev_string_parse(ChardevString *s, const char *text, const char *label, GError **error)
{
    *s = (ChardevString){0};
    if (!strcmp(text, "none")) {
        s->none = true;
        return true;
    }
    if (g_str_has_prefix(text, "chardev:")) {
        if (!text[strlen("chardev:")]) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "chardev: needs the chardev's id");
            return false;
        }
        s->id = g_strdup(text + strlen("chardev:"));
        return true;
    }
    if (g_str_has_prefix(text, "mon:")) {
        s->monitor = true;
        text += strlen("mon:");
    }
    s->opts = chardev_string_parse_backend(text, error);
    if (!s->opts) {
        s->monitor = false;
        return false;
    }
    if (s->monitor) {
        opt_dict_set(s->opts, "mux", "on");
        if (!g_strcmp0(opt_dict_get(s->opts, "backend"), "stdio")) {
            /* Ctrl-C is input of the guest; Ctrl-A x quits. */
            opt_dict_set_default(s->opts, "signal", "off");
        }
    }
    if (opt_dict_has(s->opts, "id")) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "id is an option of -chardev; here it is '%s'", label);
        chardev_string_clear(s);
        return false;
    }
    opt_dict_set(s->opts, "id", label);
    s->id = g_strdup(label);
    return true;
}

void chardev_string_clear(ChardevString *s)
{
    g_clear_pointer(&s->opts, opt_dict_free);
    g_clear_pointer(&s->id, g_free);
    s->none = s->monitor = false;
}
