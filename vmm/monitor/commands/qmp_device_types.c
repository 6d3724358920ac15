/* SPDX-License-Identifier: Apache-2.0 */
/* Types and their properties: device-list-properties, qom-list-types. */
#include <string.h>
#include "hw/core/device.h"
#include "vmm/monitor/commands/qmp_device.h"

/* ---- device-list-properties ---- */

const QmpType qmp_device_list_properties_args = {
    .name = "device-list-properties-arg",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"typename", &qmp_str, .doc = "the type's name, as in -device"}),
};

static const QmpType qmp_device_property = {
    .name = "ObjectPropertyInfo",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"name", &qmp_str, .doc = "as in -device"},
                    {"type", &qmp_str, .doc = "str, bool, uint32, size, enum, ..."},
                    {"description", &qmp_str, .optional = true, .doc = "a description"},
                    {"default-value", &qmp_any, .optional = true, .doc = "its default, if any"}),
};

const QmpType qmp_device_properties = {.kind = QMP_KIND_ARRAY, .element = &qmp_device_property};

const char *qmp_property_type(OptType type)
{
    static const char *const names[] = {
        [OPT_STRING] = "str",       [OPT_BOOL] = "bool",  [OPT_U8] = "uint8",
        [OPT_U16] = "uint16",       [OPT_U32] = "uint32", [OPT_U64] = "uint64",
        [OPT_SIZE] = "size",        [OPT_ENUM] = "enum",  [OPT_DICT] = "struct",
        [OPT_STRLIST] = "list<str>"};
    return names[type];
}

/* Returns the default of a property, owned by the caller; NULL if it has none. */
static struct json_object *qmp_property_default(const OptSpec *spec)
{
    bool truth;
    uint64_t number;
    switch (spec->type) {
    case OPT_BOOL:
        truth = false;
        opt_parse_bool(spec->def != NULL ? spec->def : "off", &truth, NULL);
        return json_object_new_boolean(truth);
    case OPT_U8:
    case OPT_U16:
    case OPT_U32:
    case OPT_U64:
        number = 0;
        opt_parse_u64(spec->def != NULL ? spec->def : "0", 0, UINT64_MAX, &number, NULL);
        return json_object_new_uint64(number);
    case OPT_SIZE:
        number = 0;
        opt_parse_size(spec->def != NULL ? spec->def : "0", spec->default_unit, &number, NULL);
        return json_object_new_uint64(number);
    case OPT_ENUM:
        return json_object_new_string(spec->def != NULL ? spec->def : spec->names[0]);
    default:
        return spec->def != NULL ? json_object_new_string(spec->def) : NULL;
    }
}

static struct json_object *qmp_put_property(const OptSpec *spec)
{
    struct json_object *o = json_object_new_object();
    struct json_object *def = qmp_property_default(spec);
    qmp_put_str(o, "name", spec->name);
    qmp_put_str(o, "type", qmp_property_type(spec->type));
    if (spec->help != NULL) {
        qmp_put_str(o, "description", spec->help);
    }
    if (def != NULL) {
        qmp_put(o, "default-value", def);
    }
    return o;
}

static const struct QmpQomType *qmp_other_type(const char *name);

struct json_object *qmp_device_list_properties(QmpCall *call, struct json_object *args,
                                               GError **error)
{
    const char *name = qmp_arg_str(args, "typename");
    const DeviceType *type = device_type_find(name);
    if (type == NULL && qmp_other_type(name) != NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC,
                    "Parameter 'typename' expects a non-abstract device type");
        return NULL;
    }
    if (type == NULL) {
        g_autofree char *excerpt = opt_excerpt(name);
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", excerpt);
        return NULL;
    }
    struct json_object *list = json_object_new_array();
    for (const OptSpec *spec = type->properties; spec != NULL && spec->name != NULL; spec++) {
        json_object_array_add(list, qmp_put_property(spec));
    }
    return list;
}

/* ---- qom-list-types ---- */

const QmpType qmp_qom_list_types_args = {
    .name = "qom-list-types-arg",
    .kind = QMP_KIND_STRUCT,
    .members =
        QMP_MEMBERS({"implements", &qmp_str, .optional = true, .doc = "only types derived from it"},
                    {"abstract", &qmp_bool, .optional = true,
                     .doc = "also types without instances; default false"}),
};

static const QmpType qmp_qom_type = {
    .name = "ObjectTypeInfo",
    .kind = QMP_KIND_STRUCT,
    .members = QMP_MEMBERS({"name", &qmp_str, .doc = "its name"},
                           {"abstract", &qmp_bool, .optional = true, .doc = "it has no instances"},
                           {"parent", &qmp_str, .optional = true, .doc = "its parent type"}),
};

