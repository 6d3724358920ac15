/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back end serves a device's queues instead of the home loop, as vhost does in the kernel or in
 * another process. It may answer later, and it may refuse.
 *
 *   core                                   back end
 *   start()  ----------------------------> takes the active queues
 *            <---------------------------- virtio_back_end_started(): serves them, or refuses
 *   stop()   ----------------------------> finishes requests in flight, takes nothing new
 *            <---------------------------- virtio_back_end_stopped()
 *
 * virtio.h has the owner's states and moves. Between a call and its answer main does other work:
 * any number of messages, a reset, a stop of the VM, an unplug, and writes of Bus Master by vCPUs.
 * The core keeps these requests, so a back end sees only start() and stop(), in turn.
 *
 * A device may keep some queues with its home loop (VirtioDevice.home_queues: the control queue of a
 * network card). "The queues" below are the others.
 *
 * Invariants
 *   1. At most one call is unanswered. Each is answered once, in a later call from main and never
 *      from within the call. An answer without a call aborts.
 *   2. From start() until it has refused or answered the stop, the back end owns the active queues'
 *      `setup`, `position` and `kick_fd`. It changes `position` only; also when it refuses, if it has
 *      served some queue before another one failed.
 *   3. It checks all active queues when it starts: a kick may have come before.
 *   4. stop() succeeds. A back end whose peer is gone answers with positions that lose the least:
 *      last_avail = used = the used ring's index.
 *   5. After its answer to stop() it writes to no eventfd of the queues.
 *   6. Each call is answered in bounded time. A back end that depends on another process has its
 *      own timeout; until the answer the VM neither starts nor stops.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_BACK_END_H
#define SKIFF_HW_VIRTIO_VIRTIO_BACK_END_H

#include "hw/virtio/virtio.h"

/* Called with the BQL held, in main or a vCPU; they post a message and return. */
struct VirtioBackEndOps {
    void (*start)(VirtioDevice *vdev);
    void (*stop)(VirtioDevice *vdev);
    /* The interrupt of active queue @index differs from the last virtio_queue_interrupt(). Called
     * between start() and the answer to stop(). A back end that has switched to another event_fd
     * calls virtio_interrupt_switched(). NULL: the back end interrupts through the transport. */
    void (*interrupt_changed)(VirtioDevice *vdev, unsigned index, VirtioInterrupt to);
    /* After a refusal the home loop serves the queues (VirtioOps.handle_queue) until the next
     * hand-over. Otherwise the device needs a reset, or the VM does not start: see virtio.h. */
    bool falls_back;
    /* Whether a peer that was given up may still use the rings. Until it is gone the home loop does not serve them
     * either: a device whose queues are handed over needs a reset. For a back end that falls back; may be NULL. */
    bool (*lingers)(const VirtioDevice *vdev);
};

/* Without @use the home loop serves all queues (VirtioOps.handle_queue), now and after later hand-overs;
 * initially the back end does. Queues that are handed over are recalled for it. Posts a message; does not wait. */
void virtio_use_back_end(VirtioDevice *vdev, bool use) BQL_HELD;

/* ---- interrupts by eventfd ---- */
/* How the driver is interrupted for queue @index, for a back end that has queues. */
VirtioInterrupt virtio_queue_interrupt(const VirtioDevice *vdev, unsigned index) BQL_HELD;
/* Events of queue @index now go to the latest eventfd. Interrupts the driver once, since an event
 * that went to the previous one may not have reached it. */
void virtio_interrupt_switched(VirtioDevice *vdev, unsigned index) ANY_THREAD;

/* ---- the answers ---- */
/* @error NULL: the back end serves the queues. Otherwise it has none of them any more; @error has the
 * reason without the device's name and stays the caller's. */
void virtio_back_end_started(VirtioDevice *vdev, const GError *error) RUNS_IN_MAIN;
/* Nothing is in flight, and `position` of each active queue is current. */
void virtio_back_end_stopped(VirtioDevice *vdev) RUNS_IN_MAIN;
/* The back end cannot continue: a ring is invalid, or its peer is gone. The device needs a reset;
 * the back end keeps the queues until stop(). */
void virtio_back_end_broken(VirtioDevice *vdev, const char *why) RUNS_IN_MAIN;

#endif
