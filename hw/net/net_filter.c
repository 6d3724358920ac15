/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net/net_filter.h"

#include <string.h>

#define NET_VLAN_TAG 0x8100

void net_filter_reset(NetFilter *f, const uint8_t mac[NET_MAC_BYTES])
{
    memset(f, 0, sizeof(*f));
    memcpy(f->mac, mac, NET_MAC_BYTES);
    f->promisc = true; /* until the driver sets modes */
    memset(f->vlans, 0xff, sizeof(f->vlans));
}

static bool filter_lists(const NetFilter *f, unsigned from, unsigned to, const uint8_t *mac)
{
    for (unsigned i = from; i < to; i++) {
        if (memcmp(f->macs + i * NET_MAC_BYTES, mac, NET_MAC_BYTES) == 0) {
            return true;
        }
    }
    return false;
}

static bool filter_vlan_passes(const NetFilter *f, const uint8_t *frame, size_t bytes)
{
    if (bytes < 16 || (frame[12] << 8 | frame[13]) != NET_VLAN_TAG) {
        return true;
    }
    unsigned vlan = (unsigned)(frame[14] << 8 | frame[15]) % NET_VLANS;
    return f->vlans[vlan / 8] >> (vlan % 8) & 1;
}

bool net_filter_passes(const NetFilter *f, const uint8_t *frame, size_t bytes)
{
    static const uint8_t broadcast[NET_MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    if (f->promisc) {
        return true;
    }
    if (bytes < NET_ETHERNET_HEADER || !filter_vlan_passes(f, frame, bytes)) {
        return false;
    }
    if (memcmp(frame, broadcast, NET_MAC_BYTES) == 0) {
        return !f->nobcast;
    }
    if (frame[0] & 1) {
        return !f->nomulti && (f->allmulti || f->multi_overflow ||
                               filter_lists(f, f->first_multi, f->count, frame));
    }
    return !f->nouni &&
           (f->alluni || f->uni_overflow || memcmp(frame, f->mac, NET_MAC_BYTES) == 0 ||
            filter_lists(f, 0, f->first_multi, frame));
}
