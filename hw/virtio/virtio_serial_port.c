/* SPDX-License-Identifier: Apache-2.0 */
/* virtconsole and virtserialport: ports of a virtio-serial device, each with a chardev. Runs in
 * main. */
#include <string.h>
#include "hw/virtio/virtio_serial.h"

#define VIRTIO_SERIAL_ANY_PORT UINT32_MAX

static VirtioSerialPort *from_device(Device *dev)
{
    return (VirtioSerialPort *)(void *)dev;
}

/* ---- the chardev's calls ---- */

static void port_writable(void *opaque)
{
    enter_main();
    virtio_serial_offer_output(opaque);
}

static size_t port_can_receive(void *opaque)
{
    enter_main();
    return virtio_serial_input_room(opaque);
}

static void port_receive(void *opaque, const uint8_t *data, size_t size)
{
    enter_main();
    virtio_serial_put_input(opaque, data, size);
}

static void port_event(void *opaque, ChardevEvent event)
{
    VirtioSerialPort *port = opaque;
    enter_main();
    if (event != CHARDEV_OPENED && event != CHARDEV_CLOSED) {
        return;
    }
    if (!port->is_console) { /* a console is always open */
        atomic_store(&port->host_open, event == CHARDEV_OPENED);
        aio_bh_schedule(&port->bus->host_bh);
    }
    virtio_serial_offer_output(port); /* dropped without a peer */
}

static const ChardevFrontendOps port_frontend_ops = {
    .can_receive = port_can_receive,
    .receive = port_receive,
    .event = port_event,
    .writable = port_writable,
};

/* ---- the guest's side ---- */

static RUNS_IN_MAIN void port_report(VirtioSerialPort *port, bool open)
{
    const DeviceEnv *env = port->base.env;
    if (env->serial_port_changed) {
        env->serial_port_changed(env->opaque, &port->base, open);
    }
}

void virtio_serial_port_report(VirtioSerialPort *port)
{
    uint32_t now = atomic_load(&port->bus->guest_changes[port->nr]);
    uint32_t news = now - port->seen_changes;
    port->seen_changes = now;
    if (!news) {
        return;
    }
    if (news % 2 == 0) { /* unchanged now, but it changed in between */
        port_report(port, now % 2 == 0);
    }
    port_report(port, now % 2);
}

/* ---- life cycle ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

/* Port 0 is reserved for a console: old drivers expect one there. */
static bool choose_number(VirtioSerialPort *port, GError **error)
{
    VirtioSerial *s = port->bus;
    if (port->nr == VIRTIO_SERIAL_ANY_PORT) {
        port->nr = port->is_console ? 0 : 1;
        while (port->nr < s->max_ports && s->ports[port->nr]) {
            port->nr++;
        }
        if (port->nr >= s->max_ports) {
            port->nr = VIRTIO_SERIAL_ANY_PORT;
            return refuse(error, "%s has no free port; it has max_ports=%u",
                          device_label(&s->base.pci.base), s->max_ports);
        }
        return true;
    }
    if (port->nr == 0 && !port->is_console) {
        return refuse(error, "nr=0 is for a virtconsole; a virtserialport begins at 1");
    }
    if (port->nr >= s->max_ports) {
        return refuse(error, "nr=%u: %s has max_ports=%u", port->nr,
                      device_label(&s->base.pci.base), s->max_ports);
    }
    if (s->ports[port->nr]) {
        return refuse(error, "nr=%u is taken", port->nr);
    }
    return true;
}

static bool check_name(const VirtioSerialPort *port, GError **error)
{
    for (unsigned nr = 0; port->name && nr < VIRTIO_SERIAL_MAX_PORTS; nr++) {
        const VirtioSerialPort *other = port->bus->ports[nr];
        if (other && other->name && strcmp(other->name, port->name) == 0) {
            return refuse(error, "name=%s is port %u's already", port->name, nr);
        }
    }
    return true;
}

static bool port_realize(Device *dev, GError **error)
{
    VirtioSerialPort *port = from_device(dev);
    enter_main();
    enter_coroutine();
    if (!dev->bus_device || dev->bus_device->type != &virtio_serial_pci_type) {
        return refuse(error, "needs a virtio-serial-pci before it");
    }
    port->bus = (VirtioSerial *)(void *)dev->bus_device;
    port->is_console = dev->type == &virtconsole_type;
    if (!choose_number(port, error) || !check_name(port, error) ||
        !device_find_chardev(&port->base, port->chardev, &port->chr, error)) {
        return false;
    }
    bql_lock();
    port->bus->ports[port->nr] = port;
    bql_unlock();
    virtio_serial_link_init(port);
    port->seen_changes = atomic_load(&port->bus->guest_changes[port->nr]) & ~1u;
    port->host_open = port->is_console || (port->chr && chardev_connected(port->chr));
    virtio_serial_co_join(port);
    if (port->chr) {
        chardev_attach(port->chr, &port_frontend_ops, port);
    }
    return true;
}

static void port_unrealize(Device *dev)
{
    VirtioSerialPort *port = from_device(dev);
    VirtioSerial *s = port->bus;
    enter_main();
    enter_coroutine();
    bql_lock();
    s->ports[port->nr] = NULL; /* first: an emergency write may use the chardev meanwhile */
    bql_unlock();
    if (port->chr) {
        chardev_attach(port->chr, NULL, NULL);
    }
    virtio_serial_co_leave(port);
    device_release_chardev(dev, &port->chr);
    if (port->seen_changes % 2) {
        port_report(port, false);
    }
}

static const OptSpec port_properties[] = {
    OPT_SPEC(VirtioSerialPort, "chardev", OPT_STRING, chardev, .help = "chardev of the port"),
    OPT_SPEC(VirtioSerialPort, "name", OPT_STRING, name, .help = "name that the guest sees"),
    OPT_SPEC(VirtioSerialPort, "nr", OPT_U32, nr, .def = "4294967295", .max = UINT32_MAX,
             .help = "port number (default: the first free one)"),
    {0},
};

/* The members of both types. They differ in their names; only a console may be port 0. */
#define PORT_TYPE                                                                                  \
    .instance_size = sizeof(VirtioSerialPort), .properties = port_properties,                      \
    .user_creatable = true, .bus = "virtio-serial", .realize = port_realize,                       \
    .unrealize = port_unrealize

const DeviceType virtconsole_type = {
    .name = "virtconsole", .description = "console on a virtio-serial device", PORT_TYPE};

const DeviceType virtserialport_type = {
    .name = "virtserialport", .description = "named port on a virtio-serial device", PORT_TYPE};
