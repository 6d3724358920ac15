/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by virtio_vhost.c (phases, notes, the coroutine) and virtio_vhost_parts.c. The coroutine calls what
 * starts and stops parts. */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_VHOST_INT_H
#define SKIFF_HW_VIRTIO_VIRTIO_VHOST_INT_H

#include "hw/virtio/virtio_vhost.h"

/* The device's queue that @vring of @part is. */
VirtioQueue *virtio_vhost_vring_queue(const VirtioVhost *v, const VirtioVhostPart *part,
                                      const VhostVring *vring) RUNS_IN_MAIN;

/* All wanted parts are there. */
bool virtio_vhost_all_usable(const VirtioVhost *v) RUNS_IN_MAIN;
/* The wanted parts that are not there may come back. */
bool virtio_vhost_all_reconnect(const VirtioVhost *v) RUNS_IN_MAIN;
/* The first part that is lost, of those that run or are wanted; NULL: none. One may be lost and usable again:
 * its kernel or process has been replaced meanwhile. Its `why` is the reason. */
const VirtioVhostPart *virtio_vhost_lost_part(const VirtioVhost *v) RUNS_IN_MAIN;
/* How often parts were lost so far. */
unsigned virtio_vhost_losses(const VirtioVhost *v) RUNS_IN_MAIN;

/* Stops the parts from @first on and keeps their positions. */
void virtio_vhost_co_stop_from(VirtioVhost *v, unsigned first) coroutine_fn RUNS_IN_MAIN;
/* Stops all parts; the device's hook follows. */
void virtio_vhost_co_stop_parts(VirtioVhost *v) coroutine_fn RUNS_IN_MAIN;
/* Starts parts until those wanted run. False + error: one is not started. */
bool virtio_vhost_co_start_wanted(VirtioVhost *v, GError **error) coroutine_fn RUNS_IN_MAIN;
/* The device's hook, then starts all parts that are wanted, or none. */
bool virtio_vhost_co_start_parts(VirtioVhost *v, GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
