/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net (virtio 1.2 §5.1). Shared by its files: the device (virtio_net.c), receiving
 * (virtio_net_rx.c), sending (virtio_net_tx.c), the control queue (virtio_net_control.c), and the PCI
 * device with its properties (virtio_net_pci.c).
 *
 *   queue 2n, 2n+1   receive and transmit of pair n
 *   queue 2N         control (CTRL_VQ), N = number of pairs with MQ, else 1
 *
 * The home loop serves all queues and is the home of the NetClient. A frame is read from the back end
 * straight into the guest's buffers. A receive queue is in one of these states:
 *
 *            net_client_watch(on)            no buffer for the next frame
 *   STOPPED ----------------------> READY ---------------------------------> STARVED
 *      ^                              ^                                         |
 *      |  stopping, or the pair       '-----------------------------------------'
 *      '--is not used (MQ)              the driver added buffers (a kick)
 *
 *   STOPPED  watch off; kicks on: the first one makes it READY
 *   READY    watch on, kicks off (virtio_set_silent)
 *   STARVED  watch off, kicks on; a frame may be kept in `pending`
 *
 * Invariants (assert_virtio_net_state())
 *   1. No buffer of a receive queue is in flight between two turns of the loop. So a stop of the queues
 *      waits for no frame.
 *   2. A frame that did not fit into the available buffers is kept whole (`pending`), at most one for each
 *      queue, and is the next to be delivered; it is dropped when the queues stop. READY has none.
 *   3. All buffers of a frame become visible to the driver together.
 *   4. A transmit buffer is in flight only within one call. While the back end is full it stays in the ring
 *      (`tx_full`), and its queue is served again when there is room.
 *   5. One control command is in progress at a time. It is completed when its effect is complete, also in
 *      the back end.
 *   6. `state`, apart from what is marked, is the home loop's while the queues run, else the BQL's. The filter
 *      is changed with `filter_lock` held, so that main may copy it.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_NET_H
#define SKIFF_HW_VIRTIO_VIRTIO_NET_H

#include "hw/net/net.h"
#include "hw/net/net_filter.h"
#include "hw/virtio/virtio_net_vhost.h"
#include "hw/virtio/virtio_pci.h"

/* Feature bits, §5.1.3. */
#define VIRTIO_NET_F_CSUM (1ull << 0)
#define VIRTIO_NET_F_GUEST_CSUM (1ull << 1)
#define VIRTIO_NET_F_CTRL_GUEST_OFFLOADS (1ull << 2)
#define VIRTIO_NET_F_MTU (1ull << 3)
#define VIRTIO_NET_F_MAC (1ull << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (1ull << 7)
#define VIRTIO_NET_F_GUEST_TSO6 (1ull << 8)
#define VIRTIO_NET_F_GUEST_ECN (1ull << 9)
#define VIRTIO_NET_F_GUEST_UFO (1ull << 10)
#define VIRTIO_NET_F_HOST_TSO4 (1ull << 11)
#define VIRTIO_NET_F_HOST_TSO6 (1ull << 12)
#define VIRTIO_NET_F_HOST_ECN (1ull << 13)
#define VIRTIO_NET_F_HOST_UFO (1ull << 14)
#define VIRTIO_NET_F_MRG_RXBUF (1ull << 15)
#define VIRTIO_NET_F_STATUS (1ull << 16)
#define VIRTIO_NET_F_CTRL_VQ (1ull << 17)
#define VIRTIO_NET_F_CTRL_RX (1ull << 18)
#define VIRTIO_NET_F_CTRL_VLAN (1ull << 19)
#define VIRTIO_NET_F_CTRL_RX_EXTRA (1ull << 20)
#define VIRTIO_NET_F_GUEST_ANNOUNCE (1ull << 21)
#define VIRTIO_NET_F_MQ (1ull << 22)
#define VIRTIO_NET_F_CTRL_MAC_ADDR (1ull << 23)
#define VIRTIO_NET_F_GUEST_USO4 (1ull << 54)
#define VIRTIO_NET_F_GUEST_USO6 (1ull << 55)
#define VIRTIO_NET_F_HOST_USO (1ull << 56)
#define VIRTIO_NET_F_SPEED_DUPLEX (1ull << 63)

#define VIRTIO_NET_BATCH 16 /* frames that the driver sees at once */
#define VIRTIO_NET_MAX_PAIRS NET_MAX_QUEUES
#define VIRTIO_NET_OFFERS 23

typedef struct VirtioNetState {
    VirtioState virtio;
    uint64_t guest_offloads; /* feature bits: what received frames may leave to the guest */
    uint64_t mac;            /* of the config space, first byte lowest; any thread: atomic */
    NetFilter filter;
    uint16_t pairs;   /* in use */
    uint8_t announce; /* ANNOUNCE of the config space's status; any thread: atomic */
    uint8_t pad[5];
} VirtioNetState;

