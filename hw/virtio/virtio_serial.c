/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_serial.h"
#include "util/iov.h"

#define VIRTIO_SERIAL_DEVICE_ID 3
#define VIRTIO_SERIAL_QUEUE_SIZE 64
#define PCI_CLASS_COMMUNICATION_OTHER 0x078000

/* Events of control messages, §5.3.6.2. */
enum {
    VIRTIO_CONSOLE_DEVICE_READY = 0,
    VIRTIO_CONSOLE_DEVICE_ADD = 1,
    VIRTIO_CONSOLE_DEVICE_REMOVE = 2,
    VIRTIO_CONSOLE_PORT_READY = 3,
    VIRTIO_CONSOLE_CONSOLE_PORT = 4,
    VIRTIO_CONSOLE_PORT_OPEN = 6,
    VIRTIO_CONSOLE_PORT_NAME = 7,
};

typedef struct VirtioSerialControl {
    uint32_t id;
    uint16_t event;
    uint16_t value;
} VirtioSerialControl;

typedef struct VirtioSerialConfig {
    uint16_t cols, rows;
    uint32_t max_nr_ports;
    uint32_t emerg_wr;
} VirtioSerialConfig;

static VirtioSerial *from_device(Device *dev)
{
    return (VirtioSerial *)(void *)dev;
}

static bool multiport(const VirtioSerial *s)
{
    return virtio_has_feature(&s->base.vdev, VIRTIO_CONSOLE_F_MULTIPORT);
}

bool virtio_serial_guest_open(const VirtioSerial *s, unsigned nr)
{
    return multiport(s) ? s->state.ports[nr].guest_open : nr == 0;
}

/* Reported to the environment in main. */
static void guest_open_set(VirtioSerial *s, unsigned nr, bool open)
{
    s->state.ports[nr].guest_open = open;
    if (atomic_load(&s->guest_changes[nr]) % 2 != open) {
        atomic_fetch_add(&s->guest_changes[nr], 1);
        aio_bh_schedule(&s->guest_bh);
    }
}

/* ---- device to driver ---- */

/* Writes the message and its tail into one buffer. */
static RUNS_IN_LOOP void control_fill(VirtioSerial *s, VirtQueueElement *e, VirtioSerialControl m,
                                      const char *tail)
{
    VirtioDevice *vdev = &s->base.vdev;
    if (e->in_len < sizeof(m)) {
        virtio_fail_request(vdev, VIRTIO_SERIAL_CONTROL_RX, e, "too small for a control message");
        return;
    }
    trace_virtio_serial_control(device_label(vdev->dev), false, m.id, m.event, m.value);
    size_t len = iov_copy_from_buf(e->in, e->in_num, 0, &m, sizeof(m));
    len += iov_copy_from_buf(e->in, e->in_num, len, tail, strlen(tail));
    virtio_complete(vdev, VIRTIO_SERIAL_CONTROL_RX, e, (uint32_t)len);
}

/* Takes the lowest pending bit of the port and returns its message; updates the state seen by the
 * driver. */
static VirtioSerialControl control_next(VirtioSerial *s, unsigned nr, const char **tail)
{
    VirtioSerialPortState *st = &s->state.ports[nr];
    const VirtioSerialPort *port = s->home_ports[nr];
    VirtioSerialControl m = {.id = nr, .value = 1};
    uint8_t bit = st->tell & (uint8_t)-st->tell;
    st->tell &= (uint8_t)~bit;
    *tail = "";
    switch (bit) {
    case VIRTIO_SERIAL_TELL_REMOVE:
        m.event = VIRTIO_CONSOLE_DEVICE_REMOVE;
        guest_open_set(s, nr, false);
        /* `sent` belongs to the queue: the next port may be transmitting. */
        *st = (VirtioSerialPortState){.sent = st->sent};
        break;
    case VIRTIO_SERIAL_TELL_ADD:
        m.event = VIRTIO_CONSOLE_DEVICE_ADD;
        st->added = true;
        break;
    case VIRTIO_SERIAL_TELL_CONSOLE:
        m.event = VIRTIO_CONSOLE_CONSOLE_PORT;
        break;
    case VIRTIO_SERIAL_TELL_NAME:
        m.event = VIRTIO_CONSOLE_PORT_NAME;
        *tail = port && port->name ? port->name : "";
        break;
    default:
        m.event = VIRTIO_CONSOLE_PORT_OPEN;
        m.value = st->told_open = port && port->host_open;
        break;
    }
    return m;
}

