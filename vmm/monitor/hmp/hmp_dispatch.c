/* SPDX-License-Identifier: Apache-2.0 */
/* Finds and executes the command of a line, and formats usage and errors. */
#include <string.h>
#include "vmm/monitor/hmp/hmp_int.h"

#define HMP_GROUP_COMMANDS(group) hmp_##group##_commands,
const HmpCommand *const hmp_command_tables[] = {HMP_GROUPS(HMP_GROUP_COMMANDS) NULL};

void hmp_printf(HmpCall *call, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_string_append_vprintf(call->out, format, ap);
    va_end(ap);
}

void hmp_error(HmpCall *call, const GError *error)
{
    hmp_printf(call, "Error: %s\n", error->message);
}

struct json_object *hmp_co_qmp(HmpCall *call, const char *name, struct json_object *args)
{
    g_autoptr(GError) error = NULL;
    struct json_object *result = qmp_co_execute(call->vm, NULL, name, args, &error);
    json_object_put(args);
    if (result == NULL) {
        hmp_error(call, error);
    }
    return result;
}

char *hmp_job_id(const char *prefix)
{
    char *id = g_strdup_printf("%s0", prefix);
    for (unsigned i = 1; job_find(id) != NULL; i++) {
        g_free(id);
        id = g_strdup_printf("%s%u", prefix, i);
    }
    return id;
}

char *hmp_co_job_end(Job *job)
{
    job_co_await(job);
    char *error = g_strdup(job_error_text(job));
    job_unref(job);
    return error;
}

struct json_object *hmp_item(struct json_object *list, size_t i)
{
    return json_object_array_get_idx(list, i);
}

/* ---- finding ---- */

/* Returns the text after the words of @name in @line, NULL if @line begins with other words. Words
 * are separated by any number of blanks. A format may follow the last word directly: x/4. */
static const char *hmp_match(const char *line, const char *name)
{
    while (name != NULL && *name != '\0') {
        if (*name == ' ' && g_ascii_isspace(*line)) {
            line += strspn(line, " \t");
            name++;
        } else if (*name++ != *line++) {
            return NULL;
        }
    }
    return name != NULL && (*line == '\0' || *line == '/' || g_ascii_isspace(*line)) ? line : NULL;
}

const HmpCommand *hmp_command_find(const char *line, const char **rest)
{
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            if ((*rest = hmp_match(line, c->name)) != NULL ||
                (*rest = hmp_match(line, c->alias)) != NULL) {
                return c;
            }
        }
    }
    return NULL;
}

/* ---- help ---- */

static void hmp_append_param(GString *out, const HmpParam *p)
{
    bool optional = p->optional || p->kind == HMP_ARG_FLAG || p->kind == HMP_ARG_FORMAT;
    g_string_append(out, optional ? " [" : " ");
    switch (p->kind) {
    case HMP_ARG_FLAG:
        g_string_append_printf(out, "-%c", p->flag);
        break;
    case HMP_ARG_FORMAT:
        g_string_append(out, "/fmt");
        break;
    case HMP_ARG_SWITCH:
        g_string_append(out, "on|off");
        break;
    case HMP_ARG_OPTS:
        g_string_append_printf(out, "%s[,prop=value][,...]", p->name);
        break;
    default:
        g_string_append(out, p->name);
        break;
    }
    g_string_append(out, optional ? "]" : "");
}

void hmp_append_usage(GString *out, const HmpCommand *c)
{
    g_string_append(out, c->name);
    if (c->alias != NULL) {
        g_string_append_printf(out, "|%s", c->alias);
    }
    for (const HmpParam *p = c->params; p != NULL && p->name != NULL; p++) {
        hmp_append_param(out, p);
    }
}

/* ---- executing ---- */

/* Returns the first word, or the first two for `info x`. */
static char *hmp_command_words(const char *line)
{
    g_auto(GStrv) words = g_strsplit_set(line, " \t", -1);
    g_autoptr(GString) name = g_string_new(words[0]);
    for (char **word = words + 1; strcmp(words[0], "info") == 0 && *word != NULL; word++) {
        if ((*word)[0] != '\0') {
            g_string_append_printf(name, " %s", *word);
            break;
        }
    }
    return g_string_free(g_steal_pointer(&name), false);
}

/* Returns the command name, without @prefix, that is nearest to @name; NULL if none is near. */
static const char *hmp_nearest(const char *prefix, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const HmpCommand *const *table = hmp_command_tables; *table != NULL; table++) {
        for (const HmpCommand *c = *table; c->name != NULL; c++) {
            if (g_str_has_prefix(c->name, prefix)) {
                g_ptr_array_add(names, (char *)(uintptr_t)(c->name + strlen(prefix)));
            }
        }
    }
    g_ptr_array_add(names, NULL);
    return opt_nearest(name, (const char *const *)names->pdata);
}

void hmp_unknown(HmpCall *call, const char *line)
{
    g_autofree char *name = hmp_command_words(line);
    g_autofree char *excerpt = opt_excerpt(name);
    const char *prefix = g_str_has_prefix(name, "info ") ? "info " : "";
    hmp_printf(call, "unknown command: '%s'; ", excerpt);
    const char *nearest = hmp_lacking_nearest(name);
    if (nearest != NULL) {
        bool none = g_str_has_prefix(nearest, "none: ");
        hmp_printf(call, "%s%s\n", none ? "" : "nearest is ",
                   none ? nearest + strlen("none: ") : nearest);
        return;
    }
    nearest = hmp_nearest(prefix, name + strlen(prefix));
    if (nearest != NULL) {
        hmp_printf(call, "did you mean %s%s?\n", prefix, nearest);
    } else {
        hmp_printf(call, "help lists the commands\n");
    }
}

static coroutine_fn RUNS_IN_MAIN void hmp_co_run(HmpCall *call, const char *text)
{
    g_autoptr(GError) error = NULL;
    const HmpCommand *c = call->command;
    struct json_object *args = hmp_co_parse_args(call, text, &error);
    if (args == NULL) {
        hmp_printf(call, "%s: %s; usage: ", c->name, error->message);
        hmp_append_usage(call->out, c);
        hmp_printf(call, "\n");
        return;
    }
    if (c->run != NULL) {
        c->run(call, args);
        json_object_put(args);
        return;
    }
    if (c->on_cpu) {
        qmp_put_int(args, "cpu-index", *call->cpu);
    }
    struct json_object *result = hmp_co_qmp(call, c->qmp, args);
    if (result != NULL && c->print != NULL) {
        c->print(call, result);
    }
    json_object_put(result);
}

void hmp_co_execute_on(Vm *vm, unsigned *cpu, const char *line, GString *out)
{
    HmpCall call = {.vm = vm, .cpu = cpu, .out = out};
    const char *rest;
    line += strspn(line, " \t");
    if (*line == '\0') {
        return;
    }
    if (strlen(line) > HMP_LINE_MAX || !g_utf8_validate(line, -1, NULL)) {
        hmp_printf(&call, "a line is UTF-8 of at most %d bytes\n", HMP_LINE_MAX);
        return;
    }
    call.command = hmp_command_find(line, &rest);
    if (call.command == NULL) {
        hmp_unknown(&call, line);
    } else {
        hmp_co_run(&call, rest);
    }
}

void hmp_co_execute(Vm *vm, const char *line, GString *out)
{
    unsigned cpu = 0;
    hmp_co_execute_on(vm, &cpu, line, out);
}
