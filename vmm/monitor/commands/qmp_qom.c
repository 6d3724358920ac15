/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/monitor/commands/qmp_qom.h"

#include <string.h>
#include "block/throttle.h"
#include "hw/chardev/chardev_set.h"
#include "util/loop/iothread.h"

static void qom_node_free(void *opaque)
{
    QomNode *node = opaque;
    g_free(node->path);
    g_free(node->type);
    g_free(node);
}

static QomNode *qom_add(GPtrArray *nodes, QomKind kind, char *path_taken, char *type_taken)
{
    QomNode *node = g_new0(QomNode, 1);
    node->kind = kind;
    node->path = path_taken;
    node->type = type_taken;
    g_ptr_array_add(nodes, node);
    return node;
}

/* ---- names ---- */

char *qom_cpu_type(const char *model)
{
    return g_strdup_printf("%s-" ARCH_NAME "-cpu", model);
}

char *qom_cpu_model(const VmConfig *config)
{
    const char *cpu = config->machine.cpu != NULL ? config->machine.cpu : "host";
    return g_strndup(cpu, strcspn(cpu, ","));
}

char *qom_cpu_path(const Vm *vm, unsigned index)
{
    return g_strdup_printf("/machine/unattached/device[%u]", vm->machine.board_devices + index);
}

/* Returns the virtio device type of a transport: "virtio-blk-device" for "virtio-blk-pci". NULL if
 * @type is not a transport. */
static char *qom_virtio_type(const DeviceType *type)
{
    if (!g_str_has_prefix(type->name, "virtio-") || !g_str_has_suffix(type->name, "-pci")) {
        return NULL;
    }
    size_t length = strlen(type->name) - strlen("-pci");
    return g_strdup_printf("%.*s-device", (int)length, type->name);
}

/* ---- the tree ---- */

static void qom_add_devices(GPtrArray *nodes, const Vm *vm)
{
    for (unsigned i = 0; i < vm->machine.devices->len; i++) {
        const Device *dev = vm->machine.devices->pdata[i];
        if (dev->path == NULL) {
            continue; /* not realized yet */
        }
        qom_add(nodes, QOM_DEVICE, g_strdup(dev->path), g_strdup(dev->type->name))->object = dev;
        char *type = qom_virtio_type(dev->type);
        if (type != NULL) {
            char *path = g_strconcat(dev->path, "/virtio-backend", NULL);
            qom_add(nodes, QOM_VIRTIO, path, type)->object = dev;
        }
    }
}

static RUNS_IN_MAIN void qom_add_cpus(GPtrArray *nodes, const Vm *vm)
{
    g_autofree char *model = qom_cpu_model(vm->config);
    unsigned count = vm->machine.vcpus != NULL ? vcpus_count(vm->machine.vcpus) : 0;
    for (unsigned i = 0; i < count; i++) {
        qom_add(nodes, QOM_CPU, qom_cpu_path(vm, i), qom_cpu_type(model))->index = i;
    }
}

static char *qom_object_path(const char *id)
{
    return g_strdup_printf("/objects/%s", id);
}

static RUNS_IN_MAIN void qom_add_objects(GPtrArray *nodes, const Vm *vm)
{
    for (unsigned i = 0; i < vm->backends.iothreads->len; i++) {
        const IoThread *t = vm->backends.iothreads->pdata[i];
        qom_add(nodes, QOM_IOTHREAD, qom_object_path(iothread_id(t)), g_strdup("iothread"))
            ->object = t;
    }
    for (unsigned i = 0; i < vm->backends.throttle_groups->len; i++) {
        const ThrottleGroup *g = vm->backends.throttle_groups->pdata[i];
        qom_add(nodes, QOM_THROTTLE, qom_object_path(throttle_group_name(g)),
                g_strdup("throttle-group"))
            ->object = g;
    }
    for (unsigned i = 0; i < vm->backends.memory_backends->len; i++) {
        const MemoryBackend *m = vm->backends.memory_backends->pdata[i];
        const char *type = m->fd >= 0 ? "memory-backend-memfd" : "memory-backend-ram";
        qom_add(nodes, QOM_MEMORY, qom_object_path(m->id), g_strdup(type))->object = m;
    }
}

static void qom_add_chardev(const ChardevInfo *info, void *opaque)
{
    qom_add(opaque, QOM_CHARDEV, g_strdup_printf("/chardevs/%s", info->id), g_strdup("chardev"));
}

GPtrArray *qom_list_nodes(Vm *vm)
{
    static const char *const containers[] = {"/machine/peripheral", "/machine/peripheral-anon",
                                             "/machine/unattached", "/objects", "/chardevs"};
    GPtrArray *nodes = g_ptr_array_new_with_free_func(qom_node_free);
    qom_add(nodes, QOM_CONTAINER, g_strdup("/"), g_strdup("container"));
    qom_add(nodes, QOM_MACHINE, g_strdup("/machine"), g_strdup("pc-q35-machine"));
    for (unsigned i = 0; i < G_N_ELEMENTS(containers); i++) {
        qom_add(nodes, QOM_CONTAINER, g_strdup(containers[i]), g_strdup("container"));
    }
    qom_add_devices(nodes, vm);
    qom_add_cpus(nodes, vm);
    qom_add_objects(nodes, vm);
    chardev_foreach(qom_add_chardev, nodes);
    return nodes;
}

/* ---- paths ---- */

const char *qom_node_name(const QomNode *node)
{
    return strrchr(node->path, '/') + 1;
}

bool qom_node_is_child(const QomNode *parent, const QomNode *node)
{
    size_t length = strlen(parent->path);
    if (strcmp(parent->path, "/") == 0) {
        length = 0;
    }
    return node != parent && strncmp(node->path, parent->path, length) == 0 &&
           node->path + length + 1 == qom_node_name(node);
}

/* Returns @path without empty components, which "//" and a trailing "/" make. */
static char *qom_normalize(const char *path)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    GString *out = g_string_new(NULL);
    for (unsigned i = 0; parts[i] != NULL; i++) {
        if (parts[i][0] != '\0') {
            g_string_append_printf(out, "/%s", parts[i]);
        }
    }
    if (out->len == 0) {
        g_string_append_c(out, '/');
    }
    return g_string_free(out, false);
}

const QomNode *qom_find_node(const GPtrArray *nodes, const char *path, GError **error)
{
    g_autofree char *wanted = qom_normalize(path);
    g_autofree char *excerpt = opt_excerpt(path);
    const QomNode *found = NULL;
    for (unsigned i = 0; i < nodes->len; i++) {
        const QomNode *node = nodes->pdata[i];
        bool matches =
            path[0] == '/' ? strcmp(node->path, wanted) == 0 : g_str_has_suffix(node->path, wanted);
        if (matches && found != NULL) {
            g_set_error(error, QMP_ERROR, QMP_ERROR_GENERIC, "Path '%s' is ambiguous", excerpt);
            return NULL;
        }
        found = matches ? node : found;
    }
    if (found == NULL) {
        g_set_error(error, QMP_ERROR, QMP_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", excerpt);
    }
    return found;
}
