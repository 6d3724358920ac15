/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/qmp/qmp_request.h"

#include <string.h>
#include <unistd.h>
#include "util/opts/json.h"
#include "vmm/monitor/qmp/qmp_framer.h"

/* The version of QEMU whose protocol skiff implements. */
#define QMP_QEMU_MAJOR 10

static void qmp_request_fail(QmpRequest *r, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void qmp_request_fail(QmpRequest *r, const char *format, ...)
{
    va_list ap;
    if (r->error != NULL) {
        return; /* the first error is reported */
    }
    va_start(ap, format);
    r->error = g_error_new_valist(QMP_ERROR, QMP_ERROR_GENERIC, format, ap);
    va_end(ap);
}

void qmp_request_parse_error(QmpRequest *r, const char *why)
{
    *r = (QmpRequest){0};
    qmp_request_fail(r, "JSON parse error, %s", why);
}

static void qmp_request_take_member(QmpRequest *r, const char *key, struct json_object *value,
                                    bool oob)
{
    bool is_oob = oob && strcmp(key, "exec-oob") == 0;
    if (is_oob || strcmp(key, "execute") == 0) {
        if (r->name != NULL) {
            qmp_request_fail(r, "QMP input has both 'execute' and 'exec-oob'");
        } else if (!json_object_is_type(value, json_type_string)) {
            qmp_request_fail(r, "QMP input member '%s' must be a string", key);
        } else {
            r->name = json_object_get_string(value);
            r->oob = is_oob;
        }
    } else if (strcmp(key, "arguments") == 0) {
        if (!json_object_is_type(value, json_type_object)) {
            qmp_request_fail(r, "QMP input member 'arguments' must be an object");
        }
        r->args = value;
    } else if (strcmp(key, "id") != 0) {
        g_autofree char *excerpt = opt_excerpt(key);
        qmp_request_fail(r, "QMP input member '%s' is unexpected", excerpt);
    }
}

void qmp_request_parse(QmpRequest *r, const char *text, size_t length, bool oob)
{
    g_autoptr(GError) error = NULL;
    *r = (QmpRequest){.size = length};
    r->input = json_parse_text(text, length, QMP_VALUE_DEPTH, &error);
    if (r->input == NULL) {
        const char *why = error->message;
        qmp_request_fail(r, "JSON parse error, %s",
                         g_str_has_prefix(why, "JSON: ") ? why + strlen("JSON: ") : why);
        return;
    }
    if (!json_object_is_type(r->input, json_type_object)) {
        qmp_request_fail(r, "QMP input must be a JSON object");
        return;
    }
    json_object_object_foreach(r->input, key, value)
    {
        qmp_request_take_member(r, key, value, oob);
    }
    if (r->name == NULL) {
        qmp_request_fail(r, "QMP input lacks member 'execute'");
    }
}

void qmp_request_clear(QmpRequest *r)
{
    while (r->fd_count > 0) {
        close(r->fds[--r->fd_count]);
    }
    json_object_put(r->input);
    g_clear_error(&r->error);
    *r = (QmpRequest){0};
}

/* ---- output ---- */

static void qmp_write_line(struct json_object *message, bool pretty, GString *out)
{
    json_write_text(out, message, pretty);
    g_string_append(out, "\r\n");
    json_object_put(message);
}

void qmp_request_reply(const QmpRequest *r, struct json_object *result, const GError *error,
                       bool pretty, GString *out)
{
    struct json_object *reply = json_object_new_object(), *id;
    if (error != NULL) {
        struct json_object *failure = json_object_new_object();
        qmp_put_str(failure, "class", qmp_error_class(error));
        qmp_put_str(failure, "desc", error->message);
        qmp_put(reply, "error", failure);
    } else {
        qmp_put(reply, "return", json_object_get(result));
    }
    if (json_object_is_type(r->input, json_type_object) &&
        json_object_object_get_ex(r->input, "id", &id)) {
        qmp_put(reply, "id", json_object_get(id));
    }
    qmp_write_line(reply, pretty, out);
}

struct json_object *qmp_version(void)
{
    struct json_object *version = json_object_new_object(), *qemu = json_object_new_object();
    qmp_put_int(qemu, "micro", 0);
    qmp_put_int(qemu, "minor", 0);
    qmp_put_int(qemu, "major", QMP_QEMU_MAJOR);
    qmp_put(version, "qemu", qemu);
    qmp_put_str(version, "package", "skiff " SKIFF_VERSION);
    return version;
}

void qmp_greeting_write(bool pretty, GString *out)
{
    struct json_object *greeting = json_object_new_object(), *qmp = json_object_new_object();
    struct json_object *capabilities = json_object_new_array();
    json_object_array_add(capabilities, json_object_new_string("oob"));
    qmp_put(qmp, "version", qmp_version());
    qmp_put(qmp, "capabilities", capabilities);
    qmp_put(greeting, "QMP", qmp);
    qmp_write_line(greeting, pretty, out);
}

void qmp_event_write(const QmpEvent *event, struct json_object *data, int64_t realtime_us,
                     bool pretty, GString *out)
{
    struct json_object *message = json_object_new_object(), *timestamp = json_object_new_object();
    qmp_put_int(timestamp, "seconds", realtime_us / G_USEC_PER_SEC);
    qmp_put_int(timestamp, "microseconds", realtime_us % G_USEC_PER_SEC);
    qmp_put(message, "timestamp", timestamp);
    qmp_put_str(message, "event", event->name);
    if (event->data != NULL) {
        qmp_put(message, "data", json_object_get(data));
    }
    qmp_write_line(message, pretty, out);
}
