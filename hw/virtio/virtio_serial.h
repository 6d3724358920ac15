/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-serial (virtio 1.2 §5.3): a PCI device that is a bus for ports. Shared by its two files:
 * the device with its control queues (virtio_serial.c), the ports and their data
 * (virtio_serial_port.c).
 *
 * The queues are at home in main, where the chardevs are: a byte crosses no thread. What a full
 * chardev does not take stays in the ring, and so does what the guest has no room for in the
 * chardev; nothing is buffered here. One receive buffer of each port may be popped ahead of its
 * input (`receiving`); it is given back before the queues stop or the port goes.
 *
 *   queue 0, 1   receive and transmit of port 0
 *   queue 2, 3   control: device to driver, driver to device (MULTIPORT)
 *   queue 2n+2, 2n+3   receive and transmit of port n
 *
 * A port, as the driver is told: (nothing) --ADD--> added --PORT_READY--> ready, where
 * CONSOLE_PORT, PORT_NAME and PORT_OPEN follow; --REMOVE--> (nothing).
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_SERIAL_H
#define SKIFF_HW_VIRTIO_VIRTIO_SERIAL_H

#include "hw/core/chardev.h"
#include "hw/virtio/virtio_pci.h"

#define VIRTIO_SERIAL_MAX_PORTS 31 /* two queues each, and two for control */
#define VIRTIO_SERIAL_CONTROL_RX 2
#define VIRTIO_SERIAL_CONTROL_TX 3

#define VIRTIO_CONSOLE_F_MULTIPORT (1ull << 1)
#define VIRTIO_CONSOLE_F_EMERG_WRITE (1ull << 2)

/* Messages that wait for room in the control queue, in the order they are sent. */
enum {
    VIRTIO_SERIAL_TELL_REMOVE = 1,
    VIRTIO_SERIAL_TELL_ADD = 2,
    VIRTIO_SERIAL_TELL_CONSOLE = 4,
    VIRTIO_SERIAL_TELL_NAME = 8,
    VIRTIO_SERIAL_TELL_OPEN = 16,
    VIRTIO_SERIAL_TELL_ALL = 31,
};

typedef struct VirtioSerialPortState {
    uint32_t sent; /* bytes of the first transmit buffer that the chardev has taken */
    uint8_t tell;  /* VIRTIO_SERIAL_TELL_* */
    bool added;    /* the driver knows of the port */
    bool ready;    /* ... and has set it up */
    bool guest_open;
    bool told_open; /* the driver was told that the host's side is open */
    uint8_t pad[3];
} VirtioSerialPortState;

typedef struct VirtioSerialState {
    VirtioState virtio;
    VirtioSerialPortState ports[VIRTIO_SERIAL_MAX_PORTS];
    bool driver_ready;
    uint8_t pad[3];
} VirtioSerialState;

typedef struct VirtioSerialPort VirtioSerialPort;

typedef struct VirtioSerial {
    VirtioPci base;
    /* config */
    uint32_t max_ports;
    bool emergency_write;
    /* state: main's while the queues run, else the BQL's */
    VirtioSerialState state;
    /* runtime: written by main with the BQL */
    VirtioSerialPort *ports[VIRTIO_SERIAL_MAX_PORTS];
    AioBh closed_bh; /* a reset has closed what the guest had open */
} VirtioSerial;

struct VirtioSerialPort {
    Device base;
    /* links */
    VirtioSerial *bus;
    Chardev *chr;
    /* config */
    char *chardev, *name;
    uint32_t nr;
    bool is_console;
    /* runtime, main */
    VirtQueueElement *receiving; /* receive buffer that is popped and not filled yet, or NULL */
    bool host_open;
    bool told_guest_open; /* what the environment was told of the guest's side */
};

extern const DeviceType virtio_serial_pci_type;
extern const DeviceType virtconsole_type;
extern const DeviceType virtserialport_type;

static inline VirtioSerial *virtio_serial_from(VirtioDevice *vdev)
{
    return (VirtioSerial *)(void *)((uint8_t *)vdev - offsetof(VirtioSerial, base.vdev));
}

static inline unsigned virtio_serial_rx(unsigned nr)
{
    return nr == 0 ? 0 : 2 * nr + 2;
}

static inline unsigned virtio_serial_tx(unsigned nr)
{
    return virtio_serial_rx(nr) + 1;
}

/* ---- virtio_serial.c ---- */
/* A port has come, gone, or its host side opened or closed: tells the driver what is news to it.
 * Does nothing while the queues are stopped; the start looks again. */
void virtio_serial_port_changed(VirtioSerial *s, unsigned nr) RUNS_IN_MAIN;
bool virtio_serial_guest_open(const VirtioSerial *s, unsigned nr) RUNS_IN_MAIN;

/* ---- virtio_serial_port.c ---- */
/* The guest's side is open or not, which may be news to the environment. */
void virtio_serial_port_tell(VirtioSerialPort *port, bool guest_open) RUNS_IN_MAIN;
/* Gives an unfilled receive buffer back to the ring. Nothing when none is held. */
void virtio_serial_release_buffer(VirtioSerialPort *port) RUNS_IN_MAIN;
/* The transmit queue of port @nr, whether or not there is one. */
void virtio_serial_transmit(VirtioSerial *s, unsigned nr) RUNS_IN_MAIN;
/* The guest has made room, or opened its side. */
void virtio_serial_accept_input(VirtioSerial *s, unsigned nr) RUNS_IN_MAIN;

#endif
