/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by net.c, net_client.c and net_fds.c: main. */
#ifndef SKIFF_HW_NET_NET_INT_H
#define SKIFF_HW_NET_NET_INT_H

#include "hw/net/net.h"

#define NET_FDS_MAX (2 * NET_MAX_QUEUES) /* descriptors in the options of a back end */

/* Bits of NetClient.link. */
enum {
    NET_LINK_GUEST_DOWN = 1, /* the guest sees the link down */
    NET_LINK_DROP = 2,       /* frames are dropped */
};

AioContext *net_main_context(void) RUNS_IN_MAIN;

extern NetClient *net_clients; /* in the order they were attached */

/* Computes `link` from the flags of the client and its back end, and reports it to the client. */
void net_client_update_link(NetClient *c) RUNS_IN_MAIN;
/* Returns when the back end of @c is not in use any more. */
void net_client_co_detach(NetClient *c) coroutine_fn RUNS_IN_MAIN;

/* The type that @opts ("type") names; NULL: none. */
const NetType *net_type_of(const OptDict *opts) RUNS_IN_MAIN;

/* Adds to @fds the open descriptors that @opts names: nobody else can name them until net_fds_end(). False +
 * error: one is given twice, or is skiff's own. */
bool net_fds_claim(GArray *fds, const NetType *type, const OptDict *opts, GError **error)
    RUNS_IN_MAIN;
/* @opened: closes them; otherwise they are the user's again. */
void net_fds_end(GArray *fds, bool opened) RUNS_IN_MAIN;

#endif
