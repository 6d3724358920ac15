/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree of objects that QMP shows, with the paths of QEMU's object model. skiff has no object
 * model: each query computes the tree from the VM's lists.
 */
#ifndef SKIFF_VMM_MONITOR_COMMANDS_QMP_QOM_H
#define SKIFF_VMM_MONITOR_COMMANDS_QMP_QOM_H

#include "vmm/monitor/qmp/qmp.h"

typedef enum QomKind {
    QOM_CONTAINER,
    QOM_MACHINE,
    QOM_DEVICE,
    QOM_VIRTIO, /* "virtio-backend" below a PCI transport */
    QOM_CPU,
    QOM_IOTHREAD,
    QOM_MEMORY,
    QOM_CHARDEV,
    QOM_THROTTLE,
} QomKind;

typedef struct QomNode {
    QomKind kind;
    char *path;         /* absolute, owned */
    char *type;         /* owned */
    const void *object; /* Device, IoThread, MemoryBackend, ThrottleGroup; borrowed; may be NULL */
    unsigned index;     /* of a CPU */
} QomNode;

/* Returns all objects of the VM as QomNodes, owned by the array, parents before children. */
GPtrArray *qom_list_nodes(Vm *vm) RUNS_IN_MAIN;
/* Returns the node of @path, which is absolute, or the last components of exactly one path. NULL
 * and @error if there is none. */
const QomNode *qom_find_node(const GPtrArray *nodes, const char *path, GError **error) ANY_THREAD;
/* Whether @node is directly below @parent. */
bool qom_node_is_child(const QomNode *parent, const QomNode *node) ANY_THREAD;
/* Returns the last component of the node's path. */
const char *qom_node_name(const QomNode *node) ANY_THREAD;

/* ---- types ---- */
/* Returns the type of the vCPUs, "host-x86_64-cpu", owned by the caller. */
char *qom_cpu_type(const char *model) ANY_THREAD;
/* Returns the model of -cpu, "host", owned by the caller. */
char *qom_cpu_model(const VmConfig *config) ANY_THREAD;
/* Returns the path of a vCPU, owned by the caller. vCPUs are numbered after the board's devices. */
char *qom_cpu_path(const Vm *vm, unsigned index) RUNS_IN_MAIN;

#endif
