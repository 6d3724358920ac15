/* SPDX-License-Identifier: Apache-2.0 */
/* virtconsole and virtserialport: ports of a virtio-serial device, each with a chardev. Main. */
#include <string.h>
#include "hw/virtio/virtio_serial.h"
#include "util/iov.h"

#define VIRTIO_SERIAL_ANY_PORT UINT32_MAX

static VirtioSerialPort *from_device(Device *dev)
{
    return (VirtioSerialPort *)(void *)dev;
}

/* ---- guest to host ---- */

/* Offers the chardev what it has not taken of @e. True: @e is done. */
static bool element_send(VirtioSerialPort *port, const VirtQueueElement *e, uint32_t *sent)
{
    size_t skip = *sent;
    for (unsigned i = 0; i < e->out_num; i++) {
        size_t len = e->out[i].iov_len;
        if (skip >= len) {
            skip -= len;
            continue;
        }
        const uint8_t *data = (const uint8_t *)e->out[i].iov_base + skip;
        size_t taken = chardev_write(port->chr, data, len - skip);
        *sent += (uint32_t)taken;
        if (taken < len - skip) {
            return false;
        }
        skip = 0;
    }
    return true;
}

void virtio_serial_transmit(VirtioSerial *s, unsigned nr)
{
    VirtioDevice *vdev = &s->base.vdev;
    VirtioSerialPort *port = s->ports[nr];
    uint32_t *sent = &s->state.ports[nr].sent;
    VirtQueueElement *e;
    while ((e = virtio_pop(vdev, virtio_serial_tx(nr)))) {
        /* With nobody at the other end it is lost, as on a wire: a guest's console must not hang.
         */
        bool connected = port && port->chr && chardev_connected(port->chr);
        if (connected && !element_send(port, e, sent)) {
            virtio_unpop(vdev, virtio_serial_tx(nr), e); /* port_writable() goes on */
            return;
        }
        *sent = 0;
        virtio_complete(vdev, virtio_serial_tx(nr), e, 0);
    }
}

static void port_writable(void *opaque)
{
    VirtioSerialPort *port = opaque;
    enter_main();
    virtio_look(&port->bus->base.vdev, virtio_serial_tx(port->nr));
}

/* ---- host to guest ---- */

void virtio_serial_accept_input(VirtioSerial *s, unsigned nr)
{
    if (s->ports[nr] && s->ports[nr]->chr) {
        chardev_accept_input(s->ports[nr]->chr);
    }
}

/* The buffer that input goes into: the one that is held already, else the next of the ring. NULL:
 * there is none. */
static VirtQueueElement *receive_buffer(VirtioSerialPort *port)
{
    VirtioDevice *vdev = &port->bus->base.vdev;
    unsigned rx = virtio_serial_rx(port->nr);
    if (!port->receiving) {
        VirtQueueElement *e = virtio_pop(vdev, rx);
        if (e && !e->in_len) {
            virtio_fail_request(vdev, rx, e, "nothing device-writable");
            return NULL;
        }
        port->receiving = e;
    }
    return port->receiving;
}

void virtio_serial_release_buffer(VirtioSerialPort *port)
{
    VirtQueueElement *e = port->receiving;
    port->receiving = NULL;
    if (e) {
        virtio_unpop(&port->bus->base.vdev, virtio_serial_rx(port->nr), e);
    }
}

/* The size of the guest's next buffer. The buffer is held until receive() fills it: a chain that is
 * read again may have changed. */
static size_t port_can_receive(void *opaque)
{
    VirtioSerialPort *port = opaque;
    enter_main();
    if (!virtio_taking(&port->bus->base.vdev) || !virtio_serial_guest_open(port->bus, port->nr)) {
        return 0;
    }
    const VirtQueueElement *e = receive_buffer(port);
    return e ? e->in_len : 0;
}

/* Each buffer takes at least one byte, so @size bounds the loop. Input that finds no buffer is lost:
 * the device was stopped or reset after port_can_receive(). */
static void port_receive(void *opaque, const uint8_t *data, size_t size)
{
    VirtioSerialPort *port = opaque;
    VirtioDevice *vdev = &port->bus->base.vdev;
    enter_main();
    while (size) {
        VirtQueueElement *e = receive_buffer(port);
        if (!e) {
            return;
        }
        port->receiving = NULL;
        size_t n = iov_copy_from_buf(e->in, e->in_num, 0, data, size);
        virtio_complete(vdev, virtio_serial_rx(port->nr), e, (uint32_t)n);
        data += n;
        size -= n;
    }
}

static void port_event(void *opaque, ChardevEvent event)
{
    VirtioSerialPort *port = opaque;
    enter_main();
    if (event != CHARDEV_OPENED && event != CHARDEV_CLOSED) {
        return;
    }
    if (!port->is_console) { /* a console is open whoever looks at it */
        port->host_open = event == CHARDEV_OPENED;
        virtio_serial_port_changed(port->bus, port->nr);
    }
    virtio_look(&port->bus->base.vdev, virtio_serial_tx(port->nr));
}

static const ChardevFrontendOps port_frontend_ops = {
    .can_receive = port_can_receive,
    .receive = port_receive,
    .event = port_event,
    .writable = port_writable,
};

void virtio_serial_port_tell(VirtioSerialPort *port, bool guest_open)
{
    const DeviceEnv *env = port->base.env;
    if (port->told_guest_open != guest_open) {
        port->told_guest_open = guest_open;
        if (env->serial_port_changed) {
            env->serial_port_changed(env->opaque, &port->base, guest_open);
        }
    }
}

/* ---- life cycle ---- */

#define refuse(error, ...) (g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, __VA_ARGS__), false)

/* Port 0 is the console's: old drivers take it for one. */
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
    if (port->chr) {
        chardev_attach(port->chr, &port_frontend_ops, port);
    }
    port->host_open = port->is_console || (port->chr && chardev_connected(port->chr));
    virtio_serial_port_changed(port->bus, port->nr);
    return true;
}

static void port_unrealize(Device *dev)
{
    VirtioSerialPort *port = from_device(dev);
    VirtioSerial *s = port->bus;
    enter_main();
    bql_lock();
    s->ports[port->nr] = NULL; /* first: an emergency write may be on its way to the chardev */
    bql_unlock();
    device_release_chardev(dev, &port->chr);
    virtio_serial_release_buffer(port);
    virtio_serial_port_changed(s, port->nr);
    virtio_look(&s->base.vdev, virtio_serial_tx(port->nr)); /* what it still holds is dropped */
    virtio_serial_port_tell(port, false);
}

static const OptSpec port_properties[] = {
    OPT_SPEC(VirtioSerialPort, "chardev", OPT_STRING, chardev, .help = "where its bytes go"),
    OPT_SPEC(VirtioSerialPort, "name", OPT_STRING, name, .help = "name the guest finds it by"),
    OPT_SPEC(VirtioSerialPort, "nr", OPT_U32, nr, .def = "4294967295", .max = UINT32_MAX,
             .help = "port number (default: the first free one)"),
    {0},
};

/* What both types have in common: all but their names, and that port 0 is a console's. */
#define PORT_TYPE                                                                                  \
    .instance_size = sizeof(VirtioSerialPort), .properties = port_properties,                      \
    .user_creatable = true, .bus = "virtio-serial", .realize = port_realize,                       \
    .unrealize = port_unrealize

const DeviceType virtconsole_type = {
    .name = "virtconsole", .description = "console on a virtio-serial device", PORT_TYPE};

const DeviceType virtserialport_type = {
    .name = "virtserialport", .description = "named port on a virtio-serial device", PORT_TYPE};
