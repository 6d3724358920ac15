/* SPDX-License-Identifier: Apache-2.0 */
/* Trace events at run time. */
#include <fnmatch.h>
#include <string.h>
#include "util/opts/opts.h"
#include "util/trace.h"
#include "vmm/monitor/qmp/qmp.h"

static const QmpType qmp_trace_event_state = {.name = "TraceEventState",
                                              .kind = QMP_KIND_ENUM,
                                              .values =
                                                  QMP_VALUES("unavailable", "disabled", "enabled")};
static const QmpType qmp_trace_event_info = {
    .name = "TraceEventInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "the event"},
                           {"state", &qmp_trace_event_state, .doc = "on or off"})};
static const QmpType qmp_trace_event_list = {.kind = QMP_KIND_ARRAY,
                                             .element = &qmp_trace_event_info};
static const QmpType qmp_trace_get_args = {
    .name = "trace-event-get-state-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "an event, or a glob: \"virtio_*\""})};
static const QmpType qmp_trace_set_args = {
    .name = "trace-event-set-state-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"name", &qmp_str, .doc = "an event, or a glob: \"virtio_*\""},
        {"enable", &qmp_bool, .doc = "on or off"},
        {"ignore-unavailable", &qmp_bool, true, "no effect: every event can be turned on"})};

static bool qmp_is_glob(const char *name)
{
    return strpbrk(name, "*?[") != NULL;
}

static void qmp_unknown_event(const char *name, GError **error)
{
    g_autofree char *excerpt = opt_excerpt(name);
    g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "unknown event \"%s\"", excerpt);
}

typedef struct QmpTraceList {
    const char *glob;
    struct json_object *list;
} QmpTraceList;

static void qmp_list_trace_event(const TraceEvent *event, void *opaque)
{
    QmpTraceList *l = opaque;
    if (fnmatch(l->glob, event->name, 0) != 0) {
        return;
    }
    struct json_object *info = json_object_new_object();
    bool enabled = __atomic_load_n(&event->enabled, __ATOMIC_RELAXED);
    qmp_put_str(info, "name", event->name);
    qmp_put_str(info, "state", enabled ? "enabled" : "disabled");
    json_object_array_add(l->list, info);
}

static struct json_object *qmp_trace_get_state(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    QmpTraceList l = {.glob = qmp_arg_str(args, "name"), .list = json_object_new_array()};
    trace_foreach(qmp_list_trace_event, &l);
    if (json_object_array_length(l.list) == 0 && !qmp_is_glob(l.glob)) {
        qmp_unknown_event(l.glob, error);
    }
    return l.list;
}

static struct json_object *qmp_trace_set_state(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    const char *name = qmp_arg_str(args, "name");
    if (trace_set(name, qmp_arg_bool(args, "enable", false)) == 0 && !qmp_is_glob(name)) {
        qmp_unknown_event(name, error);
    }
    return NULL;
}

static const QmpCommand qmp_trace_commands[] = {
    {"trace-event-get-state", &qmp_trace_get_args, &qmp_trace_event_list, QMP_INSTANT | QMP_EARLY,
     qmp_trace_get_state, "The state of the trace events that match a name."},
    {"trace-event-set-state", &qmp_trace_set_args, NULL, QMP_INSTANT | QMP_EARLY,
     qmp_trace_set_state, "Turns trace events on or off."},
    {0},
};
static const QmpEvent qmp_trace_events[] = {{0}};

QMP_GROUP(trace);
