/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol: negotiation, version, lists of commands and events. */
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/monitor/qmp/qmp_introspect.h"
#include "vmm/monitor/qmp/qmp_request.h"
#include "vmm/monitor/qmp/qmp_session.h"

static const QmpType qmp_capability = {
    .name = "QMPCapability", .kind = QMP_KIND_ENUM, .values = QMP_VALUES("oob")};
static const QmpType qmp_capability_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_capability};
static const QmpType qmp_capabilities_args = {
    .name = "qmp_capabilities-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"enable", &qmp_capability_list, true, "capabilities of the greeting to enable"})};

static struct json_object *qmp_capabilities(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    struct json_object *enable = qmp_arg_get(args, "enable");
    bool oob = enable != NULL && json_object_array_length(enable) > 0;
    qmp_session_negotiate(call->session, oob, error);
    return NULL;
}

/* ---- version ---- */

static const QmpType qmp_version_triple = {
    .name = "VersionTriple",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"micro", &qmp_int, .doc = "0"}, {"minor", &qmp_int, .doc = "0"},
                           {"major", &qmp_int, .doc = "10"})};
static const QmpType qmp_version_info = {
    .name = "VersionInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"qemu", &qmp_version_triple, .doc = "the implemented QEMU protocol"},
                           {"package", &qmp_str, .doc = "\"skiff \" and its own version"})};

static struct json_object *qmp_query_version(QmpCall *call, struct json_object *args,
                                             GError **error)
{
    return qmp_version();
}

/* ---- introspection ---- */

static const QmpType qmp_command_info = {
    .name = "CommandInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "for \"execute\""})};
static const QmpType qmp_command_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_command_info};

static void qmp_list_command(const QmpCommand *c, void *opaque)
{
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "name", c->name);
    json_object_array_add(opaque, info);
}

static struct json_object *qmp_query_commands(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    struct json_object *list = json_object_new_array();
    qmp_command_foreach(qmp_list_command, list);
    return list;
}

static const QmpType qmp_schema_meta_type = {
    .name = "SchemaMetaType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("builtin", "enum", "array", "object", "alternate", "command", "event")};
static const QmpType qmp_schema_info = {
    .name = "SchemaInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"name", &qmp_str,
         .doc = "a command's or event's name; a type's is "
                "only for finding it in this list"},
        {"meta-type", &qmp_schema_meta_type, .doc = "its kind, which determines more members"}),
    .open = true,
    .doc = "Has further members by meta-type, as in QEMU's qapi/introspect.json."};
static const QmpType qmp_schema_info_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_schema_info};

static struct json_object *qmp_query_qmp_schema(QmpCall *call, struct json_object *args,
                                                GError **error)
{
    enter_main();
    return qmp_introspect();
}

static const QmpCommand qmp_protocol_commands[] = {
    {"qmp_capabilities", &qmp_capabilities_args, NULL, QMP_INSTANT | QMP_EARLY | QMP_NEGOTIATION,
     qmp_capabilities, "Ends the capabilities negotiation. The first command of each client."},
    {"query-version", NULL, &qmp_version_info, QMP_INSTANT | QMP_EARLY, qmp_query_version,
     "The version, as in the greeting."},
    {"query-commands", NULL, &qmp_command_list, QMP_INSTANT | QMP_EARLY, qmp_query_commands,
     "The names of all commands."},
    {"query-qmp-schema", NULL, &qmp_schema_info_list, QMP_INSTANT | QMP_EARLY, qmp_query_qmp_schema,
     "All commands, events and types of this protocol."},
    {0},
};
static const QmpEvent qmp_protocol_events[] = {{0}};

QMP_GROUP(protocol);
