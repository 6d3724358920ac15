/* SPDX-License-Identifier: Apache-2.0 */
/* Receiving: from the back end into the receive queues (virtio 1.2 §5.1.6.3, §5.1.6.4), and the filter. */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_net.h"
#include "util/iov.h"

/* Frames that a queue receives before other work has its turn. */
#define VIRTIO_NET_RX_BUDGET 64
/* Pieces of guest memory that one frame is read into; the rest goes to `pending`. */
#define VIRTIO_NET_RX_PIECES 512
/* Buffers that one frame may take: 64 KiB in buffers of 512 bytes. One call of handle_queue may pop as
 * many. */
#define VIRTIO_NET_RX_ELEMENTS VIRTIO_QUEUE_BUDGET

/* ---- buffers of the driver ---- */

/* The buffers that are popped for one frame. */
typedef struct RxRoom {
    unsigned elements; /* in n->elements */
    unsigned pieces;   /* in n->iov: the elements' memory in order */
    size_t bytes;
} RxRoom;

static unsigned rx_most_elements(const VirtioNet *n)
{
    return virtio_has_feature(&n->base.vdev, VIRTIO_NET_F_MRG_RXBUF) ? VIRTIO_NET_RX_ELEMENTS : 1;
}

/* Pops buffers until there are @wanted bytes, or no more. */
static RUNS_IN_LOOP void rx_pop(VirtioNet *n, unsigned pair, RxRoom *room, size_t wanted)
{
    VirtioDevice *vdev = &n->base.vdev;
    unsigned queue = virtio_net_rx(pair);
    unsigned most = rx_most_elements(n);
    while (room->bytes < wanted && room->elements < most && room->pieces < VIRTIO_NET_RX_PIECES) {
        VirtQueueElement *e = virtio_pop(vdev, queue);
        if (e == NULL) {
            return;
        }
        if (e->in_len < sizeof(NetHeader)) {
            virtio_fail_request(vdev, queue, e,
                                "a receive buffer too small for the header of a frame");
            return;
        }
        unsigned pieces = MIN(e->in_num, VIRTIO_NET_RX_PIECES - room->pieces);
        memcpy(n->iov + room->pieces, e->in, pieces * sizeof(*n->iov));
        room->bytes += iov_size(e->in, pieces);
        room->pieces += pieces;
        n->elements[room->elements++] = e;
    }
}

static RUNS_IN_LOOP void rx_unpop(VirtioNet *n, unsigned pair, RxRoom *room, unsigned keep)
{
    while (room->elements > keep) { /* the last one first */
        virtio_unpop(&n->base.vdev, virtio_net_rx(pair), n->elements[--room->elements]);
    }
}

/* Whether more buffers could be popped for the same frame later. */
static bool rx_can_grow(const VirtioNet *n, unsigned pair, const RxRoom *room)
{
    return room->elements <
               MIN(rx_most_elements(n), n->base.vdev.queues[virtio_net_rx(pair)].setup.size) &&
           room->pieces < VIRTIO_NET_RX_PIECES;
}

/* Gives the driver the frame of @len bytes at the begin of the room, and returns the rest of the room. */
static RUNS_IN_LOOP void rx_deliver(VirtioNet *n, unsigned pair, RxRoom *room, size_t len)
{
    VirtioDevice *vdev = &n->base.vdev;
    unsigned queue = virtio_net_rx(pair), used = 0;
    for (size_t covered = 0; covered < len; used++) {
        covered += n->elements[used]->in_len;
    }
    rx_unpop(n, pair, room, used);
    uint16_t num_buffers = GUINT16_TO_LE((uint16_t)used);
    iov_copy_from_buf(n->iov, room->pieces, offsetof(NetHeader, num_buffers), &num_buffers,
                      sizeof(num_buffers));
    if (!virtio_has_feature(vdev, VIRTIO_NET_F_GUEST_CSUM)) {
        uint8_t flags = 0; /* §5.1.6.4.1 */
        iov_copy_from_buf(n->iov, room->pieces, offsetof(NetHeader, flags), &flags, sizeof(flags));
    }
    trace_virtio_net_receive(device_label(vdev->dev), pair, len, used);
    for (unsigned i = 0; i < used; i++) {
        size_t part = MIN(len, n->elements[i]->in_len);
        len -= part;
        if (i + 1 < used) {
            virtio_fill(vdev, queue, n->elements[i], (uint32_t)part);
        } else {
            virtio_complete(vdev, queue, n->elements[i], (uint32_t)part);
        }
    }
}

/* ---- the states of a queue ---- */

static RUNS_IN_LOOP void rx_set_phase(VirtioNet *n, unsigned pair, VirtioNetRxPhase phase)
{
    bool ready = phase == VIRTIO_NET_RX_READY;
    n->queues[pair].phase = phase;
    net_client_watch(&n->client, pair, ready);
    virtio_set_silent(&n->base.vdev, virtio_net_rx(pair), ready);
}

