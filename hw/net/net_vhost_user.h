/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -netdev vhost-user: another process (a software switch such as OVS with DPDK) serves the NIC's queues.
 * There is no other data path: without that process the link is down, and frames wait in the rings.
 *
 * All pairs of queues belong to one VhostUser. A switch uses rings in order, so one that comes back
 * continues where the last one has completed. Frames of a ring that it had taken are sent again.
 */
#ifndef SKIFF_HW_NET_NET_VHOST_USER_H
#define SKIFF_HW_NET_NET_VHOST_USER_H

#include "hw/net/net.h"

extern const NetType net_vhost_user_type;

#endif
