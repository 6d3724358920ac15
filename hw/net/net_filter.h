/* SPDX-License-Identifier: Apache-2.0 */
/* The receive filter of a NIC: which frames the guest gets (virtio 1.2 §5.1.6.5.1 to 3). */
#ifndef SKIFF_HW_NET_NET_FILTER_H
#define SKIFF_HW_NET_NET_FILTER_H

#include "hw/net/net.h"

#define NET_FILTER_MACS 64  /* addresses of the table; with more, all of their kind pass */
#define NET_FILTER_BYTES 16 /* of a frame, that the filter looks at */
#define NET_VLANS 4096

typedef struct NetFilter {
    uint8_t mac[NET_MAC_BYTES]; /* the NIC's own */
    bool promisc, allmulti, alluni, nomulti, nouni, nobcast;
    bool uni_overflow, multi_overflow;
    uint8_t count;       /* addresses in `macs` */
    uint8_t first_multi; /* of them, the first multicast one */
    uint8_t macs[NET_FILTER_MACS * NET_MAC_BYTES];
    uint8_t vlans[NET_VLANS / 8]; /* bit n: VLAN n passes */
} NetFilter;

/* Everything passes. */
void net_filter_reset(NetFilter *f, const uint8_t mac[NET_MAC_BYTES]) ANY_THREAD;
/* Whether the frame passes that begins with @frame, of @bytes (NET_FILTER_BYTES are enough). */
bool net_filter_passes(const NetFilter *f, const uint8_t *frame, size_t bytes) ANY_THREAD;

#endif
