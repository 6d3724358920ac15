/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-serial (virtio 1.2 §5.3): a PCI device that is a bus for ports. Shared by its three files:
 * the device with its control queues (virtio_serial.c), the ports (virtio_serial_port.c) and their
 * data (virtio_serial_link.c).
 *
 * The queues are at home in an iothread: guest memory is touched there only, so a page fault in it
 * never stalls main. Chardevs are main's. Between a port's queue and its chardev pass two chunks, one
 * for each direction, each a bounded copy of bytes that has one owner and is handed over by a posted
 * message (virtio_serial_link.c):
 *
 *                  transmit: home fills it                 receive: home grants room
 *   HOME ---------------------------------------> MAIN ---------------------------------------> HOME
 *                  the chardev has taken all of it         input has arrived
 *                  the port's other end is gone            recalled: given back as it is
 *                  recalled: given back as it is
 *
 * Invariants
 *   1. A chunk's bytes and counts are touched by its owner only.
 *   2. While a chunk is with MAIN, home holds the buffer it belongs to (`element`), which is in
 *      flight. So the queues are with main only when all chunks are with HOME.
 *   3. A transmit buffer is completed when the chardev has taken all of it. What it had taken when the
 *      queues stopped is in `sent`; the rest is copied again after the start. No byte is lost or
 *      sent twice.
 *   4. Input is taken from the chardev only into a granted chunk, and goes from there into the buffer
 *      that home holds for it, also while the queues stop. No byte is lost.
 *   5. A recall is answered in main's next turn, whatever the chardev does.
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

#define VIRTIO_SERIAL_CHUNK_BYTES 16384

typedef struct VirtioSerialChunk {
    _Atomic bool with_main;
    _Atomic bool recalled; /* home wants it back */
    AioBh main_bh, home_bh;
    /* home's */
    VirtQueueElement *element; /* popped, not completed; NULL: none */
    /* the owner's */
    size_t len;  /* transmit: bytes in `data`; receive: bytes that have arrived */
    size_t done; /* transmit: bytes the chardev has taken; receive: room */
    uint8_t data[VIRTIO_SERIAL_CHUNK_BYTES];
} VirtioSerialChunk;

typedef struct VirtioSerial {
    VirtioPci base;
    /* config */
    uint32_t max_ports;
    bool emergency_write;
    /* state: the home loop's while the queues run, else the BQL's */
    VirtioSerialState state;
    /* runtime: written by main with the BQL */
    VirtioSerialPort *ports[VIRTIO_SERIAL_MAX_PORTS];
    /* runtime, home loop: the same, but a port joins last and leaves first */
    VirtioSerialPort *home_ports[VIRTIO_SERIAL_MAX_PORTS];
    /* How often the guest has opened or closed its side of each port; odd: it is open. */
    _Atomic uint32_t guest_changes[VIRTIO_SERIAL_MAX_PORTS];
    AioBh guest_bh; /* main: guest_changes has moved */
    AioBh host_bh;  /* home: a port's host_open has changed */
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
    uint32_t seen_changes; /* of guest_changes: what the environment knows */
    bool left_unseen; /* it left while the home loop took nothing (written there, then main's) */
    /* runtime, shared */
    _Atomic bool host_open; /* written by main */
    VirtioSerialChunk transmit, receive;
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
/* Sends what the driver does not know yet about port @nr. Nothing while the queues are stopped; the
 * start looks again. */
void virtio_serial_port_compare(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
bool virtio_serial_guest_open(const VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* Port @nr has left while the home loop took nothing. The driver is sent REMOVE after the next start,
 * also when another port has the number by then. Does nothing when the queues are with the home loop,
 * which compares at its start. */
void virtio_serial_port_gone(VirtioSerial *s, unsigned nr) BQL_HELD;

/* ---- virtio_serial_port.c ---- */
/* Reports to the environment that the guest has opened or closed its side. What the guest sent before
 * is with the chardev by then. */
void virtio_serial_port_report(VirtioSerialPort *port) RUNS_IN_MAIN;

/* ---- virtio_serial_link.c: main ---- */
void virtio_serial_link_init(VirtioSerialPort *port) RUNS_IN_MAIN;
/* The port takes part, or has left: both return when the home loop has done its side. A port that
 * leaves drops what it still holds to transmit; its chardev is detached. */
void virtio_serial_co_join(VirtioSerialPort *port) coroutine_fn RUNS_IN_MAIN;
void virtio_serial_co_leave(VirtioSerialPort *port) coroutine_fn RUNS_IN_MAIN;
/* Offers the chardev what is to be transmitted, if main has it. False: it did not take all of it. */
bool virtio_serial_offer_output(VirtioSerialPort *port) RUNS_IN_MAIN;
size_t virtio_serial_input_room(const VirtioSerialPort *port) RUNS_IN_MAIN;
/* No more than virtio_serial_input_room(); the rest is dropped. */
void virtio_serial_put_input(VirtioSerialPort *port, const uint8_t *data, size_t size) RUNS_IN_MAIN;

/* Returns when the chardev has what the guest has made available for transmission so far, or takes no
 * more, or the queues are stopped. @dev is a realized port. */
void virtio_serial_port_co_settle(Device *dev) coroutine_fn RUNS_IN_MAIN;

/* ---- virtio_serial_link.c: home loop ---- */
/* The transmit queue of port @nr, whether or not there is one. */
void virtio_serial_transmit(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* Grants room to port @nr's chardev when the guest has opened its side and has a buffer; else takes
 * the grant back. */
void virtio_serial_update_grant(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* The queues are about to stop: gives buffers back, recalls those whose chunk is with main. */
void virtio_serial_recall(VirtioSerial *s) RUNS_IN_LOOP;

#endif
