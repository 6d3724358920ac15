/* SPDX-License-Identifier: Apache-2.0 */
/* Commands and events of character devices (docs/character-devices.md). */
#include <string.h>
#include <unistd.h>
#include "hw/chardev/chardev_set.h"
#include "vmm/monitor/commands/qmp_chardev_backend.h"
#include "vmm/monitor/qmp/qmp_session.h"

/* ---- queries ---- */

static const QmpType chardev_info = {
    .name = "ChardevInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"label", &qmp_str, .doc = "its id"}, {"filename", &qmp_str, .doc = "its backend"},
        {"frontend-open", &qmp_bool, .doc = "whether a device or monitor uses it"})};
static const QmpType chardev_info_list = {.kind = QMP_KIND_ARRAY, .element = &chardev_info};

static void qmp_add_chardev(const ChardevInfo *info, void *opaque)
{
    struct json_object *item = json_object_new_object();
    qmp_put_str(item, "label", info->id);
    qmp_put_str(item, "filename", info->filename);
    qmp_put_bool(item, "frontend-open", info->frontend_open);
    json_object_array_add(opaque, item);
}

static struct json_object *qmp_query_chardev(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array();
    chardev_foreach(qmp_add_chardev, list);
    return list;
}

static const QmpType chardev_backend_info = {
    .name = "ChardevBackendInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "as in -chardev and chardev-add"})};
static const QmpType chardev_backend_info_list = {.kind = QMP_KIND_ARRAY,
                                                  .element = &chardev_backend_info};

static struct json_object *qmp_query_chardev_backends(QmpCall *call, struct json_object *args,
                                                      GError **error)
{
    struct json_object *list = json_object_new_array();
    for (const char *const *name = chardev_backend_names(); *name != NULL; name++) {
        struct json_object *item = json_object_new_object();
        qmp_put_str(item, "name", *name);
        json_object_array_add(list, item);
    }
    return list;
}

/* ---- adding and removing ---- */

static const QmpType chardev_add_args = {
    .name = "q_obj_chardev-add-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the new chardev's id"},
                           {"backend", &qmp_chardev_backend, .doc = "its backend"})};
static const QmpType chardev_return = {
    .name = "ChardevReturn",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"pty", &qmp_str, true, "for a pty: path of the pseudo-terminal"})};

typedef struct QmpChardevPty {
    const char *id;
    struct json_object *result;
} QmpChardevPty;

static void qmp_find_pty(const ChardevInfo *info, void *opaque)
{
    QmpChardevPty *pty = opaque;
    const char *name = info->filename;
    if (g_strcmp0(info->id, pty->id) == 0 && g_str_has_prefix(name, "pty:")) {
        qmp_put_str(pty->result, "pty", name + strlen("pty:"));
    }
}

/* Called when the QMP client of a waiting chardev-add has left: the chardev's peer may never
 * connect. */
static void qmp_chardev_call_off(void *opaque)
{
    enter_main();
    chardev_call_off(opaque);
}

static struct json_object *qmp_chardev_add(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    enter_coroutine();
    const char *id = qmp_arg_str(args, "id");
    int fd;
    OptDict *options = qmp_chardev_options(qmp_arg_get(args, "backend"), call->session, &fd, error);
    if (options == NULL) {
        return NULL;
    }
    opt_dict_set(options, "id", id);
    qmp_session_on_left(call->session, qmp_chardev_call_off, (void *)(uintptr_t)id);
    bool ok = chardev_co_add(options, error);
    if (fd >= 0) {
        close(fd); /* the chardev has a duplicate */
    }
    if (!ok) {
        return NULL;
    }
    QmpChardevPty pty = {.id = id, .result = json_object_new_object()};
    chardev_foreach(qmp_find_pty, &pty);
    return pty.result;
}

static const QmpType chardev_id_args = {
    .name = "q_obj_chardev-remove-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "the chardev's id"})};

static struct json_object *qmp_chardev_remove(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    enter_coroutine();
    chardev_co_remove(qmp_arg_str(args, "id"), error);
    return NULL;
}

static struct json_object *qmp_chardev_send_break(QmpCall *call, struct json_object *args,
                                                  GError **error)
{
    enter_main();
    chardev_send_break(qmp_arg_str(args, "id"), error);
    return NULL;
}

static const QmpCommand qmp_chardev_commands[] = {
    {"query-chardev", NULL, &chardev_info_list, QMP_INSTANT, qmp_query_chardev,
     "The character devices and their backends."},
    {"query-chardev-backends", NULL, &chardev_backend_info_list, QMP_INSTANT | QMP_EARLY,
     qmp_query_chardev_backends, "The backends that chardev-add takes."},
    {"chardev-add", &chardev_add_args, &chardev_return, 0, qmp_chardev_add,
     "Adds a character device for device_add. A socket is by default a server that does not wait "
     "for its client. With wait=true, chardev-remove ends the wait, and so does the end of the QMP "
     "client's connection."},
    {"chardev-remove", &chardev_id_args, NULL, 0, qmp_chardev_remove,
     "Removes an unused character device. Fails for one in use. Ends a chardev-add that still "
     "waits."},
    {"chardev-send-break", &chardev_id_args, NULL, QMP_INSTANT, qmp_chardev_send_break,
     "Sends a break to the device that receives the input of a character device."},
    {0},
};

/* ---- events ---- */

static const QmpType vserport_change = {
    .name = "q_obj_VSERPORT_CHANGE-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"id", &qmp_str, .doc = "id of the virtio-serial port"},
                           {"open", &qmp_bool, .doc = "whether the guest has it open"}),
};

static const QmpEvent qmp_chardev_events[] = {
    {"VSERPORT_CHANGE", &vserport_change,
     "The guest has opened or closed a virtio-serial port that has an id. At most one event per "
     "second and port: a later change is reported when the second is over."},
    {0},
};

QMP_GROUP(chardev);
