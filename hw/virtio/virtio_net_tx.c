/* SPDX-License-Identifier: Apache-2.0 */
/* Sending: from the transmit queues to the back end (virtio 1.2 §5.1.6.2). */
#include <errno.h>
#include <string.h>
#include "hw/virtio/trace_events.h"
#include "hw/virtio/virtio_net.h"
#include "util/iov.h"

/* Longer lists are copied into one piece: a system call takes at most 1024 pieces. */
#define VIRTIO_NET_TX_PIECES 256

/* ---- the header ---- */

/* The feature that the guest must have negotiated for @gso_type (without ECN); 0: there is none. */
static uint64_t tx_gso_feature(uint8_t gso_type)
{
    switch (gso_type) {
    case NET_HEADER_GSO_TCPV4:
        return VIRTIO_NET_F_HOST_TSO4;
    case NET_HEADER_GSO_TCPV6:
        return VIRTIO_NET_F_HOST_TSO6;
    case NET_HEADER_GSO_UDP:
        return VIRTIO_NET_F_HOST_UFO;
    case NET_HEADER_GSO_UDP_L4:
        return VIRTIO_NET_F_HOST_USO;
    default:
        return 0;
    }
}

/* Why a frame of @bytes with this header cannot be sent; NULL: it can. */
static const char *tx_header_fault(const VirtioDevice *vdev, const NetHeader *h, size_t bytes)
{
    uint8_t type = h->gso_type & (uint8_t)~NET_HEADER_GSO_ECN;
    if (h->flags & NET_HEADER_NEEDS_CSUM) {
        size_t end = (size_t)GUINT16_FROM_LE(h->csum_start) + GUINT16_FROM_LE(h->csum_offset) + 2;
        if (!virtio_has_feature(vdev, VIRTIO_NET_F_CSUM)) {
            return "NEEDS_CSUM was not negotiated";
        }
        if (end > bytes) {
            return "the checksum is outside the frame";
        }
    }
    if (h->gso_type == NET_HEADER_GSO_NONE) {
        return NULL;
    }
    if (!virtio_has_feature(vdev, tx_gso_feature(type)) ||
        ((h->gso_type & NET_HEADER_GSO_ECN) && !virtio_has_feature(vdev, VIRTIO_NET_F_HOST_ECN))) {
        return "the segmentation was not negotiated";
    }
    return h->gso_size == 0 ? "segments of 0 bytes" : NULL;
}

/* ---- one frame ---- */

/* Makes n->iov the frame with the copied header @h; returns the number of pieces. */
static unsigned tx_gather(VirtioNet *n, const VirtQueueElement *e, NetHeader *h)
{
    size_t bytes = e->out_len - sizeof(*h);
    n->iov[0] = (struct iovec){.iov_base = h, .iov_len = sizeof(*h)};
    if (e->out_num <= VIRTIO_NET_TX_PIECES) {
        return 1 + iov_slice(n->iov + 1, VIRTIO_NET_TX_PIECES, e->out, e->out_num, sizeof(*h),
                             bytes, NULL);
    }
    iov_copy_to_buf(e->out, e->out_num, sizeof(*h), n->scratch, bytes);
    n->iov[1] = (struct iovec){.iov_base = n->scratch, .iov_len = bytes};
    return 2;
}

/* Sends the frame, or drops it. False: the back end is full. */
static RUNS_IN_LOOP bool tx_send(VirtioNet *n, unsigned pair, const VirtQueueElement *e)
{
    VirtioDevice *vdev = &n->base.vdev;
    NetHeader h;
    iov_copy_to_buf(e->out, e->out_num, 0, &h, sizeof(h)); /* read once: checked, then sent */
    if (e->out_len > NET_FRAME_MAX || e->out_len < sizeof(h) + NET_ETHERNET_HEADER) {
        virtio_guest_error(vdev, "a frame of %" PRIu64 " bytes is dropped", e->out_len - sizeof(h));
        return true;
    }
    const char *fault = tx_header_fault(vdev, &h, e->out_len - sizeof(h));
    if (fault != NULL) {
        virtio_guest_error(vdev, "a frame is dropped: %s (flags 0x%x, gso_type 0x%x)", fault,
                           h.flags, h.gso_type);
        return true;
    }
    h.flags &= NET_HEADER_NEEDS_CSUM; /* the others are the device's, §5.1.6.2 */
    h.num_buffers = 0;
    unsigned pieces = tx_gather(n, e, &h);
    ssize_t ret = net_client_send(&n->client, pair, n->iov, pieces);
    trace_virtio_net_send(device_label(vdev->dev), pair, e->out_len, h.gso_type, (int)ret);
    return ret != -EAGAIN;
}

void virtio_net_tx_serve(VirtioNet *n, unsigned pair)
{
    VirtioDevice *vdev = &n->base.vdev;
    unsigned queue = virtio_net_tx(pair);
    VirtQueueElement *e;
    unsigned sent = 0;
    while (!n->queues[pair].tx_full && (e = virtio_pop(vdev, queue))) {
        if (e->out_len < sizeof(NetHeader)) {
            virtio_fail_request(vdev, queue, e, "too small for the header of a frame");
            return;
        }
        if (!tx_send(n, pair, e)) {
            n->queues[pair].tx_full = true;
            virtio_unpop(vdev, queue, e);
            virtio_set_silent(vdev, queue, true);
            return;
        }
        virtio_complete(vdev, queue, e, 0);
        if (++sent == VIRTIO_NET_BATCH) {
            virtio_yield(vdev, queue);
        }
    }
}

void virtio_net_tx_writable(VirtioNet *n, unsigned pair)
{
    n->queues[pair].tx_full = false;
    virtio_set_silent(&n->base.vdev, virtio_net_tx(pair), false);
}
