/* SPDX-License-Identifier: Apache-2.0 */
/* VSERPORT_CHANGE, at a bounded rate. */
#include "vmm/monitor/commands/qmp_events.h"
#include "vmm/monitor/qmp/qmp.h"

#define QMP_PORT_QUIET_NS (INT64_C(1) * 1000000000)

typedef struct QmpPort {
    char *id;
    bool open;      /* now */
    bool announced; /* the state of the last event */
    AioTimer quiet; /* armed for QMP_PORT_QUIET_NS after an event */
} QmpPort;

static GHashTable *qmp_ports; /* by id: ports that are open or have `quiet` armed */

static RUNS_IN_MAIN void qmp_port_announce(QmpPort *port)
{
    struct json_object *data = json_object_new_object();
    port->announced = port->open;
    qmp_put_str(data, "id", port->id);
    qmp_put_bool(data, "open", port->open);
    qmp_event_emit("VSERPORT_CHANGE", data);
    aio_timer_arm(&port->quiet, aio_now_ns(port->quiet.ctx) + QMP_PORT_QUIET_NS);
}

static void qmp_port_quiet_over(void *opaque)
{
    enter_main();
    QmpPort *port = opaque;
    if (port->open != port->announced) {
        qmp_port_announce(port);
    } else if (!port->open) { /* a closed port needs no record */
        g_hash_table_remove(qmp_ports, port->id);
    }
}

unsigned qmp_ports_known(void)
{
    return qmp_ports != NULL ? g_hash_table_size(qmp_ports) : 0;
}

static void qmp_port_free(void *opaque)
{
    QmpPort *port = opaque;
    g_free(port->id);
    g_free(port);
}

static QmpPort *qmp_port_find(Vm *vm, const char *id)
{
    if (qmp_ports == NULL) {
        qmp_ports = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, qmp_port_free);
    }
    QmpPort *port = g_hash_table_lookup(qmp_ports, id);
    if (port == NULL) {
        port = g_new0(QmpPort, 1);
        port->id = g_strdup(id);
        aio_timer_init(&port->quiet, vm->ctx, qmp_port_quiet_over, port);
        g_hash_table_insert(qmp_ports, port->id, port);
    }
    return port;
}

void qmp_port_changed(VmListener *l, const char *id, bool open)
{
    QmpPort *port = qmp_port_find(l->vm, id);
    port->open = open;
    if (port->quiet.heap_index == 0) {
        qmp_port_quiet_over(port);
    }
}
