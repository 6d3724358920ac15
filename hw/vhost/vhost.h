/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost: another party, the host's kernel or a process, serves the virtqueues of a device.
 *
 * A VhostDev is the control channel to that party, the back end. vhost_kernel.h implements it by ioctls,
 * vhost_user.h by messages on a socket. This file is what they share: the order of a start and of a stop,
 * their time limit, and what happens when the back end is lost. Virtio devices use it through
 * hw/virtio/virtio_vhost.h. Everything here runs in main; what may wait is a coroutine.
 *
 *            vhost_co_start            (all accepted)            vhost_co_stop
 *   STOPPED ----------------> STARTING -------------> RUNNING ------------------> STOPPING
 *      ^                         | refused, or lost     | vhost_lost                 |
 *      |<------------------------+                      v                            |
 *      |<---------------------- vhost_co_stop -------- LOST                          |
 *      +<----------------------------------------------------------------------------+
 *
 * vhost_moves[] (vhost.c) names the function of each move.
 *
 * Order of a start: features, memory table, prepare, each vring (size, base, addresses, error, call and
 * kick descriptor), then run. Order of a stop: run off, then each vring is stopped and its position read.
 *
 * Invariants (assert_vhost_state())
 *   1. A back end in STOPPED does not access guest memory. The others are counted: while the count is not
 *      0, no VmStopped token is issued (hw/core/memory_users.h). A back end that was given up is in STOPPED
 *      when it is gone (co_gone), or has not gone in time: a kernel or process that hangs cannot be stopped.
 *      Its rings are used by nobody else then (VhostLingering).
 *   2. Operations of one VhostDev do not overlap. Its user calls vhost_co_*() one after the other, and a
 *      change of the log waits for its turn (`busy`).
 *   3. A start that fails stops what it has started. A stop always succeeds.
 *   4. A start and a stop each end within `timeout_ns`, whatever the back end does. A back end that
 *      does not answer in time is lost: it is given up, and further operations fail at once.
 *   5. Positions of a back end that was lost are those that lose no request: last_avail = used = the used
 *      ring's index. Requests in flight are then served again.
 */
#ifndef SKIFF_HW_VHOST_VHOST_H
#define SKIFF_HW_VHOST_VHOST_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "hw/core/ram.h"
#include "hw/core/run_state.h"
#include "hw/vhost/vhost_memory.h"
#include "util/loop/coroutine.h"

#define VHOST_MAX_VRINGS 64
/* The limit of a start or a stop, unless the device sets another one. */
#define VHOST_TIMEOUT_NS (5 * 1000000000ll)

/* Feature bits that only vhost has; a driver never sees them. */
#define VHOST_F_LOG_WRITES (1ull << 26)

typedef struct VhostDev VhostDev;

/*
 * How many back ends of a device were given up and may still use its rings: a kernel that hangs in a call carries
 * it out when it goes on, and may connect the rings then. Until they are gone nobody else may serve the rings.
 * Shared by the device and these back ends, which may exist longer than it does.
 */
typedef struct VhostLingering {
    _Atomic unsigned count, references;
} VhostLingering;
VhostLingering *vhost_lingering_new(void) ANY_THREAD;
void vhost_lingering_unref(VhostLingering *l) ANY_THREAD;
/* A back end of the device lingers, until vhost_lingering_end(). Returns @l, which may be NULL. */
VhostLingering *vhost_lingering_begin(VhostLingering *l) ANY_THREAD;
void vhost_lingering_end(VhostLingering *l) ANY_THREAD;

/* A virtqueue as a back end gets it. `index` counts the vrings of the back end, not the device's queues.
 * Descriptors are borrowed until the stop. */
