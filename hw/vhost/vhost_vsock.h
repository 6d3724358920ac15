/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's vhost-vsock: sockets of the family AF_VSOCK between host and guest (virtio 1.2 §5.10). The
 * kernel serves the receive and the transmit queue, vrings 0 and 1.
 */
#ifndef SKIFF_HW_VHOST_VHOST_VSOCK_H
#define SKIFF_HW_VHOST_VHOST_VSOCK_H

#include "hw/vhost/vhost_kernel.h"

#define VHOST_VSOCK_VRINGS 2

/* As vhost_kernel_co_open(), and reserves @cid, the guest's address. Fails if another guest has it. */
bool vhost_vsock_co_open(VhostKernel *k, int fd, uint64_t cid, AioContext *ctx, const GuestRam *ram,
                         const char *name, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
