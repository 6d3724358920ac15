/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What becomes of the guest opening and closing virtio-serial ports: -exec is told at once, clients
 * by VSERPORT_CHANGE. A guest may open and close as fast as it can, so for each port an event comes
 * at once, and the next ones no more often than every VM_PORT_QUIET_NS, with the state of then.
 */
#include "vmm/monitor/qmp/qmp.h"
#include "vmm/vm/vm.h"

#define VM_PORT_QUIET_NS (INT64_C(1) * 1000000000)

typedef struct VmPort {
    char *id;
    bool open, told;
    AioTimer quiet; /* armed: an event was sent not long ago */
} VmPort;

static GHashTable *vm_ports; /* by id: those that are open, or were not long ago */

static RUNS_IN_MAIN void vm_port_tell(VmPort *port)
{
    struct json_object *data = json_object_new_object();
    port->told = port->open;
    qmp_put_str(data, "id", port->id);
    qmp_put_bool(data, "open", port->open);
    qmp_event_emit("VSERPORT_CHANGE", data);
    aio_timer_arm(&port->quiet, aio_now_ns(port->quiet.ctx) + VM_PORT_QUIET_NS);
}

static void vm_port_quiet_over(void *opaque)
{
    enter_main();
    VmPort *port = opaque;
    if (port->open != port->told) {
        vm_port_tell(port);
    } else if (!port->open) { /* as one that was never heard of */
        g_hash_table_remove(vm_ports, port->id);
    }
}

unsigned vm_ports_known(void)
{
    return vm_ports != NULL ? g_hash_table_size(vm_ports) : 0;
}

static void vm_port_free(void *opaque)
{
    VmPort *port = opaque;
    g_free(port->id);
    g_free(port);
}

static VmPort *vm_port_find(const Device *dev)
{
    if (vm_ports == NULL) {
        vm_ports = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, vm_port_free);
    }
    VmPort *port = g_hash_table_lookup(vm_ports, dev->id);
    if (port == NULL) {
        port = g_new0(VmPort, 1);
        port->id = g_strdup(dev->id);
        aio_timer_init(&port->quiet, dev->env->main_ctx, vm_port_quiet_over, port);
        g_hash_table_insert(vm_ports, port->id, port);
    }
    return port;
}

void vm_serial_port_changed(const Device *dev, bool open)
{
    enter_main();
    if (dev->id == NULL) {
        return; /* nobody could tell which */
    }
    vm_exec_port_changed(dev->id, open);
    VmPort *port = vm_port_find(dev);
    port->open = open;
    if (port->quiet.heap_index == 0) {
        vm_port_quiet_over(port);
    }
}
