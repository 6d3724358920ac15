/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities that tools query before they start a VM: machines, CPU models. Command-line options
 * are in qmp_machine_options.c. */
#include <string.h>
#include "vmm/monitor/commands/qmp_machine.h"
#include "vmm/monitor/commands/qmp_qom.h"

/* ---- query-target ---- */

static const QmpType qmp_sys_emu_target = {
    .name = "SysEmuTarget",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES(ARCH_NAME),
};
static const QmpType qmp_target_info = {
    .name = "TargetInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"arch", &qmp_sys_emu_target, .doc = "the architecture"}),
};

static struct json_object *qmp_query_target(QmpCall *call, struct json_object *args, GError **error)
{
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "arch", ARCH_NAME);
    return info;
}

/* ---- query-machines ---- */

static const QmpType qmp_machine_info = {
    .name = "MachineInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"name", &qmp_str, .doc = "its name for -machine"},
        {"alias", &qmp_str, true, "another name for -machine"},
        {"is-default", &qmp_bool, true, "whether it is the default of -machine"},
        {"cpu-max", &qmp_int, .doc = "maximum number of vCPUs on this host"},
        {"hotpluggable-cpus", &qmp_bool, .doc = "always false: vCPUs are fixed at the start"},
        {"numa-mem-supported", &qmp_bool, .doc = "always false: there are no NUMA nodes"},
        {"deprecated", &qmp_bool, .doc = "always false"},
        {"default-cpu-type", &qmp_str, true, "the type of its vCPUs without -cpu"},
        {"default-ram-id", &qmp_str, true, "the id of its memory backend without -object"},
        {"acpi", &qmp_bool, .doc = "always true"}),
};
static const QmpType qmp_machine_list = {.kind = QMP_KIND_ARRAY, .element = &qmp_machine_info};

static const QmpType qmp_query_machines_args = {
    .name = "query-machines-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"compat-props", &qmp_bool, true,
                            "no effect: there is one version, so no property is overridden"}),
};

static struct json_object *qmp_query_machines(QmpCall *call, struct json_object *args,
                                              GError **error)
{
    enter_main();
    struct json_object *list = json_object_new_array(), *info = json_object_new_object();
    g_autofree char *cpu = qom_cpu_type("host");
    qmp_put_str(info, "name", "pc-q35");
    qmp_put_str(info, "alias", "q35");
    qmp_put_bool(info, "is-default", true);
    qmp_put_int(info, "cpu-max", MIN(call->vm->machine.kvm.max_vcpus, ARCH_MAX_VCPUS));
    qmp_put_bool(info, "hotpluggable-cpus", false);
    qmp_put_bool(info, "numa-mem-supported", false);
    qmp_put_bool(info, "deprecated", false);
    qmp_put_str(info, "default-cpu-type", cpu);
    qmp_put_str(info, "default-ram-id", "pc.ram");
    qmp_put_bool(info, "acpi", true);
    json_object_array_add(list, info);
    return list;
}

/* ---- query-cpu-definitions ---- */

static const QmpType qmp_cpu_definition = {
    .name = "CpuDefinitionInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"name", &qmp_str, .doc = "its name for -cpu"},
        {"migration-safe", &qmp_bool, true, "always false: it depends on the host"},
        {"static", &qmp_bool, .doc = "always false: it depends on the host"},
        {"unavailable-features", &qmp_str_list, true, "always empty: models follow the host"},
        {"typename", &qmp_str, .doc = "the type of its vCPUs"},
        {"deprecated", &qmp_bool, .doc = "always false"}),
};
static const QmpType qmp_cpu_definition_list = {.kind = QMP_KIND_ARRAY,
                                                .element = &qmp_cpu_definition};

static struct json_object *qmp_query_cpu_definitions(QmpCall *call, struct json_object *args,
                                                     GError **error)
{
    struct json_object *list = json_object_new_array();
    for (const char *const *name = arch_cpu_models; *name != NULL; name++) {
        struct json_object *info = json_object_new_object();
        g_autofree char *type = qom_cpu_type(*name);
        qmp_put_str(info, "name", *name);
        qmp_put_bool(info, "migration-safe", false);
        qmp_put_bool(info, "static", false);
        qmp_put(info, "unavailable-features", json_object_new_array());
        qmp_put_str(info, "typename", type);
        qmp_put_bool(info, "deprecated", false);
        json_object_array_add(list, info);
    }
    return list;
}

/* ---- query-cpu-model-expansion ---- */

