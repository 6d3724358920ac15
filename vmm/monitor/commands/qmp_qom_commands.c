/* SPDX-License-Identifier: Apache-2.0 */
/* The tree of objects and their properties: qom-list, qom-get, qom-list-properties. */
#include <string.h>
#include "util/opts/json.h"
#include "vmm/arch/smp.h"
#include "vmm/backends/throttle.h"
#include "vmm/monitor/commands/qmp_balloon.h"
#include "vmm/monitor/commands/qmp_cpu.h"
#include "vmm/monitor/commands/qmp_device.h"
#include "vmm/monitor/commands/qmp_object.h"
#include "vmm/monitor/commands/qmp_qom.h"
#include "vmm/monitor/commands/qmp_throttle.h"

/* ---- properties that are not options of a device ---- */

typedef struct QomProperty {
    const char *name; /* NULL ends a table */
    const char *type; /* as QEMU names it */
    const char *doc;
} QomProperty;

static const QomProperty qom_no_properties[] = {{0}};
static const QomProperty qom_machine_properties[] = {
    {"memory", "MemorySizeConfiguration", "size of guest RAM"},
    {"smp", "SMPConfiguration", "CPU topology"},
    {"kernel", "string", "-kernel"},
    {"initrd", "string", "-initrd"},
    {"append", "string", "-append"},
    {"firmware", "string", "-bios"},
    {"memory-backend", "link<memory-backend>", "the -object with guest RAM; may be empty"},
    {0}};
static const QomProperty qom_device_properties[] = {
    {"realized", "bool", "whether it is part of the machine"}, {0}};
static const QomProperty qom_balloon_properties[] = {
    {QMP_BALLOON_STATS, "guest statistics", "the guest's last numbers, and when they came"},
    {QMP_BALLOON_INTERVAL, "int", "seconds between two statistics, 0: none; can be set"},
    {0}};
static const QomProperty qom_cpu_properties[] = {
    {"realized", "bool", "always true"},
    {"socket-id", "int", "socket within the machine"},
    {"core-id", "int", "core within the socket"},
    {"thread-id", "int", "thread within the core"},
    {"unavailable-features", "strList", "always empty: a missing feature is refused at start-up"},
    {0}};
static const QomProperty qom_iothread_properties[] = {
    {"poll-max-ns", "int", "longest busy polling before it sleeps"},
    {"poll-grow", "int", "always 0"},
    {"poll-shrink", "int", "always 0"},
    {"aio-max-batch", "int", "always 0"},
    {0}};
static const QomProperty qom_memory_properties[] = {
    {"size", "int", "bytes"},
    {"share", "bool", "whether others can map it"},
    {"prealloc", "bool", "whether it was allocated beforehand"},
    {"merge", "bool", "always false"},
    {"dump", "bool", "always false"},
    {"reserve", "bool", "always false"},
    {"policy", "HostMemPolicy", "always default"},
    {0}};

static const QomProperty qom_throttle_properties[] = {
    {"limits", "ThrottleLimits", "all limits; can be set"},
    {"x-bps-total", "int", "bytes a second; 0: no limit"},
    {"x-bps-total-max", "int", "the same in a burst"},
    {"x-bps-total-max-length", "int", "seconds of a burst"},
    {"x-bps-read", "int", "bytes a second of reads; 0: no limit"},
    {"x-bps-read-max", "int", "the same in a burst"},
    {"x-bps-read-max-length", "int", "seconds of a burst"},
    {"x-bps-write", "int", "bytes a second of writes; 0: no limit"},
    {"x-bps-write-max", "int", "the same in a burst"},
    {"x-bps-write-max-length", "int", "seconds of a burst"},
    {"x-iops-total", "int", "requests a second; 0: no limit"},
    {"x-iops-total-max", "int", "the same in a burst"},
    {"x-iops-total-max-length", "int", "seconds of a burst"},
    {"x-iops-read", "int", "reads a second; 0: no limit"},
    {"x-iops-read-max", "int", "the same in a burst"},
    {"x-iops-read-max-length", "int", "seconds of a burst"},
    {"x-iops-write", "int", "writes a second; 0: no limit"},
    {"x-iops-write-max", "int", "the same in a burst"},
    {"x-iops-write-max-length", "int", "seconds of a burst"},
    {"x-iops-size", "int", "bytes that count as one request"},
    {0}};

static const QomProperty *const qom_properties[] = {
    [QOM_CONTAINER] = qom_no_properties,      [QOM_MACHINE] = qom_machine_properties,
    [QOM_DEVICE] = qom_device_properties,     [QOM_VIRTIO] = qom_device_properties,
    [QOM_CPU] = qom_cpu_properties,           [QOM_IOTHREAD] = qom_iothread_properties,
    [QOM_MEMORY] = qom_memory_properties,     [QOM_CHARDEV] = qom_no_properties,
    [QOM_THROTTLE] = qom_throttle_properties,
};

