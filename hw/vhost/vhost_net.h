/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's vhost-net: it moves frames between a pair of virtio-net's queues and a tap device, without
 * skiff. One descriptor of /dev/vhost-net serves one pair: vring 0 receives, vring 1 sends.
 */
#ifndef SKIFF_HW_VHOST_VHOST_NET_H
#define SKIFF_HW_VHOST_VHOST_NET_H

#include "hw/vhost/vhost_kernel.h"

#define VHOST_NET_VRINGS 2
/* The features of virtio-net that vhost-net implements itself; the others are the tap device's. */
#define VHOST_NET_FEATURES (1ull << 15) /* VIRTIO_NET_F_MRG_RXBUF */

typedef struct VhostNet {
    VhostKernel kernel;
    int tap_fd; /* borrowed */
} VhostNet;

/* As vhost_kernel_co_open(). @tap_fd is a queue of a tap device whose frames begin with the 12-byte
 * header. The user sets dev.ram. */
bool vhost_net_co_open(VhostNet *n, int fd, int tap_fd, AioContext *ctx, const char *name,
                       GError **error) coroutine_fn RUNS_IN_MAIN;
void vhost_net_co_close(VhostNet *n) coroutine_fn RUNS_IN_MAIN;

#endif
