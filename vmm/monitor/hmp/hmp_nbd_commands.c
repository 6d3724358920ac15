/* SPDX-License-Identifier: Apache-2.0 */
/* The human monitor: the NBD server. */
#include <string.h>
#include "vmm/monitor/hmp/hmp_complete.h"

/* Sets the error if @text is no address. Returns QMP's form: unix:PATH, fd:NAME, [tcp:]HOST:PORT. */
static struct json_object *nbd_parse_address(const char *text, GError **error)
{
    struct json_object *address = json_object_new_object(), *data = json_object_new_object();
    const char *type = "inet";
    if (g_str_has_prefix(text, "unix:")) {
        type = "unix";
        qmp_put_str(data, "path", text + strlen("unix:"));
    } else if (g_str_has_prefix(text, "fd:")) {
        type = "fd";
        qmp_put_str(data, "str", text + strlen("fd:"));
    } else {
        text += g_str_has_prefix(text, "tcp:") ? strlen("tcp:") : 0;
        const char *colon = strrchr(text, ':');
        size_t length = colon != NULL ? (size_t)(colon - text) : 0;
        bool brackets = length >= 2 && text[0] == '[' && text[length - 1] == ']';
        g_autofree char *host = g_strndup(text + (brackets ? 1 : 0), length - (brackets ? 2 : 0));
        if (colon == NULL) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "error parsing address '%s'", text);
        }
        qmp_put_str(data, "host", host);
        qmp_put_str(data, "port", colon != NULL ? colon + 1 : "");
    }
    qmp_put_str(address, "type", type);
    qmp_put(address, "data", data);
    return address;
}

/* Exports the node of a disk of the guest. False: the error was printed. */
static coroutine_fn RUNS_IN_MAIN bool nbd_co_export(HmpCall *call, struct json_object *disk,
                                                    bool writable)
{
    struct json_object *inserted = qmp_arg_get(disk, "inserted");
    if (inserted == NULL) {
        return true;
    }
    const char *device = qmp_arg_str(disk, "device");
    bool named = device != NULL && *device != '\0';
    struct json_object *args = json_object_new_object();
    qmp_put_str(args, "device", named ? device : qmp_arg_str(inserted, "node-name"));
    qmp_put_bool(args, "writable", writable);
    struct json_object *result = hmp_co_qmp(call, "nbd-server-add", args);
    json_object_put(result);
    return result != NULL;
}

/* Exports all disks; if one cannot be exported, the server is stopped. */
static coroutine_fn RUNS_IN_MAIN void nbd_co_export_all(HmpCall *call, bool writable)
{
    struct json_object *disks = hmp_co_qmp(call, "query-block", NULL);
    size_t count = disks != NULL ? json_object_array_length(disks) : 0;
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        ok = nbd_co_export(call, hmp_item(disks, i), writable);
    }
    json_object_put(disks);
    if (!ok) {
        json_object_put(hmp_co_qmp(call, "nbd-server-stop", NULL));
    }
}

static void nbd_server_start(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    g_autoptr(GError) error = NULL;
    bool all = qmp_arg_bool(args, "all", false), writable = qmp_arg_bool(args, "writable", false);
    if (writable && !all) {
        hmp_printf(call, "Error: -w only valid together with -a\n");
        return;
    }
    struct json_object *start = json_object_new_object();
    qmp_put(start, "addr", nbd_parse_address(qmp_arg_str(args, "uri"), &error));
    if (error != NULL) {
        hmp_error(call, error);
        json_object_put(start);
        return;
    }
    struct json_object *result = hmp_co_qmp(call, "nbd-server-start", start);
    if (result != NULL && all) {
        nbd_co_export_all(call, writable);
    }
    json_object_put(result);
}

static void nbd_server_remove(HmpCall *call, struct json_object *args)
{
    enter_main();
    enter_coroutine();
    struct json_object *remove = json_object_new_object();
    qmp_put_str(remove, "name", qmp_arg_str(args, "name"));
    qmp_put_str(remove, "mode", qmp_arg_bool(args, "force", false) ? "hard" : "safe");
    json_object_put(hmp_co_qmp(call, "nbd-server-remove", remove));
}

/* clang-format off */
const HmpCommand hmp_nbd_commands[] = {
    {"nbd_server_start", NULL,
     HMP_PARAMS(HMP_PARAM("all", FLAG, .flag = 'a'), HMP_PARAM("writable", FLAG, .flag = 'w'),
                HMP_PARAM("uri", WORD)),
     "start the NBD server at host:port or unix:path; -a exports all disks, -w for writing",
     .run = nbd_server_start},
    {"nbd_server_add", NULL,
     HMP_PARAMS(HMP_PARAM("writable", FLAG, .flag = 'w'),
                HMP_PARAM("device", WORD, .complete = hmp_names_disks),
                HMP_PARAM("name", WORD, .optional = true)),
     "export a disk; -w for writing", .qmp = "nbd-server-add"},
    {"nbd_server_remove", NULL,
     HMP_PARAMS(HMP_PARAM("force", FLAG, .flag = 'f'), HMP_PARAM("name", WORD)),
     "remove an export; -f also when it has clients", .run = nbd_server_remove},
    {"nbd_server_stop", NULL, NULL, "stop the NBD server", .qmp = "nbd-server-stop"},
    {0},
};
/* clang-format on */
