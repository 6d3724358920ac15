/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config.h"

#define CONFIG_DEFAULT_RAM (UINT64_C(128) << 20) /* as in QEMU */

static GPtrArray *config_dicts_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)opt_dict_free);
}

ConfigOption *config_option_new(const char *name, const char *value)
{
    ConfigOption *o = g_new(ConfigOption, 1);
    *o = (ConfigOption){.name = g_strdup(name), .value = g_strdup(value)};
    return o;
}

void config_option_free(ConfigOption *o)
{
    if (o != NULL) {
        g_free(o->name);
        g_free(o->value);
        g_free(o);
    }
}

void vm_config_note_option(VmConfig *config, const char *name, const char *value)
{
    g_ptr_array_add(config->options, config_option_new(name, value));
}

void vm_config_init(VmConfig *config)
{
    *config = (VmConfig){
        .options = g_ptr_array_new_with_free_func((GDestroyNotify)config_option_free),
        .directory = g_get_current_dir(),
        .machine.ram_size = CONFIG_DEFAULT_RAM,
        .machine.boot = {.splash_time_ms = -1, .reboot_timeout_ms = BOOT_TIMEOUT_UNSET},
        .backends.objects = config_dicts_new(),
        .backends.chardevs = g_ptr_array_new_with_free_func(g_free),
        .backends.serials = g_ptr_array_new_with_free_func(g_free),
        .backends.blockdevs = config_dicts_new(),
        .backends.drives = config_dicts_new(),
        .backends.ide_drives = g_ptr_array_new(),
        .backends.netdevs = config_dicts_new(),
        .backends.nics = config_dicts_new(),
        .backends.virtiofs = config_dicts_new(),
        .machine.devices = config_dicts_new(),
        .process.traces = g_ptr_array_new_with_free_func(g_free),
        .control.qmps = g_ptr_array_new_with_free_func(g_free),
        .control.qmps_pretty = g_ptr_array_new_with_free_func(g_free),
        .control.monitors = g_ptr_array_new_with_free_func(g_free),
        .control.mons = config_dicts_new(),
    };
}

void vm_config_clear(VmConfig *config)
{
    GPtrArray *arrays[] = {config->options,
                           config->backends.objects,
                           config->backends.chardevs,
                           config->backends.serials,
                           config->backends.blockdevs,
                           config->backends.drives,
                           config->backends.ide_drives,
                           config->machine.devices,
                           config->process.traces,
                           config->control.qmps,
                           config->control.qmps_pretty,
                           config->control.monitors,
                           config->control.mons,
                           config->backends.netdevs,
                           config->backends.nics,
                           config->backends.virtiofs};
    for (unsigned i = 0; i < G_N_ELEMENTS(arrays); i++) {
        g_ptr_array_unref(arrays[i]);
    }
    char *strings[] = {
        config->directory,           config->machine.memory,     config->machine.cpu,
        config->machine.smp,         config->machine.kernel,     config->machine.initrd,
        config->machine.append,      config->machine.bios,       config->backends.debugcon,
        config->machine.name,        config->machine.uuid,       config->process.pidfile,
        config->machine.rtc_base,    config->machine.rtc_clock,  config->process.log_file,
        config->control.gdb,         config->control.exec,       config->process.notify,
        config->process.snapshot_at, config->accelerators.other, config->machine.boot.order,
        config->machine.boot.once,   config->machine.pflash[0],  config->machine.pflash[1],
        config->life.load_state,     config->life.load_tag};
    for (unsigned i = 0; i < G_N_ELEMENTS(strings); i++) {
        g_free(strings[i]);
    }
    g_clear_pointer(&config->machine.smbios, g_ptr_array_unref);
    g_clear_pointer(&config->machine.fw_cfg, g_ptr_array_unref);
    opt_dict_free(config->process.sandbox);
    opt_dict_free(config->process.run_with);
    *config = (VmConfig){0};
}
