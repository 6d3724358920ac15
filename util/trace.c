/* SPDX-License-Identifier: Apache-2.0 */
#include <fnmatch.h>
#include <stdarg.h>
#include <string.h>
#include "util/log.h"
#include "util/opts/opts.h"
#include "util/trace.h"

/* Bounds of the section, set by the linker; weak because a program may have no events. */
extern TraceEvent *const __start_skiff_trace[] __attribute__((weak));
extern TraceEvent *const __stop_skiff_trace[] __attribute__((weak));

void trace_emit(const TraceEvent *event, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    log_trace_line(event->name, format, ap);
    va_end(ap);
}

unsigned trace_set(const char *glob, bool enabled)
{
    unsigned matched = 0;

    for (TraceEvent *const *e = __start_skiff_trace; e != __stop_skiff_trace; e++) {
        if (fnmatch(glob, (*e)->name, 0) == 0) {
            __atomic_store_n(&(*e)->enabled, enabled, __ATOMIC_RELAXED);
            matched++;
        }
    }
    return matched;
}

void trace_foreach(void (*fn)(const TraceEvent *event, void *opaque), void *opaque)
{
    for (TraceEvent *const *e = __start_skiff_trace; e != __stop_skiff_trace; e++) {
        fn(*e, opaque);
    }
}

/* ---- -trace ---- */

static void trace_collect_name(const TraceEvent *event, void *opaque)
{
    g_ptr_array_add(opaque, (gpointer)(uintptr_t)event->name);
}

static bool trace_apply_glob(const char *glob, GError **error)
{
    bool enable = glob[0] != '-';
    g_autoptr(GPtrArray) names = NULL;
    const char *nearest;

    glob += enable ? 0 : 1;
    if (trace_set(glob, enable) > 0) {
        return true;
    }
    names = g_ptr_array_new();
    trace_foreach(trace_collect_name, names);
    g_ptr_array_add(names, NULL);
    nearest = opt_nearest(glob, (const char *const *)names->pdata);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-trace: no event matches '%s'%s%s%s", glob,
                nearest ? "; did you mean '" : "; -trace help lists them", nearest ? nearest : "",
                nearest ? "'?" : "");
    return false;
}

static bool trace_apply_file(const char *path, GError **error)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, error)) {
        g_prefix_error(error, "-trace events=%s: ", path);
        return false;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_strstrip(*line);
        if (**line && **line != '#' && !trace_apply_glob(*line, error)) {
            return false;
        }
    }
    return true;
}

bool trace_configure(const char *argument, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(argument, "enable", error);
    g_autofree char *glob = NULL, *file = NULL;
    static const OptSpec none[] = {{0}};

    if (!d) {
        g_prefix_error(error, "-trace: ");
        return false;
    }
    if (opt_dict_count(d) == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "-trace: needs a pattern; -trace help lists the events");
        return false;
    }
    glob = opt_dict_take(d, "enable");
    file = opt_dict_take(d, "events");
    if (opt_dict_has(d, "file")) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-trace: skiff has no file=; trace lines go to the log (-D)");
        return false;
    }
    if (!opts_bind(none, NULL, d, "-trace", error)) {
        return false;
    }
    return (!glob || trace_apply_glob(glob, error)) && (!file || trace_apply_file(file, error));
}
