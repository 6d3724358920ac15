/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects that QMP shows as a tree of paths, in the shape of QEMU's object model. skiff has no
 * such model: the tree is computed from the VM's lists each time that it is needed.
 */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_QOM_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_QOM_H

#include "vmm/monitor/qmp/qmp.h"

typedef enum QomKind {
    QOM_CONTAINER,
    QOM_MACHINE,
    QOM_DEVICE,
    QOM_VIRTIO, /* what a PCI transport carries: "virtio-backend" below it */
    QOM_CPU,
    QOM_IOTHREAD,
    QOM_MEMORY,
    QOM_CHARDEV,
} QomKind;

typedef struct QomNode {
    QomKind kind;
    char *path;         /* absolute, owned */
    char *type;         /* owned */
    const void *object; /* Device, IoThread or MemoryBackend; borrowed; else NULL */
    unsigned index;     /* of a CPU */
} QomNode;

/* All objects of the VM: QomNode, owned by the array, parents before children. */
GPtrArray *qom_list_nodes(Vm *vm) RUNS_IN_MAIN;
/* The node of @path: absolute, or the last components of one path alone. NULL + @error. */
const QomNode *qom_find_node(const GPtrArray *nodes, const char *path, GError **error) ANY_THREAD;
/* Whether @node is directly below @parent. */
bool qom_node_is_child(const QomNode *parent, const QomNode *node) ANY_THREAD;
/* The last component of its path. */
const char *qom_node_name(const QomNode *node) ANY_THREAD;

/* ---- types ---- */
/* The name of the vCPUs' type, to be freed: "host-x86_64-cpu". */
char *qom_cpu_type(const char *model) ANY_THREAD;
/* The model that -cpu names, to be freed: "host". */
char *qom_cpu_model(const VmConfig *config) ANY_THREAD;
/* The path of a vCPU: CPUs come after the board's devices. To be freed. */
char *qom_cpu_path(const Vm *vm, unsigned index) RUNS_IN_MAIN;

#endif
