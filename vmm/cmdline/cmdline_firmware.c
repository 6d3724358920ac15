/* SPDX-License-Identifier: Apache-2.0 */
/* The options with data for firmware: -smbios. */
#include <string.h>
#include "vmm/board/smbios.h"
#include "vmm/cmdline/cmdline_int.h"

static void firmware_free_dict(void *dict)
{
    opt_dict_free(dict);
}

/* Checks one option by itself; the board takes all of them together. */
static bool firmware_check_smbios(OptDict *dict, GError **error)
{
    g_autoptr(GPtrArray) one = g_ptr_array_new();
    g_ptr_array_add(one, dict);
    g_autoptr(SmbiosOptions) options = smbios_options_new(one, false, error);
    return options != NULL;
}

bool cmdline_smbios(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    if (dict == NULL || !firmware_check_smbios(dict, error)) {
        return false;
    }
    const char *uuid = opt_dict_get(dict, "uuid");
    if (uuid != NULL) { /* of type 1: the same as -uuid */
        g_free(config->machine.uuid);
        config->machine.uuid = g_strdup(uuid);
    }
    if (config->machine.smbios == NULL) {
        config->machine.smbios = g_ptr_array_new_with_free_func(firmware_free_dict);
    }
    g_ptr_array_add(config->machine.smbios, g_steal_pointer(&dict));
    return true;
}