typedef struct VhostVring {
    unsigned index;
    uint16_t size;
    uint16_t base; /* next available entry to take */
    uint64_t desc_gpa, avail_gpa, used_gpa;
    /* Set by vhost_co_start(), which checks alignment and that the rings are RAM. */
    void *desc, *avail, *used;
    int kick_fd;
    int call_fd; /* -1: the driver polls */
    int err_fd;  /* an eventfd: the ring is invalid; -1: none */
} VhostVring;

typedef struct VhostStart {
    uint64_t
        features; /* negotiated with the driver; those the back end does not have are ignored */
    VhostVring *vrings;
    unsigned count;
} VhostStart;

/* Pages that the back end writes: bit n of the bitmap is page n of guest-physical address space. */
typedef struct VhostLog {
    uint64_t *bitmap;
    uint64_t bytes;
    int fd; /* the shared memory behind it, or -1 */
} VhostLog;

/*
 * Defined by a kind of back end. Each co_* function returns false + error if the back end refuses, is
 * lost or does not answer until dev->deadline_ns (aio_now_ns(dev->ctx)); in the latter two cases it calls
 * vhost_lost() first. They do not overlap. Coroutines in main.
 */
typedef struct VhostOps {
    /* The features to use, a subset of dev->features. */
    bool (*co_set_features)(VhostDev *dev, uint64_t features, GError **error);
    bool (*co_set_memory)(VhostDev *dev, const VhostMemory *memory, GError **error);
    /* Called after the memory table and before the first vring; may be NULL. */
    bool (*co_prepare)(VhostDev *dev, const VhostStart *start, GError **error);
    /* Size, base, addresses and descriptors. The back end does not serve it before co_run. */
    bool (*co_set_vring)(VhostDev *dev, const VhostVring *vring, GError **error);
    /* Changes the call descriptor (-1: none), also while the back end serves the vring. */
    bool (*co_set_call)(VhostDev *dev, unsigned index, int fd, GError **error);
    /* The vrings of the start are served from now on, or are not any more. @on: the back end looks at
     * all of them once, since kicks may have come before. */
    bool (*co_run)(VhostDev *dev, const VhostStart *start, bool on, GError **error);
    /* When it returns, no request of the vring is in flight, and the back end uses neither the ring nor
     * the descriptors any more. *@last_avail: the next available entry. */
    bool (*co_stop_vring)(VhostDev *dev, unsigned index, uint16_t *last_avail, GError **error);
    /* Starts (with @log) and stops (NULL) the log of writes, in a running back end or before co_set_vring.
     * May be NULL: the back end cannot log. */
    bool (*co_set_log)(VhostDev *dev, const VhostLog *log, const VhostStart *start, GError **error);
    /* Gives the back end up: calls under way and later ones fail at once. Called by vhost_lost(). It may
     * neither wait nor call back. If it is known when the back end accesses guest memory no more, it is counted
     * in dev->lingering until then. */
    void (*give_up)(VhostDev *dev);
    /* After give_up: returns when the back end accesses guest memory no more, at dev->deadline_ns at the
     * latest. May be NULL: that cannot be known. */
    void (*co_gone)(VhostDev *dev);
} VhostOps;

/* Set by the user of a VhostDev. Called in main from a bottom half, never from within an operation. */
typedef struct VhostEvents {
    /* The back end is lost; @why is for the log. In LOST the user calls vhost_co_stop(). */
    void (*lost)(void *opaque, const char *why);
    /* A back end that was lost (or has not been there yet) can be started. May be NULL. */
    void (*came_back)(void *opaque);
} VhostEvents;

typedef enum VhostPhase {
    VHOST_STOPPED,
    VHOST_STARTING,
    VHOST_RUNNING,
    VHOST_STOPPING,
    VHOST_LOST,
    VHOST_PHASES,
} VhostPhase;

