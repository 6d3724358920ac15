/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-net whose data queues a vhost back end serves: the kernel's vhost-net, or another process. The
 * home loop keeps the control queue.
 *
 *   pairs in use (MQ), link up    which VhostDevs run: virtio_vhost_use()
 *   receive offloads, MQ          the tap device's: net_client_configure(), in the home loop
 *
 * The number of pairs changes by a control command, which is completed when its effect is: queues of a tap
 * device are attached before their vhost starts, and detached after it has stopped. The command waits in the
 * home loop for a coroutine in main, which depends on no other operation and ends in bounded time, also
 * while the device stops.
 *
 * While the link is down no VhostDev runs. The home loop has all queues then, and drops the frames of both
 * directions; so it does when the netdev has been removed. But while a back end that skiff cannot replace
 * (vhost-user) is not there, frames of the guest wait for it in the queues.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_NET_VHOST_H
#define SKIFF_HW_VIRTIO_VIRTIO_NET_VHOST_H

#include "hw/virtio/virtio_vhost.h"

struct VirtioNet;

typedef struct VirtioNetVhost {
    bool active; /* the back end has vhost; fixed at realize */
    VirtioVhost vhost;
    bool awaited; /* the queues wait for a back end that is not there; fixed at realize */
    /* main */
    unsigned pairs; /* in use */
    bool detached;  /* the netdev has been removed */
} VirtioNetVhost;

/* After the client is attached and before virtio_pci_realize(). Does nothing without vhost. */
bool virtio_net_vhost_realize(struct VirtioNet *n, GError **error) RUNS_IN_MAIN;
/* Before the client leaves. */
void virtio_net_vhost_co_unrealize(struct VirtioNet *n) coroutine_fn RUNS_IN_MAIN;
/* BQL: features were negotiated, or loaded: which queue is the control queue. */
void virtio_net_vhost_negotiated(struct VirtioNet *n) BQL_HELD;
/* Main: the link may have changed. */
void virtio_net_vhost_link_changed(struct VirtioNet *n) RUNS_IN_MAIN;
/* In the home loop: only the first @pairs are used from now on. Returns when the others have stopped and
 * these have started. Does nothing unless vhost has the queues. */
void virtio_net_vhost_co_use_pairs(struct VirtioNet *n, unsigned pairs) coroutine_fn RUNS_IN_LOOP;
/* Main: the netdev is about to be removed. */
void virtio_net_vhost_co_detaching(struct VirtioNet *n) coroutine_fn RUNS_IN_MAIN;

#endif
