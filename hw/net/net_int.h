/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by net.c and net_client.c: main. */
#ifndef SKIFF_HW_NET_NET_INT_H
#define SKIFF_HW_NET_NET_INT_H

#include "hw/net/net.h"

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

#endif