/* Embedded first in an implementation's struct. */
struct VhostDev {
    /* fixed: set by vhost_init() */
    const VhostOps *ops;
    AioContext *ctx; /* main's */
    const GuestRam *ram;
    const char *name; /* for messages: "vhost-vsock", "vhost-user net0"; borrowed */
    /* set by the implementation before it can be started */
    uint64_t features;     /* what the back end offers, including VHOST_F_LOG_WRITES */
    unsigned num_vrings;   /* at most VHOST_MAX_VRINGS */
    unsigned max_regions;  /* of the memory table */
    bool needs_fds;        /* it maps guest memory itself: each region needs a descriptor */
    const char *log_lacks; /* which of its writes it does not log; NULL: it logs all */
    bool reconnects;       /* a back end that is lost, or not there yet, may come back */
    bool usable;           /* it is there; cleared by vhost_lost(), set by vhost_came_back() */
    int64_t timeout_ns;    /* of a start or stop; VHOST_TIMEOUT_NS unless changed */
    /* set by the user */
    const VhostEvents *events; /* may be NULL */
    void *events_opaque;
    VhostLingering *lingering; /* the device's, borrowed; NULL: it has no device */
    /* runtime */
    VhostPhase phase;
    unsigned vrings_set;     /* by the last start: so many were set up, and may have been served */
    int64_t deadline_ns;     /* of the operation under way */
    const VhostLog *log;     /* what is logged to, or NULL; borrowed */
    unsigned losses;         /* so far */
    const VhostStart *start; /* in RUNNING; borrowed */
    bool busy;               /* an operation is under way */
    CoQueue idle;            /* waits for its end */
    VhostDev *log_next;      /* vhost_log.c */
    char why[128];           /* why it was lost */
    AioBh lost_bh, back_bh;
};

void vhost_init(VhostDev *dev, const VhostOps *ops, AioContext *ctx, const GuestRam *ram,
                const char *name) RUNS_IN_MAIN;
/* In STOPPED. Drops events that have not been reported. */
void vhost_cleanup(VhostDev *dev) RUNS_IN_MAIN;

/* ---- for the user ---- */
/* From STOPPED. Fills in the ring pointers of @start->vrings. False + error: the device's rings are
 * invalid, or the back end refuses, or it is lost; it then is in STOPPED and accesses no memory. With
 * @dev->vrings_set it may have served these vrings before it failed, and their `base` is current. @start is
 * borrowed until the stop. */
bool vhost_co_start(VhostDev *dev, const VhostStart *start, GError **error)
    coroutine_fn RUNS_IN_MAIN NOT_WHILE_VM_STOPPED;
/* From RUNNING or LOST. Sets `base` of each vring to its position. False: the back end was lost, and the
 * positions are those of invariant 5. */
bool vhost_co_stop(VhostDev *dev, const VhostStart *start) coroutine_fn RUNS_IN_MAIN;
/* In RUNNING: interrupts of vring @index go to @fd, -1: to none. False: the back end is lost. */
bool vhost_co_set_call(VhostDev *dev, const VhostStart *start, unsigned index, int fd)
    coroutine_fn RUNS_IN_MAIN;
/* In any phase: from now on the back end logs its writes to @log; NULL: not any more. A back end that does
 * not run does so at its next start. False + error: it refuses, and does not log. */
bool vhost_co_set_log(VhostDev *dev, const VhostLog *log, GError **error) coroutine_fn RUNS_IN_MAIN;
/* @features without those bits of @mask that the back end does not have. @mask: what the back end
 * implements for the device; the other bits are the device's own. */
uint64_t vhost_offer(const VhostDev *dev, uint64_t features, uint64_t mask) RUNS_IN_MAIN;

/* ---- for implementations ---- */
/* The back end is lost: gives it up and reports it. A second call does nothing. */
void vhost_lost(VhostDev *dev, const char *why) RUNS_IN_MAIN;
/* The back end is there (again): it can be started. */
void vhost_came_back(VhostDev *dev) RUNS_IN_MAIN;

void assert_vhost_state(const VhostDev *dev) RUNS_IN_MAIN;

#endif
