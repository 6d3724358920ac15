/* SPDX-License-Identifier: Apache-2.0 */
/* Parses the words after a command into a JSON object. */
#include <string.h>
#include "util/opts/json.h"
#include "util/opts/opts.h"
#include "vmm/monitor/hmp/hmp_expr.h"
#include "vmm/monitor/hmp/hmp_int.h"

#define HMP_JSON_DEPTH 32

static void hmp_skip_blanks(const char **at)
{
    *at += strspn(*at, " \t");
}

/* Reads a word "in quotes". *@at is after the opening quote. */
static bool hmp_read_quoted(const char **at, GString *word, GError **error)
{
    for (const char *p = *at; *p != '\0'; p++) {
        if (*p == '"') {
            *at = p + 1;
            return true;
        }
        if (*p == '\\') {
            p++;
            if (*p == '\0' || strchr("\"\\nr", *p) == NULL) {
                return qmp_refuse(error, "quotes allow only the escapes \\\" \\\\ \\n \\r");
            }
            g_string_append_c(word, *p == 'n' ? '\n' : *p == 'r' ? '\r' : *p);
        } else {
            g_string_append_c(word, *p);
        }
    }
    return qmp_refuse(error, "a quote is not closed");
}

static char *hmp_read_word(const char **at, GError **error)
{
    g_autoptr(GString) word = g_string_new(NULL);
    if (**at == '"') {
        (*at)++;
        return hmp_read_quoted(at, word, error) ? g_string_free(g_steal_pointer(&word), false)
                                                : NULL;
    }
    size_t length = strcspn(*at, " \t");
    g_string_append_len(word, *at, (gssize)length);
    *at += length;
    return g_string_free(g_steal_pointer(&word), false);
}

/* ---- the kinds ---- */

static bool hmp_parse_word(const HmpParam *p, const char **at, struct json_object *args,
                           GError **error)
{
    g_autofree char *word = hmp_read_word(at, error);
    if (word == NULL) {
        return false;
    }
    qmp_put_str(args, p->name, word);
    return true;
}

static bool hmp_parse_rest(const HmpParam *p, const char **at, struct json_object *args)
{
    g_autofree char *rest = g_strchomp(g_strdup(*at));
    *at += strlen(*at);
    qmp_put_str(args, p->name, rest);
    return true;
}

static bool hmp_parse_size(const HmpParam *p, const char **at, struct json_object *args,
                           GError **error)
{
    g_autofree char *word = hmp_read_word(at, error);
    uint64_t bytes;
    if (word == NULL || !opt_parse_size(word, UINT64_C(1) << 20, &bytes, error)) {
        g_prefix_error(error, "'%s': ", p->name);
        return false;
    }
    if (bytes > INT64_MAX) {
        return qmp_refuse(error, "'%s' is too large", p->name);
    }
    qmp_put_int(args, p->name, (int64_t)bytes);
    return true;
}

static bool hmp_parse_switch(const HmpParam *p, const char **at, struct json_object *args,
                             GError **error)
{
    g_autofree char *word = hmp_read_word(at, error);
    if (word == NULL) {
        return false;
    }
    bool on = strcmp(word, "on") == 0;
    if (!on && strcmp(word, "off") != 0) {
        return qmp_refuse(error, "'%s' must be on or off", p->name);
    }
    qmp_put_bool(args, p->name, on);
    return true;
}

typedef struct HmpOptions {
    struct json_object *object;
    char *twice; /* a key given twice, or NULL */
} HmpOptions;

/* Adds a member. A dotted key makes nested objects, as on the command line. */
static void hmp_put_option(const char *key, const char *value, void *opaque)
{
    HmpOptions *options = opaque;
    struct json_object *object = options->object;
    g_auto(GStrv) parts = g_strsplit(key, ".", -1);
    unsigned last = g_strv_length(parts) - 1;
    for (unsigned i = 0; i < last; i++) {
        struct json_object *inner = qmp_arg_get(object, parts[i]);
        if (inner == NULL || !json_object_is_type(inner, json_type_object)) {
            inner = json_object_new_object();
            qmp_put(object, parts[i], inner);
        }
        object = inner;
    }
    if (qmp_arg_has(object, parts[last]) && options->twice == NULL) {
        options->twice = g_strdup(key);
    }
    qmp_put_str(object, parts[last], value);
}

static bool hmp_parse_opts(const HmpParam *p, const char **at, struct json_object *args,
                           GError **error)
{
    g_autofree char *text = g_strchomp(g_strdup(*at));
    *at += strlen(*at);
    if (text[0] != '{') {
        g_autoptr(OptDict) dict = opt_dict_parse(text, p->name, error);
        if (dict == NULL) {
            return false;
        }
        HmpOptions options = {.object = args};
        opt_dict_foreach(dict, hmp_put_option, &options);
        g_autofree char *twice = options.twice;
        return twice == NULL || qmp_refuse(error, "'%s' is given twice", twice);
    }
    struct json_object *given = json_parse_text(text, strlen(text), HMP_JSON_DEPTH, error);
    if (given == NULL) {
        return false;
    }
    bool ok = json_object_is_type(given, json_type_object) ||
              qmp_refuse(error, "the JSON is not an object");
    if (ok) {
        json_object_object_foreach(given, name, member)
        {
            qmp_put(args, name, json_object_get(member));
        }
    }
    json_object_put(given);
    return ok;
}

