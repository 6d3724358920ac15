/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins a virtio device and vhost: the device's VirtioBackEndOps, carried out by one or more VhostDevs
 * (hw/vhost/vhost.h). Each serves some consecutive queues of the device; a vhost-net card has one for each
 * pair of queues. Queues that none serves belong to VirtioDevice.home_queues.
 *
 * The calls of the core come with the BQL held, in any thread. They leave a note and schedule a bottom
 * half; one coroutine in main carries out what is noted, one thing after the other:
 *
 *              start noted            all VhostDevs run
 *   IDLE -------------------> STARTING ----------------> SERVING <---------------+
 *    ^                           | |  one is not there       | one is lost       | all are back,
 *    |<---- one refuses ---------+ |                         v                   | and run
 *    |                             +----------------> AWAY (it may come back) ---+
 *    |                                                GONE (the device needs a reset)
 *    |                    stop noted                         |
 *    +<------------------------------------------------------+
 *
 * In AWAY and GONE the queues stay with the back end, and no VhostDev runs. After a reconnection the rings
 * are served from the used ring's index on, so a request that was in flight is served again (or, if the
 * back end keeps track of requests in flight, as vhost-user can, is finished by it).
 *
 * Invariants
 *   1. The coroutine exists while anything is noted; it alone calls vhost_co_*(), and stops several parts at
 *      the same time: a stop ends within the time limit of one part, however many hang.
 *   2. A start is answered in SERVING, AWAY or, with the error, in IDLE; a stop in IDLE.
 *   3. In SERVING the first `running` parts run. When that is not `wanted`, the coroutine starts or stops
 *      the others. All parts are wanted, unless the device says otherwise.
 *   4. Call descriptors follow the guest's changes in SERVING; a change in another phase is part of the
 *      next start.
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_VHOST_H
#define SKIFF_HW_VIRTIO_VIRTIO_VHOST_H

#include "hw/vhost/vhost.h"
#include "hw/virtio/virtio_back_end.h"

typedef enum VirtioVhostPhase {
    VIRTIO_VHOST_IDLE,
    VIRTIO_VHOST_STARTING,
    VIRTIO_VHOST_SERVING,
    VIRTIO_VHOST_AWAY,
    VIRTIO_VHOST_GONE,
    VIRTIO_VHOST_PHASES,
} VirtioVhostPhase;

typedef struct VirtioVhost VirtioVhost;

/* The device's own steps; each may be NULL. Coroutines in main. */
typedef struct VirtioVhostHooks {
    /* Before the VhostDevs start; false + error: the start is refused. */
    bool (*co_starting)(VirtioVhost *v, GError **error);
    /* After they have stopped, were lost, or could not all be started. */
    void (*co_stopped)(VirtioVhost *v);
} VirtioVhostHooks;

/* A VhostDev and its queues: vring n is queue `first_queue` + n. */
typedef struct VirtioVhostPart {
    VirtioVhost *of;
    VhostDev *dev;
    unsigned first_queue, count;
    VhostVring *vrings; /* of the queues that the driver uses */
    VhostStart start;
} VirtioVhostPart;

struct VirtioVhost {
    /* fixed */
    VirtioDevice *vdev;
    const VirtioVhostHooks *hooks; /* may be NULL */
    void *opaque;                  /* the device's */
    const DeviceEnv *env;
    VhostLingering *lingering;
    VirtioVhostPart *parts;
    unsigned num_parts;
    /* notes, BQL */
    bool start_noted, stop_noted;
    uint64_t calls_noted; /* bit n: the interrupt of queue n has changed */
    /* main */
    VirtioVhostPhase phase;
    unsigned wanted;   /* the first so many parts are to run: virtio_vhost_use() */
    unsigned running;  /* in SERVING: so many do */
    unsigned stopping; /* parts whose stop is under way */
    CoQueue stopped;   /* waits for them */
    bool working;      /* the coroutine exists */
    CoQueue ended;     /* waits for it */
    int err_fd;        /* of all vrings */
    AioHandler *err_handler;
    AioBh work_bh;
};

/* Its home loop serves the queues while the back end refuses; else see VirtioBackEndOps.falls_back. */
extern const VirtioBackEndOps virtio_vhost_ops;
extern const VirtioBackEndOps virtio_vhost_fallback_ops;

/* Called before virtio_pci_realize(). The caller sets vdev->back_end and home_queues. @env is the
 * device's. */
bool virtio_vhost_init(VirtioVhost *v, VirtioDevice *vdev, const DeviceEnv *env, GError **error)
    RUNS_IN_MAIN;
/* Adds @dev, borrowed until the cleanup: it serves @count queues from @first_queue on. */
void virtio_vhost_add(VirtioVhost *v, VhostDev *dev, unsigned first_queue, unsigned count)
    RUNS_IN_MAIN;
/* Only the first @parts are to run (the pairs of queues that a driver uses; none while the link is down).
 * Also called by co_starting. Queues of parts that do not run are served by nobody. */
void virtio_vhost_use(VirtioVhost *v, unsigned parts) RUNS_IN_MAIN;
/* Returns when all that has been requested is carried out. */
void virtio_vhost_co_settle(VirtioVhost *v) coroutine_fn RUNS_IN_MAIN;
/* Takes all parts away, also from a running device; they may be freed then. */
void virtio_vhost_co_drop(VirtioVhost *v) coroutine_fn RUNS_IN_MAIN;
/* The device is stopped. After it returns, the VhostDevs may be freed. */
void virtio_vhost_co_cleanup(VirtioVhost *v) coroutine_fn RUNS_IN_MAIN;
/* Whether the VhostDevs serve the queues now. */
bool virtio_vhost_serves(const VirtioVhost *v) RUNS_IN_MAIN;

void assert_virtio_vhost_state(const VirtioVhost *v) RUNS_IN_MAIN;

#endif
