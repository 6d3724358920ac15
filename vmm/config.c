/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#define CONFIG_DEFAULT_RAM (UINT64_C(128) << 20) /* as QEMU */

static GPtrArray *config_dicts_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)opt_dict_free);
}

void vm_config_init(VmConfig *config)
{
    *config = (VmConfig){
        .ram_size = CONFIG_DEFAULT_RAM,
        .objects = config_dicts_new(),
        .chardevs = g_ptr_array_new_with_free_func(g_free),
        .serials = g_ptr_array_new_with_free_func(g_free),
        .blockdevs = config_dicts_new(),
        .drives = config_dicts_new(),
        .ide_drives = g_ptr_array_new(),
        .devices = config_dicts_new(),
        .traces = g_ptr_array_new_with_free_func(g_free),
        .qmps = g_ptr_array_new_with_free_func(g_free),
        .qmps_pretty = g_ptr_array_new_with_free_func(g_free),
        .monitors = g_ptr_array_new_with_free_func(g_free),
        .mons = config_dicts_new(),
    };
}

void vm_config_clear(VmConfig *config)
{
    GPtrArray *arrays[] = {config->objects,     config->chardevs, config->serials,
                           config->blockdevs,   config->drives,   config->ide_drives,
                           config->devices,     config->traces,   config->qmps,
                           config->qmps_pretty, config->monitors, config->mons};
    for (unsigned i = 0; i < G_N_ELEMENTS(arrays); i++) {
        g_ptr_array_unref(arrays[i]);
    }
    char *strings[] = {config->machine_memory,
                       config->cpu,
                       config->smp,
                       config->kernel,
                       config->initrd,
                       config->append,
                       config->bios,
                       config->debugcon,
                       config->name,
                       config->uuid,
                       config->pidfile,
                       config->rtc_base,
                       config->log_file,
                       config->gdb,
                       config->exec,
                       config->notify,
                       config->accelerators.other};
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    opt_dict_free(config->sandbox);
    opt_dict_free(config->run_with);
    *config = (VmConfig){0};
}