/* Parses /[count][letter][size]. An absent part adds no member. */
static bool hmp_parse_format(const char **at, struct json_object *args, GError **error)
{
    static const char sizes[] = "bhwg";
    const char *p = *at + 1;
    char *end;
    if (g_ascii_isdigit(*p)) {
        guint64 count = g_ascii_strtoull(p, &end, 10);
        qmp_put_int(args, "count", (int64_t)MIN(count, (guint64)INT64_MAX));
        p = end;
    }
    for (; *p != '\0' && !g_ascii_isspace(*p); p++) {
        const char *size = strchr(sizes, *p);
        const char letter[] = {*p, '\0'};
        if (size != NULL) {
            qmp_put_int(args, "size", 1 << (size - sizes));
        } else if (strchr("odxuci", *p) != NULL) {
            qmp_put_str(args, "format", letter);
        } else {
            return qmp_refuse(error,
                              "invalid char in format: '%c'; it is a count, one of x d u o c i, "
                              "and a size of b h w g",
                              g_ascii_isprint(*p) ? *p : '?');
        }
    }
    *at = p;
    return true;
}

static coroutine_fn RUNS_IN_MAIN bool hmp_co_parse_int(HmpCall *call, const HmpParam *p,
                                                       const char **at, struct json_object *args,
                                                       GError **error)
{
    uint64_t value;
    bool more = p[1].name != NULL;
    if (!hmp_co_expr(call, at, more, &value, error)) {
        g_prefix_error(error, "'%s': ", p->name);
        return false;
    }
    /* The bits are kept: an address in the upper half becomes a negative integer in QMP. */
    qmp_put_int(args, p->name, (int64_t)value);
    return true;
}

/* ---- all arguments ---- */

/* Parses the flags at the start of *@p, in any order, and advances *@p past them. */
static bool hmp_parse_flags(const HmpParam **p, const char **at, struct json_object *args,
                            GError **error)
{
    const HmpParam *first = *p;
    while ((*p)->name != NULL && (*p)->kind == HMP_ARG_FLAG) {
        ++*p;
    }
    for (;;) {
        hmp_skip_blanks(at);
        const char *s = *at;
        if (s[0] != '-' || !g_ascii_isalpha(s[1]) || (s[2] != '\0' && !g_ascii_isspace(s[2]))) {
            return true;
        }
        const HmpParam *f = first;
        while (f != *p && f->flag != s[1]) {
            f++;
        }
        if (f == *p) {
            return qmp_refuse(error, "unsupported option -%c", s[1]);
        }
        qmp_put_bool(args, f->name, true);
        *at += 2;
    }
}

static coroutine_fn RUNS_IN_MAIN bool hmp_co_parse_arg(HmpCall *call, const HmpParam *p,
                                                       const char **at, struct json_object *args,
                                                       GError **error)
{
    hmp_skip_blanks(at);
    if (p->kind == HMP_ARG_FORMAT) {
        return **at != '/' || hmp_parse_format(at, args, error);
    }
    if (**at == '\0') {
        return p->optional || qmp_refuse(error, "'%s' is missing", p->name);
    }
    switch (p->kind) {
    case HMP_ARG_WORD:
        return hmp_parse_word(p, at, args, error);
    case HMP_ARG_REST:
        return hmp_parse_rest(p, at, args);
    case HMP_ARG_INT:
        return hmp_co_parse_int(call, p, at, args, error);
    case HMP_ARG_SIZE:
        return hmp_parse_size(p, at, args, error);
    case HMP_ARG_SWITCH:
        return hmp_parse_switch(p, at, args, error);
    default:
        return hmp_parse_opts(p, at, args, error);
    }
}

struct json_object *hmp_co_parse_args(HmpCall *call, const char *text, GError **error)
{
    struct json_object *args = json_object_new_object();
    const HmpCommand *c = call->command;
    for (const HmpParam *p = c->params; p != NULL && p->name != NULL;) {
        if (p->kind == HMP_ARG_FLAG ? !hmp_parse_flags(&p, &text, args, error)
                                    : !hmp_co_parse_arg(call, p++, &text, args, error)) {
            json_object_put(args);
            return NULL;
        }
    }
    hmp_skip_blanks(&text);
    if (*text != '\0') {
        g_autofree char *excerpt = opt_excerpt(text);
        qmp_refuse(error, "takes no '%s'", excerpt);
        json_object_put(args);
        return NULL;
    }
    return args;
}
