/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/board/x86_64/board_files.h"

#include <string.h>
#include "vmm/board/x86_64/flash.h"
#include "util/user_file.h"

static void board_file_free(void *opaque)
{
    BoardUserFile *file = opaque;
    g_free(file->name);
    g_bytes_unref(file->data);
    g_free(file);
}

static GBytes *board_file_load(const char *name, const char *path, GError **error)
{
    g_autoptr(GError) failure = NULL;
    GBytes *data = user_file_read(path, UINT32_MAX, &failure);
    if (data == NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-fw_cfg name=%s,file=%s: %s", name, path,
                    failure->message);
    }
    return data;
}

static bool board_file_read(BoardFiles *files, const OptDict *dict, GError **error)
{
    const char *name = opt_dict_get(dict, "name"), *text = opt_dict_get(dict, "string");
    GBytes *data = text != NULL ? g_bytes_new(text, strlen(text))
                                : board_file_load(name, opt_dict_get(dict, "file"), error);
    if (data == NULL) {
        return false;
    }
    BoardUserFile *file = g_new(BoardUserFile, 1);
    *file = (BoardUserFile){.name = g_strdup(name), .data = data};
    g_ptr_array_add(files->user, file);
    return true;
}

bool board_files_read(BoardFiles *files, const MachineConfig *config, GError **error)
{
    files->user = g_ptr_array_new_with_free_func(board_file_free);
    for (unsigned i = 0; config->fw_cfg != NULL && i < config->fw_cfg->len; i++) {
        if (!board_file_read(files, config->fw_cfg->pdata[i], error)) {
            return false;
        }
    }
    files->smbios = smbios_options_new(config->smbios, true, error);
    return files->smbios != NULL;
}

/* ---- what boots ---- */

static RUNS_IN_MAIN bool board_check_firmware(const VmMachine *m, GError **error)
{
    const MachineConfig *config = m->config;
    bool flash = x86_flash_is_given(m);
    if (config->bios != NULL && flash) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-bios and flash (-pflash, -drive if=pflash, -machine pflash0=) both end at "
                    "4 GiB: give one");
        return false;
    }
    if (config->kernel == NULL && config->bios == NULL && !flash) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING,
                    "nothing to boot: give -kernel FILE, -bios FILE or -pflash FILE");
        return false;
    }
    return true;
}

bool board_check_boot_options(const VmMachine *m, GError **error)
{
    const MachineConfig *config = m->config;
    if (config->kernel == NULL && (config->initrd != NULL || config->append != NULL)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_MISSING, "-%s needs -kernel",
                    config->initrd != NULL ? "initrd" : "append");
        return false;
    }
    return board_check_firmware(m, error);
}