/* Marks the differences between the port and the state seen by the driver as pending. */
static void port_compare(VirtioSerial *s, unsigned nr)
{
    VirtioSerialPortState *st = &s->state.ports[nr];
    const VirtioSerialPort *port = s->home_ports[nr];
    if (!s->state.driver_ready) {
        return;
    }
    if (!port) {
        st->tell = st->added ? VIRTIO_SERIAL_TELL_REMOVE : 0;
    } else if (!st->added) {
        st->tell |= VIRTIO_SERIAL_TELL_ADD;
    } else if (st->ready && port->host_open != st->told_open) {
        st->tell |= VIRTIO_SERIAL_TELL_OPEN;
    }
}

static RUNS_IN_LOOP void control_flush(VirtioSerial *s)
{
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        while (s->state.ports[nr].tell) {
            VirtQueueElement *e = virtio_pop(&s->base.vdev, VIRTIO_SERIAL_CONTROL_RX);
            if (!e) {
                return; /* continued at the kick for the next buffer */
            }
            const char *tail;
            VirtioSerialControl m = control_next(s, nr, &tail);
            control_fill(s, e, m, tail);
            port_compare(s, nr); /* a port may be back while its REMOVE was pending */
        }
    }
}

void virtio_serial_port_compare(VirtioSerial *s, unsigned nr)
{
    if (virtio_taking(&s->base.vdev) && multiport(s)) {
        port_compare(s, nr);
        control_flush(s);
    }
}

void virtio_serial_port_gone(VirtioSerial *s, unsigned nr)
{
    VirtioSerialPortState *st = &s->state.ports[nr];
    assert_bql();
    if (s->base.vdev.owner != VIRTIO_OWNER_HOME && st->added) {
        st->tell = VIRTIO_SERIAL_TELL_REMOVE;
    }
}

static void virtio_serial_host_changed(void *opaque)
{
    VirtioSerial *s = opaque;
    enter_loop(s->base.vdev.home);
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        virtio_serial_port_compare(s, nr);
    }
}

/* ---- driver to device ---- */

static RUNS_IN_LOOP void port_opened(VirtioSerial *s, unsigned nr, bool open)
{
    guest_open_set(s, nr, open);
    virtio_serial_update_grant(s, nr);
}

static void port_ready(VirtioSerial *s, unsigned nr)
{
    const VirtioSerialPort *port = s->home_ports[nr];
    VirtioSerialPortState *st = &s->state.ports[nr];
    st->ready = true;
    st->tell |= (port->is_console ? VIRTIO_SERIAL_TELL_CONSOLE : 0) |
                (port->name ? VIRTIO_SERIAL_TELL_NAME : 0);
}

static RUNS_IN_LOOP void control_handle(VirtioSerial *s, VirtioSerialControl m)
{
    VirtioDevice *vdev = &s->base.vdev;
    trace_virtio_serial_control(device_label(vdev->dev), true, m.id, m.event, m.value);
    if (m.event == VIRTIO_CONSOLE_DEVICE_READY) {
        s->state.driver_ready = m.value == 1;
        for (unsigned nr = 0; nr < s->max_ports; nr++) {
            port_compare(s, nr);
        }
        return;
    }
    bool known = m.id < s->max_ports && s->home_ports[m.id] && s->state.ports[m.id].added;
    if (known && m.event == VIRTIO_CONSOLE_PORT_READY && m.value == 1) {
        port_ready(s, m.id);
        port_compare(s, m.id);
    } else if (known && m.event == VIRTIO_CONSOLE_PORT_OPEN) {
        port_opened(s, m.id, m.value != 0);
    } else if (m.event == VIRTIO_CONSOLE_PORT_OPEN && m.value == 0 && m.id < s->max_ports) {
        return; /* a driver closes its side of a removed port */
    } else {
        virtio_guest_error(vdev, "control event %u, value %u for port %u", m.event, m.value, m.id);
    }
}

