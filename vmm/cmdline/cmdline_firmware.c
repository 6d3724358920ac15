/* SPDX-License-Identifier: Apache-2.0 */
/* The options with data for firmware: -smbios, -fw_cfg. */
#include <string.h>
#include "vmm/board/smbios.h"
#include "vmm/cmdline/cmdline_int.h"

#define FW_CFG_NAME_MAX 55

static void firmware_free_dict(void *dict)
{
    opt_dict_free(dict);
}

static void firmware_add(GPtrArray **list, OptDict *dict)
{
    if (*list == NULL) {
        *list = g_ptr_array_new_with_free_func(firmware_free_dict);
    }
    g_ptr_array_add(*list, dict);
}

/* ---- -smbios ---- */

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
    firmware_add(&config->machine.smbios, g_steal_pointer(&dict));
    return true;
}

/* ---- -fw_cfg ---- */

typedef struct FwCfgOptions {
    char *name, *file, *string, *gen_id;
} FwCfgOptions;

static bool firmware_check_fw_cfg(const FwCfgOptions *o, const char *name, GError **error)
{
    if (o->gen_id != NULL) {
        return cmdline_fail(error, name,
                            "gen_id=%s: skiff has no object that generates files; use file= or "
                            "string=",
                            o->gen_id);
    }
    if (o->name[0] == '\0' || strlen(o->name) > FW_CFG_NAME_MAX) {
        return cmdline_fail(error, name, "name=%s: a name has 1 to %u characters", o->name,
                            FW_CFG_NAME_MAX);
    }
    return (o->file != NULL) != (o->string != NULL) ||
           cmdline_fail(error, name, "name=%s: needs either file= or string=", o->name);
}

bool cmdline_fw_cfg(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const OptSpec specs[] = {
        OPT_SPEC(FwCfgOptions, "name", OPT_STRING, name, .required = true),
        OPT_SPEC(FwCfgOptions, "file", OPT_STRING, file),
        OPT_SPEC(FwCfgOptions, "string", OPT_STRING, string),
        OPT_SPEC(FwCfgOptions, "gen_id", OPT_STRING, gen_id),
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "name", error);
    FwCfgOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !opts_bind(specs, &options, dict, "-fw_cfg", error)) {
        return false;
    }
    bool ok = firmware_check_fw_cfg(&options, name, error);
    opts_clear(specs, &options);
    if (ok) {
        firmware_add(&config->machine.fw_cfg, g_steal_pointer(&dict));
    }
    return ok;
}
