/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/net_types.h"

#include "hw/net/net_user.h"

/* One row per line: the declaration of each back end is in its own room's header, or here. */
/* clang-format off */
const NetType *const net_types[] = {
    &net_user_type,
    NULL,
};
/* clang-format on */
