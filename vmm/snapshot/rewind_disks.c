/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/rewind_disks.h"

#include "block/block.h"
#include "util/state/state.h"

bool rewind_disks_check(GError **error)
{
    unsigned count;
    g_autofree BlockBackend **list = blk_list_drives(&count);
    for (unsigned i = 0; i < count; i++) {
        if (!blk_read_only(list[i])) {
            g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                        "drive '%s' is writable, and could not go back", blk_name(list[i]));
            return false;
        }
    }
    return true;
}
