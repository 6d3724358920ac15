/* SPDX-License-Identifier: Apache-2.0 */
/* -netdev socket: see net_stream.h and net_dgram.h. */
#ifndef SKIFF_HW_NET_NET_SOCKET_H
#define SKIFF_HW_NET_NET_SOCKET_H

#include "hw/net/net.h"

extern const NetType net_socket_type;

#endif