const QmpType qmp_qom_types = {.kind = QMP_KIND_ARRAY, .element = &qmp_qom_type};

/* The types that are not devices, with QEMU's names. */
static const struct QmpQomType {
    const char *name, *parent;
    bool abstract;
} qmp_other_types[] = {
    /* clang-format off */
    {"object",               NULL,             true},
    {"container",            "object",         false},
    {"machine",              "object",         true},
    {"pc-q35-machine",       "machine",        false},
    {"accel",                "object",         true},
    {"kvm-accel",            "accel",          false},
    {"device",               "object",         true},
    {"pci-device",           "device",         true},
    {"isa-device",           "device",         true},
    {"virtio-serial-port",   "device",         true},
    {"scsi-device",          "device",         true},
    {"virtio-device",        "device",         true},
    {"virtio-balloon-device", "virtio-device", false},
    {"virtio-blk-device",    "virtio-device",  false},
    {"virtio-net-device",    "virtio-device",  false},
    {"virtio-rng-device",    "virtio-device",  false},
    {"virtio-scsi-device",   "virtio-device",  false},
    {"virtio-serial-device", "virtio-device",  false},
    {ARCH_NAME "-cpu",       "device",         true},
    {"max-" ARCH_NAME "-cpu",  ARCH_NAME "-cpu", false},
    {"host-" ARCH_NAME "-cpu", ARCH_NAME "-cpu", false},
    {"chardev",              "object",         false},
    {"memory-backend",       "object",         true},
    {"iothread",             "object",         false},
    {"memory-backend-memfd", "memory-backend", false},
    {"memory-backend-ram",   "memory-backend", false},
    {"throttle-group",       "object",         false},
    /* clang-format on */
};

static const struct QmpQomType *qmp_other_type(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(qmp_other_types); i++) {
        if (strcmp(qmp_other_types[i].name, name) == 0) {
            return &qmp_other_types[i];
        }
    }
    return NULL;
}

static const char *qmp_device_parent(const DeviceType *type)
{
    static const char *const buses[][2] = {{"pci", "pci-device"},
                                           {"isa", "isa-device"},
                                           {"virtio-serial", "virtio-serial-port"},
                                           {"SCSI", "scsi-device"}};
    for (unsigned i = 0; i < G_N_ELEMENTS(buses); i++) {
        if (g_strcmp0(type->bus, buses[i][0]) == 0) {
            return buses[i][1];
        }
    }
    return "device";
}

/* Whether the type @name with parent @parent is @wanted or derived from it. */
static bool qmp_type_is_a(const char *name, const char *parent, const char *wanted)
{
    for (;;) {
        if (strcmp(name, wanted) == 0) {
            return true;
        }
        if (parent == NULL) {
            return false;
        }
        name = parent;
        parent = qmp_other_type(name)->parent;
    }
}

bool qmp_type_implements(const char *name, const char *wanted)
{
    const DeviceType *device = device_type_find(name);
    const struct QmpQomType *other = qmp_other_type(name);
    if (device == NULL && other == NULL) {
        return false;
    }
    return qmp_type_is_a(name, device != NULL ? qmp_device_parent(device) : other->parent, wanted);
}

static void qmp_put_type(struct json_object *list, const char *name, const char *parent,
                         bool is_abstract, const char *wanted)
{
    if (wanted != NULL && !qmp_type_is_a(name, parent, wanted)) {
        return;
    }
    struct json_object *o = json_object_new_object();
    qmp_put_str(o, "name", name);
    if (is_abstract) {
        qmp_put_bool(o, "abstract", true);
    }
    if (parent != NULL) {
        qmp_put_str(o, "parent", parent);
    }
    json_object_array_add(list, o);
}

struct json_object *qmp_qom_list_types(QmpCall *call, struct json_object *args, GError **error)
{
    const char *wanted = qmp_arg_str(args, "implements");
    bool abstract_too = qmp_arg_bool(args, "abstract", false);
    struct json_object *list = json_object_new_array();
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        qmp_put_type(list, (*t)->name, qmp_device_parent(*t), false, wanted);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(qmp_other_types); i++) {
        const struct QmpQomType *type = &qmp_other_types[i];
        if (!type->abstract || abstract_too) {
            qmp_put_type(list, type->name, type->parent, type->abstract, wanted);
        }
    }
    return list;
}
