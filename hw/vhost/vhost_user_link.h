/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a vhost-user back end: requests with replies, in order, each with a time limit.
 *
 *   OPEN --(end of the connection, a message that lies, no answer in time, vhost_user_link_close)--> CLOSED
 *
 * Everything runs in main. Requests are coroutines; those of several coroutines wait for each other. The
 * back end's own messages come on a second socket, which the front end hands over
 * (vhost_user_link_co_open_channel()).
 *
 * Invariants
 *   1. At most one request is under way. A message that arrives while none waits for it closes the link.
 *   2. In CLOSED all requests have failed or fail at once, both sockets are shut down, and no descriptor
 *      of the peer is kept. CLOSED is final: a new connection is a new link.
 *   3. `lost` is called once, when the link closes, unless its user closes it.
 *   4. One message at most is read from each socket in one turn of the loop, so a peer that floods cannot
 *      occupy main.
 */
#ifndef SKIFF_HW_VHOST_VHOST_USER_LINK_H
#define SKIFF_HW_VHOST_VHOST_USER_LINK_H

#include "hw/vhost/vhost_user_wire.h"
#include "util/loop/coroutine.h"

/* Called in main, possibly within a request that fails. */
typedef struct VhostUserLinkEvents {
    /* The connection has ended or was closed for a fault of the peer. */
    void (*lost)(void *opaque, const char *why);
    /* The back end says that the device's configuration space has changed. */
    void (*config_changed)(void *opaque);
} VhostUserLinkEvents;

typedef struct VhostUserLink VhostUserLink;

/* @fd is taken: a connected UNIX stream socket. @events is borrowed. */
VhostUserLink *vhost_user_link_new(AioContext *ctx, int fd, const VhostUserLinkEvents *events,
                                   void *opaque) RUNS_IN_MAIN;
/* Closes the link and drops the reference; requests under way fail. NULL is fine. */
void vhost_user_link_close(VhostUserLink *link) RUNS_IN_MAIN;
/* Sends @message. If its type has a reply, or it needs one (VHOST_USER_NEED_REPLY), @message becomes the
 * reply, which has been checked; the caller owns its descriptors. False + error: the link was or is
 * closed, or @deadline_ns on the clock of main has passed, which closes it. A reply of REPLY_ACK that is
 * not 0 is a refusal: false + error, and the link stays open. */
bool vhost_user_link_co_request(VhostUserLink *link, VhostUserMessage *message, int64_t deadline_ns,
                                GError **error) coroutine_fn RUNS_IN_MAIN;
/* Gives the back end a socket for messages of its own (SET_BACKEND_REQ_FD). */
bool vhost_user_link_co_open_channel(VhostUserLink *link, int64_t deadline_ns, GError **error)
    coroutine_fn RUNS_IN_MAIN;

#endif