static RUNS_IN_LOOP void control_receive(VirtioSerial *s)
{
    VirtQueueElement *e;
    while ((e = virtio_pop(&s->base.vdev, VIRTIO_SERIAL_CONTROL_TX))) {
        VirtioSerialControl m;
        if (iov_copy_to_buf(e->out, e->out_num, 0, &m, sizeof(m)) < sizeof(m)) {
            virtio_fail_request(&s->base.vdev, VIRTIO_SERIAL_CONTROL_TX, e,
                                "control message is too short");
            return;
        }
        virtio_complete(&s->base.vdev, VIRTIO_SERIAL_CONTROL_TX, e, 0);
        control_handle(s, m);
    }
    control_flush(s);
}

/* ---- virtio ---- */

static void virtio_serial_handle_queue(VirtioDevice *vdev, unsigned index)
{
    VirtioSerial *s = virtio_serial_from(vdev);
    enter_loop(vdev->home);
    if (index == VIRTIO_SERIAL_CONTROL_RX) {
        control_flush(s);
    } else if (index == VIRTIO_SERIAL_CONTROL_TX) {
        control_receive(s);
    } else {
        unsigned nr = index < 2 ? 0 : (index - 2) / 2;
        if (index % 2) {
            virtio_serial_transmit(s, nr);
        } else {
            virtio_serial_update_grant(s, nr);
        }
    }
}

/* Ports may have changed, or a saved state was loaded, while the queues were stopped. */
static void virtio_serial_started(VirtioDevice *vdev)
{
    VirtioSerial *s = virtio_serial_from(vdev);
    enter_loop(vdev->home);
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        guest_open_set(s, nr, s->state.ports[nr].guest_open);
        virtio_serial_port_compare(s, nr);
        virtio_serial_update_grant(s, nr);
    }
}

static void virtio_serial_stopping(VirtioDevice *vdev)
{
    enter_loop(vdev->home);
    virtio_serial_recall(virtio_serial_from(vdev));
}

static void virtio_serial_reset(VirtioDevice *vdev)
{
    assert_bql();
    VirtioSerial *s = virtio_serial_from(vdev);
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        guest_open_set(s, nr, false);
    }
    memset(s->state.ports, 0, sizeof(s->state.ports));
    s->state.driver_ready = false;
}

static void virtio_serial_guest_changed(void *opaque)
{
    VirtioSerial *s = opaque;
    enter_main();
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        if (s->ports[nr]) {
            virtio_serial_port_report(s->ports[nr]);
        }
    }
}

static void virtio_serial_get_config(VirtioDevice *vdev, uint8_t *config)
{
    assert_bql();
    VirtioSerialConfig c = {.max_nr_ports = virtio_serial_from(vdev)->max_ports};
    memcpy(config, &c, sizeof(c));
}

/* Emergency write: one byte of the console, at any time, even before the driver (§5.3.5.1). */
static void virtio_serial_set_config(VirtioDevice *vdev, unsigned offset, unsigned size,
                                     uint32_t value)
{
    assert_bql();
    const VirtioSerial *s = virtio_serial_from(vdev);
    uint8_t byte = (uint8_t)value;
    if (offset == offsetof(VirtioSerialConfig, emerg_wr) && s->emergency_write && s->ports[0]) {
        chardev_write(s->ports[0]->chr, &byte, 1);
    }
}

static const VirtioOps virtio_serial_ops = {
    .device_id = VIRTIO_SERIAL_DEVICE_ID,
    .get_config = virtio_serial_get_config,
    .set_config = virtio_serial_set_config,
    .reset = virtio_serial_reset,
    .started = virtio_serial_started,
    .stopping = virtio_serial_stopping,
    .handle_queue = virtio_serial_handle_queue,
};

/* ---- life cycle ---- */

static bool virtio_serial_realize(Device *dev, GError **error)
{
    VirtioSerial *s = from_device(dev);
    VirtioDevice *vdev = &s->base.vdev;
    enter_main();
    vdev->ops = &virtio_serial_ops;
    vdev->state = &s->state.virtio;
    vdev->home = dev->env->default_iothread;
    vdev->num_queues = 2 * (s->max_ports + 1);
    vdev->queue_size = VIRTIO_SERIAL_QUEUE_SIZE;
    vdev->config_size = sizeof(VirtioSerialConfig);
    vdev->features =
        VIRTIO_CONSOLE_F_MULTIPORT | (s->emergency_write ? VIRTIO_CONSOLE_F_EMERG_WRITE : 0);
    s->base.class_code = PCI_CLASS_COMMUNICATION_OTHER;
    aio_bh_init(&s->guest_bh, dev->env->main_ctx, virtio_serial_guest_changed, s);
    aio_bh_init(&s->host_bh, vdev->home, virtio_serial_host_changed, s);
    return virtio_pci_realize(&s->base, error);
}

