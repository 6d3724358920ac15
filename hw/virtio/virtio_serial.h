/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-serial (virtio 1.2 §5.3): a PCI device that is a bus for ports. Shared by its three files:
 * the device with its control queues (virtio_serial.c), the ports (virtio_serial_port.c) and their
 * data (virtio_serial_link.c).
 *
 * The home loop of the queues is an iothread. Only the iothread accesses guest memory, so a page
 * fault there never stalls main. Chardevs belong to main. Two chunks, one for each direction, pass
 * between a port's queue and its chardev. A chunk is a bounded copy of bytes; it has one owner and
 * is handed over by a posted message (virtio_serial_link.c):
 *
 *         transmit: home fills it            transmit: the chardev took all of it, or has no peer
 *         receive: home grants room          receive: input arrived    both: unchanged, on a recall
 *   HOME ---------------------------> MAIN -----------------------------------------------> HOME
 *
 * Invariants
 *   1. Only its owner accesses a chunk's bytes and counts.
 *   2. While MAIN has a chunk, home holds the buffer it belongs to (`element`), which is in flight.
 *      So main owns the queues only when HOME has all chunks.
 *   3. A transmit buffer is completed when the chardev has taken all of it. When the queues stop,
 *      the number of bytes taken is kept in `sent`; the rest is copied again after the start. No
 *      byte is lost or sent twice.
 *   4. Input is taken from the chardev only into a granted chunk, and goes from there into the
 *      buffer that home holds for it, also while the queues stop. No byte is lost.
 *   5. A recall is answered in main's next turn, whatever the chardev does.
 *
 *   queue 0, 1   receive and transmit of port 0
 *   queue 2, 3   control: device to driver, driver to device (MULTIPORT)
 *   queue 2n+2, 2n+3   receive and transmit of port n
 *
 * A port as the driver sees it: (nothing) --ADD--> added --PORT_READY--> ready; CONSOLE_PORT,
 * PORT_NAME and PORT_OPEN follow. --REMOVE--> (nothing).
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_SERIAL_H
#define SKIFF_HW_VIRTIO_VIRTIO_SERIAL_H

#include "hw/core/chardev.h"
#include "hw/virtio/virtio_pci.h"

#define VIRTIO_SERIAL_MAX_PORTS 31 /* two queues for each and two for control */
#define VIRTIO_SERIAL_CONTROL_RX 2
#define VIRTIO_SERIAL_CONTROL_TX 3

#define VIRTIO_CONSOLE_F_MULTIPORT (1ull << 1)
#define VIRTIO_CONSOLE_F_EMERG_WRITE (1ull << 2)

/* Pending messages that wait for room in the control queue, in the order they are sent. */
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
    bool added;    /* ADD was sent for the port */
    bool ready;    /* the driver answered PORT_READY */
    bool guest_open;
    bool told_open; /* the host's side as last reported to the driver */
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
    _Atomic bool recalled; /* home has recalled it */
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
    /* runtime, home loop: as `ports`, but a port is added last and removed first */
    VirtioSerialPort *home_ports[VIRTIO_SERIAL_MAX_PORTS];
    /* Count of the guest's opens and closes of each port; odd: open. */
    _Atomic uint32_t guest_changes[VIRTIO_SERIAL_MAX_PORTS];
    AioBh guest_bh; /* main: a count in guest_changes changed */
    AioBh host_bh;  /* home: a port's host_open changed */
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
    uint32_t seen_changes; /* the count in guest_changes last reported to the environment */
    bool left_unseen; /* removed while the home loop did not run (written there, then main's) */
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
/* Sends pending changes of port @nr to the driver. Does nothing while the queues are stopped; the
 * start sends them. */
void virtio_serial_port_compare(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
bool virtio_serial_guest_open(const VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* Port @nr was removed while the home loop did not run. REMOVE is sent to the driver after the next
 * start, even if another port has the number by then. Does nothing when the home loop has the
 * queues: it compares at its start. */
void virtio_serial_port_gone(VirtioSerial *s, unsigned nr) BQL_HELD;

/* ---- virtio_serial_port.c ---- */
/* Reports the guest's open or close to the environment. All bytes that the guest sent before it are
 * in the chardev by then. */
void virtio_serial_port_report(VirtioSerialPort *port) RUNS_IN_MAIN;

/* ---- virtio_serial_link.c: main ---- */
void virtio_serial_link_init(VirtioSerialPort *port) RUNS_IN_MAIN;
/* Add and remove the port; both return when the home loop has done so too. Removing discards bytes
 * that are still to be transmitted and detaches the chardev. */
void virtio_serial_co_join(VirtioSerialPort *port) coroutine_fn RUNS_IN_MAIN;
void virtio_serial_co_leave(VirtioSerialPort *port) coroutine_fn RUNS_IN_MAIN;
/* Offers main's transmit chunk to the chardev. False: the chardev did not take all of it. */
bool virtio_serial_offer_output(VirtioSerialPort *port) RUNS_IN_MAIN;
size_t virtio_serial_input_room(const VirtioSerialPort *port) RUNS_IN_MAIN;
/* At most virtio_serial_input_room() bytes; the rest is dropped. */
void virtio_serial_put_input(VirtioSerialPort *port, const uint8_t *data, size_t size) RUNS_IN_MAIN;

/* Returns when the chardev has taken all that the guest has made available for transmission, or is
 * full, or the queues are stopped. @dev is a realized port. */
void virtio_serial_port_co_settle(Device *dev) coroutine_fn RUNS_IN_MAIN;

/* ---- virtio_serial_link.c: home loop ---- */
/* Serves the transmit queue of port @nr, which need not exist. */
void virtio_serial_transmit(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* Grants room to port @nr's chardev if the guest has opened its side and provided a buffer;
 * otherwise recalls the grant. */
void virtio_serial_update_grant(VirtioSerial *s, unsigned nr) RUNS_IN_LOOP;
/* The queues are about to stop: returns buffers, and recalls those whose chunk main has. */
void virtio_serial_recall(VirtioSerial *s) RUNS_IN_LOOP;

#endif
