/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net_types.h"

#include "hw/net/net_tap.h"
#include "hw/net/net_vhost_user.h"

/* One row per line, which clang-format would undo. */
/* clang-format off */
const NetType *const net_types[] = {
    &net_tap_type,
    &net_vhost_user_type,
    NULL,
};
/* clang-format on */