/* ---- their values ---- */

static struct json_object *qom_smp_value(const SmpTopology *t)
{
    struct json_object *smp = json_object_new_object();
    qmp_put_int(smp, "cpus", t->cpus);
    qmp_put_int(smp, "drawers", 1);
    qmp_put_int(smp, "books", 1);
    qmp_put_int(smp, "sockets", t->sockets);
    qmp_put_int(smp, "dies", 1);
    qmp_put_int(smp, "clusters", 1);
    qmp_put_int(smp, "modules", 1);
    qmp_put_int(smp, "cores", t->cores);
    qmp_put_int(smp, "threads", t->threads);
    qmp_put_int(smp, "maxcpus", t->cpus);
    return smp;
}

static void qom_put_text(struct json_object *values, const char *name, const char *text)
{
    qmp_put_str(values, name, text != NULL ? text : "");
}

static struct json_object *qom_machine_values(const Vm *vm)
{
    const VmConfig *config = vm->config;
    struct json_object *values = json_object_new_object(), *memory = json_object_new_object();
    SmpTopology topology = {0};
    smp_parse(config->machine.smp, UINT_MAX, &topology, NULL); /* was checked at start-up */
    qmp_put_int(memory, "size", vm->machine.memory != NULL ? (int64_t)vm->machine.memory->size : 0);
    qmp_put(values, "memory", memory);
    qmp_put(values, "smp", qom_smp_value(&topology));
    qom_put_text(values, "kernel", config->machine.kernel);
    qom_put_text(values, "initrd", config->machine.initrd);
    qom_put_text(values, "append", config->machine.append);
    qom_put_text(values, "firmware", config->machine.bios);
    g_autofree char *backend = config->machine.memory != NULL
                                   ? g_strconcat("/objects/", config->machine.memory, NULL)
                                   : NULL;
    qom_put_text(values, "memory-backend", backend);
    return values;
}

static struct json_object *qom_option_value(const Device *dev, const OptSpec *spec)
{
    const void *at = (const char *)dev + spec->offset;
    switch (spec->type) {
    case OPT_BOOL:
        return json_object_new_boolean(*(const bool *)at);
    case OPT_U8:
        return json_object_new_int(*(const uint8_t *)at);
    case OPT_U16:
        return json_object_new_int(*(const uint16_t *)at);
    case OPT_U32:
        return json_object_new_int64(*(const uint32_t *)at);
    case OPT_U64:
    case OPT_SIZE:
        return json_object_new_uint64(*(const uint64_t *)at);
    case OPT_ENUM:
        return json_object_new_string(spec->names[*(const int *)at]);
    case OPT_STRING: {
        const char *text = *(char *const *)at;
        return json_object_new_string(text != NULL ? text : "");
    }
    default:
        return json_object_new_object(); /* no device has a property of such a type */
    }
}

static RUNS_IN_MAIN struct json_object *qom_device_values(const QomNode *node)
{
    const Device *dev = node->object;
    struct json_object *values = json_object_new_object();
    qmp_put_bool(values, "realized", dev->realized);
    const OptSpec *spec = node->kind == QOM_DEVICE ? dev->type->properties : NULL;
    for (; spec != NULL && spec->name != NULL; spec++) {
        qmp_put(values, spec->name, qom_option_value(dev, spec));
    }
    if (qmp_is_balloon(dev->type)) {
        qmp_put_balloon_values(values, dev);
    }
    return values;
}

static RUNS_IN_MAIN struct json_object *qom_cpu_values(const Vm *vm, unsigned index)
{
    struct json_object *values = qmp_cpu_instance(vm, index);
    qmp_put_bool(values, "realized", true);
    qmp_put(values, "unavailable-features", json_object_new_array());
    return values;
}

/* Returns an object with the values of all properties. It may have further members. */
static RUNS_IN_MAIN struct json_object *qom_values(const Vm *vm, const QomNode *node)
{
    switch (node->kind) {
    case QOM_MACHINE:
        return qom_machine_values(vm);
    case QOM_DEVICE:
    case QOM_VIRTIO:
        return qom_device_values(node);
    case QOM_CPU:
        return qom_cpu_values(vm, node->index);
    case QOM_IOTHREAD:
        return qmp_iothread_info(node->object);
    case QOM_MEMORY:
        return qmp_memdev_info(node->object);
    case QOM_THROTTLE:
        return qmp_throttle_values(node->object);
    case QOM_CONTAINER:
    case QOM_CHARDEV:
        break;
    }
    return json_object_new_object();
}

/* ---- lists ---- */

