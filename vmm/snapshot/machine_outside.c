/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_outside.h"

#include "hw/core/device.h"

bool machine_outside_check(const GPtrArray *devices, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (unsigned i = 0; i < devices->len; i++) {
        const Device *dev = devices->pdata[i];
        if (dev->type->data_outside) {
            g_string_append_printf(names, "%s'%s'", names->len > 0 ? ", " : "", device_label(dev));
        }
    }
    if (names->len > 0) {
        g_set_error(
            error, STATE_ERROR, STATE_ERROR_MACHINE,
            "device %s: another process has its data, which skiff cannot freeze or put back "
            "with the machine: unplug it, or start without it",
            names->str);
        return false;
    }
    return true;
}