static const QmpType qmp_cpu_model_info = {
    .name = "CpuModelInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "its name for -cpu"},
                           {"props", &qmp_any, true, "features, true or false"}),
};
static const QmpType qmp_cpu_expansion_type = {
    .name = "CpuModelExpansionType",
    .kind = QMP_KIND_ENUM,
    .values = QMP_VALUES("static", "full"),
};
static const QmpType qmp_cpu_expansion_args = {
    .name = "query-cpu-model-expansion-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS(
        {"type", &qmp_cpu_expansion_type,
         .doc = "both list every feature and keep the name, as there is no model \"base\""},
        {"model", &qmp_cpu_model_info, .doc = "the model to expand"}),
};
static const QmpType qmp_cpu_expansion = {
    .name = "CpuModelExpansionInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"model", &qmp_cpu_model_info, .doc = "with all its features"}),
};

static void qmp_put_feature(const char *name, bool on, void *opaque)
{
    qmp_put_bool(opaque, name, on);
}

/* Appends a property in the syntax of -cpu. Refuses a comma, which would begin another property. */
static bool qmp_append_feature(GString *text, const char *name, struct json_object *value,
                               GError **error)
{
    const char *word = json_object_get_string(value);
    if (json_object_is_type(value, json_type_boolean)) {
        word = json_object_get_boolean(value) ? "on" : "off";
    } else if (!json_object_is_type(value, json_type_string) &&
               !json_object_is_type(value, json_type_int)) {
        word = NULL;
    }
    if (word == NULL || strpbrk(name, ",=+") != NULL || name[0] == '-' || strchr(word, ',')) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "'%s' is not a feature with a plain value",
                    excerpt);
        return false;
    }
    g_string_append_printf(text, ",%s=%s", name, word);
    return true;
}

/* Returns the model in the syntax of -cpu, owned by the caller; NULL and @error on failure. */
static char *qmp_cpu_model_text(const char *name, struct json_object *props, GError **error)
{
    if (!g_strv_contains(arch_cpu_models, name)) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "CPU model '%s' not found", excerpt);
        return NULL;
    }
    GString *text = g_string_new(name);
    bool ok = true;
    if (props != NULL && !json_object_is_type(props, json_type_object)) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Invalid parameter type for 'model.props', expected: object");
        ok = false;
    } else if (props != NULL) {
        json_object_object_foreach(props, key, value)
        {
            ok = ok && qmp_append_feature(text, key, value, error);
        }
    }
    return g_string_free(text, !ok);
}

static struct json_object *qmp_query_cpu_model_expansion(QmpCall *call, struct json_object *args,
                                                         GError **error)
{
    enter_main();
    struct json_object *model = qmp_arg_get(args, "model");
    const char *name = qmp_arg_str(model, "name");
    g_autofree char *text = qmp_cpu_model_text(name, qmp_arg_get(model, "props"), error);
    if (text == NULL) {
        return NULL;
    }
    struct json_object *props = json_object_new_object();
    if (!arch_cpu_expand(&call->vm->machine.kvm, text, qmp_put_feature, props, error)) {
        json_object_put(props);
        return NULL;
    }
    struct json_object *info = json_object_new_object(), *expanded = json_object_new_object();
    qmp_put_str(expanded, "name", name);
    qmp_put(expanded, "props", props);
    qmp_put(info, "model", expanded);
    return info;
}

static const QmpCommand qmp_machine_commands[] = {
    {"query-target", NULL, &qmp_target_info, QMP_INSTANT | QMP_EARLY, qmp_query_target,
     "The architecture of the guest."},
    {"query-machines", &qmp_query_machines_args, &qmp_machine_list, QMP_INSTANT, qmp_query_machines,
     "The machine of -machine. There is one."},
    {"query-cpu-definitions", NULL, &qmp_cpu_definition_list, QMP_INSTANT | QMP_EARLY,
     qmp_query_cpu_definitions, "The models of -cpu."},
    {"query-cpu-model-expansion", &qmp_cpu_expansion_args, &qmp_cpu_expansion, QMP_INSTANT,
     qmp_query_cpu_model_expansion,
     "The features of a CPU model on this host. A feature that the host lacks is an error, as it "
     "is "
     "for -cpu."},
    {"query-command-line-options", &qmp_options_args, &qmp_options_list, QMP_INSTANT | QMP_EARLY,
     qmp_query_command_line_options,
     "Command-line options with parameters. device-list-properties lists those of devices, "
     "qom-list-properties of objects, query-qmp-schema of block nodes and drives."},
    {0},
};
static const QmpEvent qmp_machine_events[] = {{0}};

QMP_GROUP(machine);
