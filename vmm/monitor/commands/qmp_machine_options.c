/* SPDX-License-Identifier: Apache-2.0 */
/* query-command-line-options: QEMU's names of the option groups and parameters that skiff supports.
 * A test passes each row to the command line's parser. */
#include <string.h>
#include "vmm/monitor/commands/qmp_machine.h"

#define QMP_OPTION_PARAMETERS_MAX 12

typedef struct QmpOptionParameter {
    const char *name; /* NULL ends a row */
    const char *type;
} QmpOptionParameter;

static const struct QmpOptionGroup {
    const char *option;
    QmpOptionParameter parameters[QMP_OPTION_PARAMETERS_MAX]; /* empty if they depend on a type */
} qmp_option_groups[] = {
    {"action", {{"reboot", "string"}, {"shutdown", "string"}, {"panic", "string"}}},
    {"chardev",
     {{"path", "string"},
      {"host", "string"},
      {"port", "string"},
      {"server", "boolean"},
      {"wait", "boolean"},
      {"append", "boolean"},
      {"mux", "boolean"},
      {"signal", "boolean"},
      {"logfile", "string"},
      {"logappend", "boolean"}}},
    {"device", {{0}}},
    {"drive",
     {{"id", "string"},
      {"if", "string"},
      {"file", "string"},
      {"format", "string"},
      {"cache", "string"},
      {"aio", "string"},
      {"read-only", "boolean"},
      {"discard", "string"}}},
    {"machine", {{"type", "string"}, {"accel", "string"}, {"memory-backend", "string"}}},
    {"memory", {{"size", "size"}}},
    {"mon", {{"mode", "string"}, {"chardev", "string"}, {"pretty", "boolean"}}},
    {"msg", {{"timestamp", "boolean"}}},
    {"object", {{0}}},
    {"rtc", {{"base", "string"}, {"clock", "string"}}},
    {"run-with", {{"chroot", "string"}, {"user", "string"}}},
    {"sandbox",
     {{"enable", "boolean"},
      {"obsolete", "string"},
      {"elevateprivileges", "string"},
      {"spawn", "string"},
      {"resourcecontrol", "string"}}},
    {"smp-opts",
     {{"cpus", "number"},
      {"sockets", "number"},
      {"cores", "number"},
      {"threads", "number"},
      {"maxcpus", "number"}}},
};

static struct json_object *qmp_option_info(const struct QmpOptionGroup *group)
{
    struct json_object *info = json_object_new_object(), *list = json_object_new_array();
    for (const QmpOptionParameter *p = group->parameters; p->name != NULL; p++) {
        struct json_object *parameter = json_object_new_object();
        qmp_put_str(parameter, "name", p->name);
        qmp_put_str(parameter, "type", p->type);
        json_object_array_add(list, parameter);
    }
    qmp_put_str(info, "option", group->option);
    qmp_put(info, "parameters", list);
    return info;
}

struct json_object *qmp_query_command_line_options(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    const char *wanted = qmp_arg_str(args, "option");
    struct json_object *list = json_object_new_array();
    for (unsigned i = 0; i < G_N_ELEMENTS(qmp_option_groups); i++) {
        const struct QmpOptionGroup *group = &qmp_option_groups[i];
        if (wanted == NULL || strcmp(group->option, wanted) == 0) {
            json_object_array_add(list, qmp_option_info(group));
        }
    }
    if (json_object_array_length(list) == 0) {
        g_autofree char *excerpt = opt_excerpt(wanted);
        json_object_put(list);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "invalid option name: %s", excerpt);
        return NULL;
    }
    return list;
}

/* ---- schema ---- */

const QmpType qmp_options_args = {
    .name = "query-command-line-options-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"option", &qmp_str, true, "only this option"}),
};
static const QmpType qmp_option_parameter_type = {
    .name = "CommandLineParameterType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("string", "boolean", "number", "size"),
};
static const QmpType qmp_option_parameter = {
    .name = "CommandLineParameterInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "as in NAME=VALUE"},
                           {"type", &qmp_option_parameter_type, .doc = "the type of VALUE"},
                           {"help", &qmp_str, true, "always absent"},
                           {"default", &qmp_str, true, "always absent"}),
};
static const QmpType qmp_option_parameter_list = {.kind = QMP_KIND_ARRAY,
                                                  .element = &qmp_option_parameter};
static const QmpType qmp_option = {
    .name = "CommandLineOptionInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"option", &qmp_str, .doc = "QEMU's name of the group"},
        {"parameters", &qmp_option_parameter_list, .doc = "empty if they depend on a type"}),
};
const QmpType qmp_options_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_option};