/* The frame in `pending` (all of it) is dropped, or delivered. */
static void rx_clear_pending(VirtioNet *n, unsigned pair)
{
    n->queues[pair].pending_len = 0;
}

/* The frame does not fit into @room, whose end is in `pending`: keeps it whole. */
static RUNS_IN_LOOP void rx_keep(VirtioNet *n, unsigned pair, RxRoom *room, size_t filled,
                                 size_t len)
{
    VirtioNetPair *p = &n->queues[pair];
    memmove(p->pending + filled, p->pending, len - filled);
    iov_copy_to_buf(n->iov, room->pieces, 0, p->pending, filled);
    rx_unpop(n, pair, room, 0);
    p->pending_len = (uint32_t)len;
    rx_set_phase(n, pair, VIRTIO_NET_RX_STARVED);
}

/* Delivers a frame of @len bytes, of which the room has the first @filled and `pending` the rest. */
static RUNS_IN_LOOP void rx_place(VirtioNet *n, unsigned pair, RxRoom *room, size_t filled,
                                  size_t len)
{
    if (len > filled) {
        rx_pop(n, pair, room, len);
        if (room->bytes >= len) {
            iov_copy_from_buf(n->iov, room->pieces, filled, n->queues[pair].pending, len - filled);
        }
    }
    if (room->bytes >= len) {
        rx_deliver(n, pair, room, len);
    } else if (rx_can_grow(n, pair, room)) {
        rx_keep(n, pair, room, filled, len);
    } else { /* the driver's buffers are too small for it */
        trace_virtio_net_receive(device_label(n->base.vdev.dev), pair, len, 0);
        rx_unpop(n, pair, room, 0);
    }
}

/* Receives one frame. False: there is none, or no buffer for it. */
static RUNS_IN_LOOP bool rx_one(VirtioNet *n, unsigned pair)
{
    VirtioNetPair *p = &n->queues[pair];
    RxRoom room = {0};
    rx_pop(n, pair, &room, MAX(p->expected, 1));
    if (room.elements == 0) {
        rx_set_phase(n, pair, VIRTIO_NET_RX_STARVED);
        return false;
    }
    n->iov[room.pieces] = (struct iovec){.iov_base = p->pending, .iov_len = NET_FRAME_MAX};
    ssize_t len = net_client_receive(&n->client, pair, n->iov, room.pieces + 1);
    uint8_t start[NET_FILTER_BYTES];
    if (len < (ssize_t)(sizeof(NetHeader) + NET_ETHERNET_HEADER)) { /* none, or no frame */
        rx_unpop(n, pair, &room, 0);
        return len >= 0;
    }
    p->expected = (uint32_t)len;
    size_t copied = iov_copy_to_buf(n->iov, room.pieces + 1, sizeof(NetHeader), start,
                                    MIN(sizeof(start), (size_t)len - sizeof(NetHeader)));
    if (!net_filter_passes(&n->state.filter, start, copied)) {
        rx_unpop(n, pair, &room, 0);
        return true;
    }
    rx_place(n, pair, &room, MIN(room.bytes, (size_t)len), (size_t)len);
    return p->phase == VIRTIO_NET_RX_READY;
}

void virtio_net_rx_readable(VirtioNet *n, unsigned pair)
{
    assert(n->queues[pair].phase == VIRTIO_NET_RX_READY);
    for (unsigned i = 0; i < VIRTIO_NET_RX_BUDGET && rx_one(n, pair); i++) {
        if (i % VIRTIO_NET_BATCH == 0) {
            virtio_flush(&n->base.vdev, virtio_net_rx(pair));
        }
    }
    assert_virtio_net_state(n);
}

/* Delivers what is pending. False: there are not enough buffers yet. */
static RUNS_IN_LOOP bool rx_serve_pending(VirtioNet *n, unsigned pair)
{
    VirtioNetPair *p = &n->queues[pair];
    RxRoom room = {0};
    size_t len = p->pending_len;
    rx_pop(n, pair, &room, MAX(len, 1));
    if (len == 0) {
        bool some = room.elements > 0;
        rx_unpop(n, pair, &room, 0);
        return some;
    }
    if (room.bytes < len && rx_can_grow(n, pair, &room)) {
        rx_unpop(n, pair, &room, 0);
        return false;
    }
    rx_clear_pending(n, pair);
    rx_place(n, pair, &room, 0, len);
    return true;
}

void virtio_net_rx_serve(VirtioNet *n, unsigned pair)
{
    VirtioNetPair *p = &n->queues[pair];
    if (pair >= n->state.pairs || p->phase == VIRTIO_NET_RX_READY) {
        return;
    }
    rx_set_phase(n, pair, rx_serve_pending(n, pair) ? VIRTIO_NET_RX_READY : VIRTIO_NET_RX_STARVED);
}

void virtio_net_rx_stop(VirtioNet *n, unsigned pair)
{
    rx_clear_pending(n, pair);
    rx_set_phase(n, pair, VIRTIO_NET_RX_STOPPED);
}
