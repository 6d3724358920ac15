/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost back end in another process, over the socket of a chardev (vhost-user).
 *
 * The chardev makes the connection, as client or server, and makes it again (reconnect=). From its
 * CHARDEV_OPENED on, the connection belongs to a VhostUserLink. All in main.
 *
 *   ABSENT --CHARDEV_OPENED--> GREETING --(features, protocol, queues, config)--> USABLE
 *     ^                           | refused, lost                                  | lost
 *     +<--------------------------+<-----------------------------------------------+
 *
 * ABSENT, GREETING: dev.usable is false. The first greeting fixes what the device offers to its driver;
 * later ones are refused unless the peer has all of that.
 *
 * A lost back end may be replaced by one that continues with the same rings (dev.reconnects) if the
 * device's requests complete in order, or if the back end keeps the list of those in flight in memory
 * that skiff holds for it (INFLIGHT_SHMFD). Otherwise requests would be executed twice or never, and the
 * device needs a reset by its driver.
 *
 * The back end reads and writes all of guest RAM: it is trusted with the guest, but not with skiff.
 */
#ifndef SKIFF_HW_VHOST_VHOST_USER_H
#define SKIFF_HW_VHOST_VHOST_USER_H

#include <limits.h>
#include "hw/core/chardev.h"
#include "hw/vhost/vhost.h"
#include "hw/vhost/vhost_user_link.h"
#include "util/log.h"

/* How long a device waits for a back end to connect and to describe itself, when it is created. */
#define VHOST_USER_OPEN_NS (5 * 1000000000ll)

/* What a device needs of its back end. */
typedef struct VhostUserNeeds {
    unsigned vrings;          /* it must serve so many */
    unsigned vrings_per_unit; /* of GET_QUEUE_NUM: 1, or 2 where it counts pairs */
    uint64_t features;        /* it must offer these; VERSION_1 in any case */
    unsigned config_size;     /* bytes of configuration space that it has; 0: it has none */
    bool in_order;            /* requests complete in order: it may be replaced while it serves */
    bool stateful; /* it keeps state of the driver's: it is never replaced while it serves */
} VhostUserNeeds;

/* Called in main, never from within an operation. All may be NULL. */
typedef struct VhostUserEvents {
    /* `config` has new contents. */
    void (*config_changed)(void *opaque);
    /* A back end is there, after there was none, or the other way round: dev.usable. */
    void (*presence_changed)(void *opaque);
} VhostUserEvents;

typedef struct VhostUser {
    VhostDev dev;
    /* config */
    VhostUserNeeds needs;
    Chardev *chardev; /* borrowed */
    const VhostUserEvents *events;
    void *events_opaque;
    char *name; /* "vhost-user ID" */
    /* runtime */
    VhostUserLink *link;        /* NULL: ABSENT */
    bool greeted;               /* once: `offered` is fixed */
    uint64_t peer_features;     /* of the present peer; with F_PROTOCOL_FEATURES */
    uint64_t protocol_features; /* agreed with it */
    bool replaced;              /* the back end before this one was lost while it served */
    uint8_t config[VHOST_USER_MAX_CONFIG];
    bool config_stale, config_reading;
    VhostUserInflight inflight; /* its size, while inflight_fd is not -1 */
    int inflight_fd;
    _Atomic bool inflight_void; /* the rings are new: the list is not valid any more */
    uint64_t served;            /* vrings that it has not given back */
    unsigned enabled;           /* only vrings below this one are enabled while they are served */
    bool adjusting;             /* a coroutine makes that effective */
    AioBh presence_bh;
    /* It has state of the driver's: requests, or a session. */
    _Atomic bool session;
    _Atomic bool session_lost; /* with a back end that cannot be replaced */
    bool closing;
    char *why; /* why the last greeting failed, or NULL */
    LogLimit limit;
    unsigned coroutines;
    CoQueue changed; /* the state, `why`, or `coroutines` has changed */
} VhostUser;

#define VHOST_USER_ALL_VRINGS UINT_MAX

/* Attaches to @chardev (borrowed) and waits, VHOST_USER_OPEN_NS at most, for a back end that meets
 * @needs. @id names it in messages. After a failure everything is released. @ram NULL: the user sets dev.ram before a start. */
bool vhost_user_co_open(VhostUser *u, const VhostUserNeeds *needs, Chardev *chardev,
                        AioContext *ctx, const GuestRam *ram, const char *id,
                        const VhostUserEvents *events, void *opaque, GError **error)
    coroutine_fn RUNS_IN_MAIN;
/* Ends the connection. The VhostDev is in STOPPED or LOST. */
void vhost_user_co_close(VhostUser *u) coroutine_fn RUNS_IN_MAIN;
/* Writes to the back end's configuration space. */
bool vhost_user_co_set_config(VhostUser *u, unsigned offset, const uint8_t *bytes, unsigned size,
                              GError **error) coroutine_fn RUNS_IN_MAIN;
/* From now on only vrings below @enabled are enabled while they are served; initially all. */
void vhost_user_set_enabled(VhostUser *u, unsigned enabled) RUNS_IN_MAIN;
/* Whether the present back end has agreed to protocol feature @bit. */
bool vhost_user_has_protocol(const VhostUser *u, unsigned bit) RUNS_IN_MAIN;
/* The driver has reset the device: its next start is with new rings and a new session. */
void vhost_user_forget_requests(VhostUser *u) ANY_THREAD;
/* Whether the back end, a lost one too, keeps requests or a session of the driver's. The queues are stopped. */
bool vhost_user_keeps_state(const VhostUser *u) RUNS_IN_MAIN;
/* Whether the device cannot be started before its driver resets it: what the back end kept for the driver
 * is lost, or there is no back end and none may take its place. */
bool vhost_user_needs_reset(const VhostUser *u) RUNS_IN_MAIN;

/* ---- vhost_user_ops.c, for vhost_user.c ---- */
extern const VhostOps vhost_user_ops;
/* Enables the vrings that are served and are to be enabled. False: the back end is lost, or serves none. */
bool vhost_user_co_enable(VhostUser *u) coroutine_fn RUNS_IN_MAIN;
void vhost_user_drop_inflight(VhostUser *u) RUNS_IN_MAIN;
/* Sends @m; with @ack, waits until the back end has executed it, if it can say so. */
bool vhost_user_co_send(VhostUser *u, VhostUserMessage *m, bool ack, int64_t deadline_ns,
                        GError **error) coroutine_fn RUNS_IN_MAIN;

#endif
