/* SPDX-License-Identifier: Apache-2.0 */
/* Executes commands and emits events. */
#include <string.h>
#include "util/opts/opts.h"
#include "vmm/monitor/qmp/qmp.h"

/* ---- commands ---- */

static struct json_object *qmp_run(QmpCall *call, struct json_object *args, GError **error)
    coroutine_fn RUNS_IN_MAIN;
static struct json_object *qmp_run(QmpCall *call, struct json_object *args, GError **error)
{
    static const QmpType none = {.name = "q_empty", .kind = QMP_KIND_STRUCT};
    static const QmpType empty = {.name = "q_empty", .kind = QMP_KIND_STRUCT, .open = true};
    const QmpCommand *c = call->command;
    if (!qmp_check(c->args != NULL ? c->args : &none, args, "arguments", error)) {
        return NULL;
    }
    GError *failure = NULL;
    struct json_object *result = c->run(call, args, &failure);
    if (failure != NULL) {
        g_propagate_error(error, failure);
        json_object_put(result);
        return NULL;
    }
    result = result != NULL ? result : json_object_new_object();
#ifdef SKIFF_TESTING
    if (!qmp_check(c->ret != NULL ? c->ret : &empty, result, "return", &failure)) {
        bug_abort("the result of %s does not match its schema: %s", c->name, failure->message);
    }
#else
    (void)empty;
#endif
    return result;
}

struct json_object *qmp_co_execute(Vm *vm, QmpSession *session, const char *name,
                                   struct json_object *args, GError **error)
{
    const QmpCommand *c = qmp_command_find(name);
    if (c == NULL) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_COMMAND_NOT_FOUND,
                    "The command %s has not been found", excerpt);
        return NULL;
    }
    if (vm != NULL && !vm->built && (c->flags & QMP_EARLY) == 0) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "The machine is not built yet: try again in a moment");
        return NULL;
    }
    QmpCall call = {.vm = vm, .session = session, .command = c};
    struct json_object *checked = args != NULL ? json_object_get(args) : json_object_new_object();
    struct json_object *result = qmp_run(&call, checked, error);
    json_object_put(checked);
    return result;
}

/* ---- arguments and results ---- */

struct json_object *qmp_arg_get(struct json_object *args, const char *name)
{
    struct json_object *value = NULL;
    return json_object_object_get_ex(args, name, &value) ? value : NULL;
}

bool qmp_arg_has(struct json_object *args, const char *name)
{
    return json_object_object_get_ex(args, name, NULL);
}

static struct json_object *qmp_arg_typed(struct json_object *args, const char *name, json_type type)
{
    struct json_object *value = qmp_arg_get(args, name);
    if (value != NULL && !json_object_is_type(value, type)) {
        bug_abort("the schema allows a type of '%s' that the command does not expect", name);
    }
    return value;
}

const char *qmp_arg_str(struct json_object *args, const char *name)
{
    struct json_object *value = qmp_arg_typed(args, name, json_type_string);
    return value != NULL ? json_object_get_string(value) : NULL;
}

int64_t qmp_arg_int(struct json_object *args, const char *name, int64_t def)
{
    struct json_object *value = qmp_arg_typed(args, name, json_type_int);
    return value != NULL ? json_object_get_int64(value) : def;
}

uint64_t qmp_arg_u64(struct json_object *args, const char *name, uint64_t def)
{
    struct json_object *value = qmp_arg_typed(args, name, json_type_int);
    if (value == NULL) {
        return def;
    }
    int64_t number = json_object_get_int64(value);
    return number < 0 ? (uint64_t)number : json_object_get_uint64(value);
}

bool qmp_arg_bool(struct json_object *args, const char *name, bool def)
{
    struct json_object *value = qmp_arg_typed(args, name, json_type_boolean);
    return value != NULL ? json_object_get_boolean(value) : def;
}

int qmp_arg_enum(struct json_object *args, const char *name, const QmpType *type)
{
    const char *text = qmp_arg_str(args, name);
    for (int i = 0; text != NULL && type->values[i] != NULL; i++) {
        if (strcmp(text, type->values[i]) == 0) {
            return i;
        }
    }
    return -1;
}

void qmp_put(struct json_object *object, const char *name, struct json_object *value)
{
    json_object_object_add(object, name, value);
}

void qmp_put_str(struct json_object *object, const char *name, const char *value)
{
    qmp_put(object, name, json_object_new_string(value));
}

void qmp_put_int(struct json_object *object, const char *name, int64_t value)
{
    qmp_put(object, name, json_object_new_int64(value));
}

void qmp_put_u64(struct json_object *object, const char *name, uint64_t value)
{
    qmp_put(object, name, json_object_new_uint64(value));
}

void qmp_put_bool(struct json_object *object, const char *name, bool value)
{
    qmp_put(object, name, json_object_new_boolean(value));
}

/* ---- events ---- */

static QmpEventListener *qmp_listeners; /* main */

void qmp_event_listen(QmpEventListener *l)
{
    l->next = qmp_listeners;
    qmp_listeners = l;
}

void qmp_event_unlisten(QmpEventListener *l)
{
    for (QmpEventListener **at = &qmp_listeners; *at != NULL; at = &(*at)->next) {
        if (*at == l) {
            *at = l->next;
            return;
        }
    }
}

void qmp_event_emit(const char *name, struct json_object *data)
{
    static const QmpType none = {.name = "q_empty", .kind = QMP_KIND_STRUCT};
    const QmpEvent *event = qmp_event_find(name);
    if (event == NULL) {
        bug_abort("the event %s is not in the schema", name);
    }
    struct json_object *told = data != NULL ? data : json_object_new_object();
#ifdef SKIFF_TESTING
    GError *failure = NULL;
    if (!qmp_check(event->data != NULL ? event->data : &none, told, "data", &failure)) {
        bug_abort("the data of %s does not match its schema: %s", name, failure->message);
    }
#else
    (void)none;
#endif
    int64_t now_us = g_get_real_time();
    for (QmpEventListener *l = qmp_listeners, *next; l != NULL; l = next) {
        next = l->next; /* @l may unlisten in its callback */
        l->event(l, event, told, now_us);
    }
    json_object_put(told);
}