static void cancel_at_home(void *opaque)
{
    aio_bh_cancel(&((VirtioSerial *)opaque)->host_bh);
}

/* Whether the guest has its sides open is reported also if the loaded driver never starts the queues. */
static bool virtio_serial_post_load(Device *dev, GError **error)
{
    VirtioSerial *s = from_device(dev);
    if (!virtio_pci_post_load(dev, error)) {
        return false;
    }
    for (unsigned nr = 0; nr < s->max_ports; nr++) {
        guest_open_set(s, nr, s->state.ports[nr].guest_open);
    }
    return true;
}

/* All its ports are unrealized. */
static void virtio_serial_unrealize(Device *dev)
{
    VirtioSerial *s = from_device(dev);
    enter_main();
    enter_coroutine();
    co_call_in(s->base.vdev.home, cancel_at_home, s);
    for (unsigned nr = 0; nr < VIRTIO_SERIAL_MAX_PORTS; nr++) {
        g_assert(!s->ports[nr]);
    }
    virtio_pci_unrealize(&s->base);
    aio_bh_cancel(&s->guest_bh);
}

static const StateField port_fields[] = {
    STATE_FIELD(VirtioSerialPortState, STATE_U32, sent),
    STATE_FIELD_MAX(VirtioSerialPortState, STATE_U8, tell, VIRTIO_SERIAL_TELL_ALL),
    STATE_FIELD(VirtioSerialPortState, STATE_BOOL, added),
    STATE_FIELD(VirtioSerialPortState, STATE_BOOL, ready),
    STATE_FIELD(VirtioSerialPortState, STATE_BOOL, guest_open),
    STATE_FIELD(VirtioSerialPortState, STATE_BOOL, told_open),
    STATE_ARRAY(VirtioSerialPortState, STATE_PAD, pad),
    {0},
};

static const StateDesc port_state_desc = {.name = "virtio-serial-port",
                                          .version = 1,
                                          .min_version = 1,
                                          .struct_size = sizeof(VirtioSerialPortState),
                                          .fields = port_fields};

static const StateField virtio_serial_fields[] = {
    {.name = "virtio",
     .type = STATE_STRUCT,
     .offset = offsetof(VirtioSerialState, virtio),
     .size = sizeof(VirtioState),
     .count = 1,
     .sub = &virtio_state_desc},
    STATE_STRUCTS(VirtioSerialState, ports, &port_state_desc),
    STATE_FIELD(VirtioSerialState, STATE_BOOL, driver_ready),
    STATE_ARRAY(VirtioSerialState, STATE_PAD, pad),
    {0},
};

static const StateDesc virtio_serial_state_desc =
    STATE_DESC("virtio-serial", 1, VirtioSerial, state, VirtioSerialState, virtio_serial_fields);

static const OptSpec virtio_serial_properties[] = {
    VIRTIO_PCI_PROPERTIES(VirtioSerial, base, "2"),
    OPT_SPEC(VirtioSerial, "max_ports", OPT_U32, max_ports, .def = "31", .min = 1,
             .max = VIRTIO_SERIAL_MAX_PORTS, .help = "maximum number of ports"),
    OPT_SPEC(VirtioSerial, "emergency-write", OPT_BOOL, emergency_write, .def = "on",
             .help = "the guest may write a byte of the console without a driver"),
    {0},
};

const DeviceType virtio_serial_pci_type = {
    .name = "virtio-serial-pci",
    .description = "virtio serial ports: the bus of virtconsole and virtserialport",
    .instance_size = sizeof(VirtioSerial),
    .properties = virtio_serial_properties,
    .base_state = &pci_device_state_desc,
    .state = &virtio_serial_state_desc,
    .user_creatable = true,
    .bus = "pci",
    .provides_bus = "virtio-serial",
    .realize = virtio_serial_realize,
    .reset = virtio_pci_reset,
    .unrealize = virtio_serial_unrealize,
    .co_start = virtio_pci_co_start,
    .co_stop = virtio_pci_co_stop,
    .pre_save = virtio_pci_pre_save,
    .check_state = virtio_pci_check_state,
    .post_load = virtio_serial_post_load,
};
