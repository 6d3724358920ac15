/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/chardev/chardev_int.h"

static bool chardev_null_co_open(ChardevStream *s, GError **error)
{
    enter_main();
    s->filename = g_strdup("null");
    stream_set_connected(s, true);
    return true;
}

const ChardevBackend chardev_null_backend = {
    .name = "null",
    .description = "takes everything, gives nothing",
    .instance_size = sizeof(ChardevStream),
    .co_open = chardev_null_co_open,
};