typedef enum VirtioNetRxPhase {
    VIRTIO_NET_RX_STOPPED,
    VIRTIO_NET_RX_READY,
    VIRTIO_NET_RX_STARVED,
} VirtioNetRxPhase;

/* A pair of queues: home loop. */
typedef struct VirtioNetPair {
    VirtioNetRxPhase phase;
    bool tx_full;
    uint8_t *pending; /* NET_FRAME_MAX bytes; allocated at the first start */
    uint32_t pending_len;
    uint32_t expected; /* length of the last frame: room for as much is popped for the next one */
} VirtioNetPair;

typedef struct VirtioNet {
    VirtioPci base;
    NetClient client;
    /* config */
    char *netdev, *mac_text, *iothread, *speed_text;
    uint16_t rx_queue_size, tx_queue_size, host_mtu;
    int tx, duplex;
    bool offers[VIRTIO_NET_OFFERS]; /* the features of virtio_net_offers[] */
    /* config: fixed at realize */
    uint64_t wanted; /* features, if the back end allows them */
    unsigned pairs;  /* offered */
    uint32_t can_send, can_receive;
    uint32_t link_speed;
    uint8_t link_duplex;
    /* state */
    VirtioNetState state;
    /* runtime */
    IoThread *home_thread; /* the home, if the back end has chosen it; owned */
    RankMutex filter_lock;
    VirtioNetVhost vhost;
    /* runtime, home loop */
    bool has_data_queues; /* since the last start: no back end of the queues (vhost) has them */
    VirtioNetPair queues[VIRTIO_NET_MAX_PAIRS];
    bool control_running; /* the coroutine of the control queue exists */
    unsigned control_queue;
    VirtQueueElement *control_first; /* its first command */
    CoQueue control_ended;
    VirtQueueElement **elements; /* of one frame */
    struct iovec *iov;           /* of one frame */
    uint8_t *scratch;            /* NET_FRAME_MAX bytes */
} VirtioNet;

extern const DeviceType virtio_net_pci_type;
/* Gives @dev another MAC address, which the driver finds when it reads the config space again. The receive filter
 * stays the driver's. The VM is stopped. */
void virtio_net_set_mac(Device *dev, const uint8_t mac[NET_MAC_BYTES]) RUNS_IN_MAIN;

static inline VirtioNet *virtio_net_from(VirtioDevice *vdev)
{
    return (VirtioNet *)(void *)((uint8_t *)vdev - offsetof(VirtioNet, base.vdev));
}

static inline unsigned virtio_net_rx(unsigned pair)
{
    return 2 * pair;
}

static inline unsigned virtio_net_tx(unsigned pair)
{
    return 2 * pair + 1;
}

/* ---- virtio_net.c ---- */
extern const VirtioOps virtio_net_ops;
#define VIRTIO_NET_CONFIG_SIZE 17 /* up to `duplex`, §5.1.4 */
/* The features of the device: those of `offers` that the back end allows. */
uint64_t virtio_net_offered(const VirtioNet *n) RUNS_IN_MAIN;
extern const NetClientOps virtio_net_client_ops;
/* Applies guest_offloads and `pairs` to the back end. */
void virtio_net_configure(VirtioNet *n) RUNS_IN_LOOP;
void assert_virtio_net_state(const VirtioNet *n) RUNS_IN_LOOP;
/* Guest offloads that can be negotiated: the feature bits among @features. */
uint64_t virtio_net_guest_offloads_of(uint64_t features) ANY_THREAD;

/* ---- virtio_net_rx.c: home loop ---- */
/* The driver added buffers to the receive queue of @pair, or the pair is used from now on. */
void virtio_net_rx_serve(VirtioNet *n, unsigned pair) RUNS_IN_LOOP;
/* The back end may have a frame. */
void virtio_net_rx_readable(VirtioNet *n, unsigned pair) RUNS_IN_LOOP;
void virtio_net_rx_stop(VirtioNet *n, unsigned pair) RUNS_IN_LOOP;

/* ---- virtio_net_tx.c: home loop ---- */
void virtio_net_tx_serve(VirtioNet *n, unsigned pair) RUNS_IN_LOOP;
void virtio_net_tx_writable(VirtioNet *n, unsigned pair) RUNS_IN_LOOP;

/* ---- virtio_net_control.c: home loop ---- */
void virtio_net_control_serve(VirtioNet *n, unsigned queue) RUNS_IN_LOOP;
/* Returns when no command is in progress. The queues are stopped. */
void virtio_net_control_co_settle(VirtioNet *n) coroutine_fn RUNS_IN_LOOP;

#endif
