/* SPDX-License-Identifier: Apache-2.0 */
/* The list of network back ends, passed to net_setup(). */
#ifndef SKIFF_HW_NET_TYPES_H
#define SKIFF_HW_NET_TYPES_H

#include "hw/net/net.h"

extern const NetType *const net_types[]; /* NULL-terminated */

#endif