static void qom_list_add(struct json_object *list, const char *name, const char *type,
                         const char *doc)
{
    struct json_object *info = json_object_new_object();
    qmp_put_str(info, "name", name);
    qmp_put_str(info, "type", type);
    if (doc != NULL) {
        qmp_put_str(info, "description", doc);
    }
    json_object_array_add(list, info);
}

/* What a device has beside its options. @device may be NULL. */
static const QomProperty *qom_own_properties(const DeviceType *device)
{
    return device != NULL && qmp_is_balloon(device) ? qom_balloon_properties : qom_no_properties;
}

static bool qom_table_has(const QomProperty *table, const char *name)
{
    for (const QomProperty *p = table; p->name != NULL; p++) {
        if (strcmp(p->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns the properties of a type. @device is NULL if it is not a device. @describe adds
 * descriptions, which only qom-list-properties has, as in QEMU. */
static struct json_object *qom_list_of(const QomProperty *properties, const DeviceType *device,
                                       bool describe)
{
    struct json_object *list = json_object_new_array();
    qom_list_add(list, "type", "string", NULL);
    for (const QomProperty *p = properties; p->name != NULL; p++) {
        qom_list_add(list, p->name, p->type, describe ? p->doc : NULL);
    }
    for (const QomProperty *p = qom_own_properties(device); p->name != NULL; p++) {
        qom_list_add(list, p->name, p->type, describe ? p->doc : NULL);
    }
    const OptSpec *spec = device != NULL ? device->properties : NULL;
    for (; spec != NULL && spec->name != NULL; spec++) {
        qom_list_add(list, spec->name, qmp_property_type(spec->type), describe ? spec->help : NULL);
    }
    return list;
}

static struct json_object *qmp_qom_list(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    g_autoptr(GPtrArray) nodes = qom_list_nodes(call->vm);
    const QomNode *node = qom_find_node(nodes, qmp_arg_str(args, "path"), error);
    if (node == NULL) {
        return NULL;
    }
    const Device *dev = node->kind == QOM_DEVICE ? node->object : NULL;
    struct json_object *list =
        qom_list_of(qom_properties[node->kind], dev != NULL ? dev->type : NULL, false);
    for (unsigned i = 0; i < nodes->len; i++) {
        const QomNode *child = nodes->pdata[i];
        if (qom_node_is_child(node, child)) {
            g_autofree char *type = g_strdup_printf("child<%s>", child->type);
            qom_list_add(list, qom_node_name(child), type, NULL);
        }
    }
    return list;
}

static struct json_object *qom_get_child(const GPtrArray *nodes, const QomNode *parent,
                                         const char *name)
{
    for (unsigned i = 0; i < nodes->len; i++) {
        const QomNode *child = nodes->pdata[i];
        if (qom_node_is_child(parent, child) && strcmp(qom_node_name(child), name) == 0) {
            return json_object_new_string(child->path);
        }
    }
    return NULL;
}

static bool qom_has_property(const QomNode *node, const char *name)
{
    const Device *dev = node->kind == QOM_DEVICE ? node->object : NULL;
    if (qom_table_has(qom_properties[node->kind], name) ||
        (dev != NULL && qom_table_has(qom_own_properties(dev->type), name))) {
        return true;
    }
    const OptSpec *spec = dev != NULL ? dev->type->properties : NULL;
    for (; spec != NULL && spec->name != NULL; spec++) {
        if (strcmp(spec->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static struct json_object *qmp_qom_get(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const char *name = qmp_arg_str(args, "property");
    g_autoptr(GPtrArray) nodes = qom_list_nodes(call->vm);
    const QomNode *node = qom_find_node(nodes, qmp_arg_str(args, "path"), error);
    if (node == NULL) {
        return NULL;
    }
    if (strcmp(name, "type") == 0) {
        return json_object_new_string(node->type);
    }
    struct json_object *value = qom_get_child(nodes, node, name);
    if (value == NULL && qom_has_property(node, name)) {
        struct json_object *values = qom_values(call->vm, node);
        value = json_object_get(json_object_object_get(values, name));
        json_object_put(values);
    }
    if (value == NULL) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Property '%s.%s' not found", node->type,
                    excerpt);
    }
    return value;
}

/* ---- qom-set ---- */

static RUNS_IN_MAIN void qom_set_limits(const QomNode *node, struct json_object *value,
                                        GError **error)
{
    if (!json_object_is_type(value, json_type_object)) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            "Invalid parameter type for 'limits', expected: object");
        return;
    }
    g_autoptr(OptDict) values = opt_dict_from_json(value, error);
    ThrottleGroup *g = throttle_group_find(qom_node_name(node));
    if (values != NULL) {
        throttle_set_object_limits(g, values, error);
    }
}

static RUNS_IN_MAIN void qom_set_device(Vm *vm, const QomNode *node, const char *name,
                                        struct json_object *value, GError **error)
{
    Device *dev = machine_find_device(&vm->machine, node->path);
    g_assert(dev != NULL && strcmp(name, QMP_BALLOON_INTERVAL) == 0);
    qmp_balloon_set_interval(dev, value, error);
}

static bool qom_can_set_device(const QomNode *node, const char *name)
{
    const Device *dev = node->kind == QOM_DEVICE ? node->object : NULL;
    return dev != NULL && qmp_is_balloon(dev->type) && strcmp(name, QMP_BALLOON_INTERVAL) == 0;
}

/* Only the limits of a throttle group, and how often a balloon reports, can be set. */
static struct json_object *qmp_qom_set(QmpCall *call, struct json_object *args, GError **error)
{
    enter_main();
    const char *name = qmp_arg_str(args, "property");
    g_autoptr(GPtrArray) nodes = qom_list_nodes(call->vm);
    const QomNode *node = qom_find_node(nodes, qmp_arg_str(args, "path"), error);
    if (node == NULL) {
        return NULL;
    }
    if (node->kind == QOM_THROTTLE && strcmp(name, "limits") == 0) {
        qom_set_limits(node, qmp_arg_get(args, "value"), error);
    } else if (qom_can_set_device(node, name)) {
        qom_set_device(call->vm, node, name, qmp_arg_get(args, "value"), error);
    } else if (qom_has_property(node, name) || strcmp(name, "type") == 0) {
        g_set_error_literal(error, QMP_ERROR, QMP_ERROR_GENERIC,
                            node->kind == QOM_THROTTLE && name[0] == 'x'
                                ? "Property cannot be set after initialization"
                                : "Insufficient permission to perform this operation");
    } else {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Property '%s.%s' not found", node->type,
                    excerpt);
    }
    return NULL;
}

/* ---- qom-list-properties ---- */

static struct json_object *qmp_qom_list_properties(QmpCall *call, struct json_object *args,
                                                   GError **error)
{
    static const struct {
        const char *type;
        QomKind kind;
    } kinds[] = {{"machine", QOM_MACHINE},       {"virtio-device", QOM_VIRTIO},
                 {ARCH_NAME "-cpu", QOM_CPU},    {"device", QOM_DEVICE},
                 {"iothread", QOM_IOTHREAD},     {"throttle-group", QOM_THROTTLE},
                 {"memory-backend", QOM_MEMORY}, {"object", QOM_CONTAINER}};
    const char *name = qmp_arg_str(args, "typename");
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (qmp_type_implements(name, kinds[i].type)) {
            return qom_list_of(qom_properties[kinds[i].kind], device_type_find(name), true);
        }
    }
    g_autofree char *excerpt = opt_excerpt(name);
    g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Class '%s' not found", excerpt);
    return NULL;
}

/* ---- schema ---- */

static const QmpType qom_list_args = {
    .name = "qom-list-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"path", &qmp_str,
                            .doc = "/machine/peripheral/ID, or its last components if they are "
                                   "unique"}),
};
static const QmpType qom_get_args = {
    .name = "qom-get-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"path", &qmp_str, .doc = "as for qom-list"},
                           {"property", &qmp_str, .doc = "a name that qom-list returns"}),
};
static const QmpType qom_set_args = {
    .name = "qom-set-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"path", &qmp_str, .doc = "as for qom-list"},
                    {"property", &qmp_str,
                     .doc = "\"limits\" of a throttle group, or \"" QMP_BALLOON_INTERVAL "\""},
                    {"value", &qmp_any, .doc = "an object with the limits that change; seconds"}),
};
static const QmpType qom_list_properties_args = {
    .name = "qom-list-properties-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"typename", &qmp_str, .doc = "a name that qom-list-types returns"}),
};

static const QmpCommand qmp_qom_commands[] = {
    {"qom-list", &qom_list_args, &qmp_device_properties, QMP_INSTANT, qmp_qom_list,
     "The properties of an object, and its child objects, which have the type child<TYPE>."},
    {"qom-get", &qom_get_args, &qmp_any, QMP_INSTANT, qmp_qom_get,
     "The value of a property. The value of a child is its path."},
    {"qom-set", &qom_set_args, NULL, QMP_INSTANT, qmp_qom_set,
     "Sets a property. Only the limits of a throttle group, and how often a balloon asks the guest "
     "for "
     "statistics, can be set."},
    {"qom-list-properties", &qom_list_properties_args, &qmp_device_properties,
     QMP_INSTANT | QMP_EARLY, qmp_qom_list_properties, "The properties of all objects of a type."},
    {0},
};
static const QmpEvent qmp_qom_events[] = {{0}};

QMP_GROUP(qom);
