/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net_types.h"

#include "hw/net/net_dgram.h"
#include "hw/net/net_socket.h"
#include "hw/net/net_stream.h"
#include "hw/net/net_tap.h"
#include "hw/net/net_user.h"
#include "hw/net/net_vhost_user.h"

/* One row per line, which clang-format would undo. */
/* clang-format off */
const NetType *const net_types[] = {
    &net_tap_type,
    &net_user_type,
    &net_stream_type,
    &net_dgram_type,
    &net_socket_type,
    &net_vhost_user_type,
    NULL,
};
/* clang-format on */
