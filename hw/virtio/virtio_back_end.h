/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A back end: whoever serves a device's queues in the home loop's place, such as vhost in the
 * kernel or in another process. It may answer later, and it may refuse.
 *
 *   core                                   back end
 *   start()  ----------------------------> takes the active queues
 *            <---------------------------- virtio_back_end_started(): serves them, or refuses
 *   stop()   ----------------------------> finishes what is in flight, takes nothing new
 *            <---------------------------- virtio_back_end_stopped()
 *
 * virtio.h has the owner's states and moves. Between a question and its answer main does other
 * work: any number of messages, a reset, a stop of the VM, an unplug, and Bus Master written by
 * vCPUs. The core remembers what these ask for, so a back end sees only the two questions in turn.
 *
 * Invariants
 *   1. One question is open at most. Each is answered once, in a later call from main and never
 *      from within the question; an answer that was not asked for aborts.
 *   2. From start() until it has refused or answered the stop, the active queues' `setup`, `position`
 *      and `kick_fd` are the back end's. It changes `position` only, and not when it refuses.
 *   3. It looks at all active queues when it starts: a kick may have come before.
 *   4. stop() succeeds. A back end whose peer is gone answers with positions that lose the least:
 *      last_avail = used = the used ring's index.
 *   5. After its answer to stop() it writes to no eventfd of the queues.
 *   6. Each question is answered in bounded time. A back end that talks to another process has a
 *      timeout of its own; until the answer the VM neither starts nor stops.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_BACK_END_H
#define SKIFF_HW_VIRTIO_VIRTIO_BACK_END_H

#include "hw/virtio/virtio.h"

/* The questions: called with the BQL held, in main or a vCPU; they post and return. */
struct VirtioBackEndOps {
    void (*start)(VirtioDevice *vdev);
    void (*stop)(VirtioDevice *vdev);
    /* The interrupt of active queue @index is another than virtio_queue_interrupt() said before. From
     * start() until the answer to stop(). A back end that has switched to another event_fd calls
     * virtio_interrupt_switched(). NULL: the back end interrupts through the transport. */
    void (*interrupt_changed)(VirtioDevice *vdev, unsigned index, VirtioInterrupt to);
    /* When it refuses, the home loop serves the queues (VirtioOps.handle_queue) until the next
     * hand-over. Otherwise the device needs a reset, or the VM does not start: see virtio.h. */
    bool falls_back;
};

/* ---- interrupts by eventfd ---- */
/* What interrupts the driver for queue @index, for a back end that has queues. */
VirtioInterrupt virtio_queue_interrupt(const VirtioDevice *vdev, unsigned index) BQL_HELD;
/* Events of queue @index go to the eventfd that was told last. Interrupts the driver once, since an
 * event that went to the one before may not have reached it. */
void virtio_interrupt_switched(VirtioDevice *vdev, unsigned index) ANY_THREAD;

/* ---- the answers ---- */
/* @error NULL: it serves the queues. Else nothing was taken, and @error, which stays the caller's,
 * says why without naming the device. */
void virtio_back_end_started(VirtioDevice *vdev, const GError *error) RUNS_IN_MAIN;
/* Nothing is in flight, `position` of each active queue is up to date. */
void virtio_back_end_stopped(VirtioDevice *vdev) RUNS_IN_MAIN;
/* It cannot go on: a ring is invalid, or its peer is gone. The device needs a reset; the queues stay
 * with the back end until it is asked to stop. */
void virtio_back_end_broken(VirtioDevice *vdev, const char *why) RUNS_IN_MAIN;

#endif
