/* SPDX-License-Identifier: Apache-2.0 */
/* The options of the machine itself: -machine, -accel, -m, -overcommit, -rtc, -name. */
#include <inttypes.h>
#include <string.h>
#include "hw/platform/rtc.h"
#include "vmm/cmdline/cmdline_int.h"

/* ---- properties with one supported value ---- */

/* A property that skiff cannot change. QEMU's spelling of its fixed value is accepted. */
typedef struct FixedProperty {
    const char *name;
    const char *values; /* accepted, separated by spaces; on and off have their other spellings */
    const char *why;    /* completes "skiff has no ..." */
} FixedProperty;

static bool fixed_value_matches(const char *accepted, const char *value)
{
    bool on, wanted;
    return strcmp(accepted, value) == 0 || (opt_parse_bool(accepted, &wanted, NULL) &&
                                            opt_parse_bool(value, &on, NULL) && on == wanted);
}

static bool fixed_value_accepted(const FixedProperty *p, const char *value)
{
    g_auto(GStrv) accepted = g_strsplit(p->values, " ", 0);
    for (unsigned i = 0; accepted[i] != NULL; i++) {
        if (fixed_value_matches(accepted[i], value)) {
            return true;
        }
    }
    return false;
}

/* Removes the properties of table @p, which ends with an empty row, from @dict. */
static bool fixed_take(const FixedProperty *p, OptDict *dict, const char *name, GError **error)
{
    for (; p->name != NULL; p++) {
        for (;;) {
            g_autofree char *value = opt_dict_take(dict, p->name);
            if (value == NULL) {
                break;
            }
            if (!fixed_value_accepted(p, value)) {
                return cmdline_fail(error, name, "%s=%s: skiff has no %s", p->name, value, p->why);
            }
        }
    }
    return true;
}

/* ---- -accel, -enable-kvm, -machine accel= ---- */

static const char *const other_accelerators[] = {"tcg",  "hvf",   "hax", "whpx",
                                                 "nvmm", "qtest", "xen", "mshv"};

static bool accel_note(VmConfig *config, const char *option, const char *name, GError **error)
{
    ConfigAccelerators *a = &config->accelerators;
    if (strcmp(name, "kvm") == 0) {
        a->kvm = true;
        return true;
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(other_accelerators); i++) {
        if (strcmp(name, other_accelerators[i]) == 0) {
            a->other = a->other != NULL ? a->other : g_strdup(name);
            return true;
        }
    }
    return cmdline_fail(error, option, "skiff has no accelerator '%s'; it runs on kvm only", name);
}

/* Accelerators in order of preference, as in "kvm:tcg". */
static bool accel_note_list(VmConfig *config, const char *option, const char *names, GError **error)
{
    g_auto(GStrv) list = g_strsplit(names, ":", 0);
    if (list[0] == NULL) {
        return cmdline_fail(error, option, "no accelerator is named; give kvm");
    }
    for (unsigned i = 0; list[i] != NULL; i++) {
        if (!accel_note(config, option, list[i], error)) {
            return false;
        }
    }
    return true;
}

bool cmdline_accel(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const FixedProperty properties[] = {
        {"kernel-irqchip", "on", "interrupt controllers outside KVM"},
        {"dirty-ring-size", "0", "dirty ring"},
        {"notify-vmexit", "run disable", "limit on a guest's time without an exit"},
        {"xen-version", "0", "emulation of Xen"},
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "accel", error);
    if (dict == NULL) {
        return false;
    }
    g_autofree char *accelerator = opt_dict_take(dict, "accel");
    if (accelerator == NULL) {
        return cmdline_fail(error, name, "'%s' names no accelerator; give kvm", value);
    }
    if (strcmp(accelerator, "kvm") != 0) {
        return accel_note_list(config, name, accelerator, error); /* its properties are ignored */
    }
    static const OptSpec specs[] = {{0}};
    return fixed_take(properties, dict, name, error) &&
           opts_bind(specs, NULL, dict, "-accel kvm", error) &&
           accel_note(config, name, accelerator, error);
}

bool cmdline_enable_kvm(VmConfig *config, const char *name, const char *value, GError **error)
{
    return accel_note(config, name, "kvm", error);
}

bool cmdline_check_accelerators(const VmConfig *config, GError **error)
{
    const ConfigAccelerators *a = &config->accelerators;
    return a->kvm || a->other == NULL ||
           cmdline_fail(error, "accel", "skiff has no accelerator '%s'; it runs on kvm only",
                        a->other);
}

/* ---- -machine ---- */

static const FixedProperty machine_fixed[] = {
    {"acpi", "on auto", "machine without ACPI"},
    {"cxl", "off", "CXL"},
    {"default-bus-bypass-iommu", "off on", ""}, /* there is no IOMMU to bypass */
    {"dump-guest-core", "off", "guest memory in its core files; nearest is dump-guest-memory"},
    {"fd-bootchk", "on off", ""}, /* there is no floppy */
    {"graphics", "on off", ""},   /* there is no display either way */
    {"hmat", "off", "HMAT"},
    {"hpet", "off", "HPET; the guest has KVM's clock and the ACPI PM timer"},
    {"i8042", "on", "machine without an i8042, which has the reset line"},
    {"kernel-irqchip", "on", "interrupt controllers outside KVM"},
    {"kernel_irqchip", "on", "interrupt controllers outside KVM"},
    {"mem-merge", "off", "merging of equal pages"},
    {"nvdimm", "off", "NVDIMM"},
    {"pic", "on auto", "machine without a PIC"},
    {"sata", "off", "SATA; disks are virtio"},
    {"smbus", "off", "SMBus"},
    {"smm", "off auto", "system management mode for firmware"},
    {"suppress-vmdesc", "on off", ""}, /* there is no migration stream */
    {"usb", "off", "USB; leave it off"},
    {"vmport", "off auto", "vmport; leave it off"},
    {0},
};

typedef struct MachineOptions {
    char *type, *accel, *memory_backend, *pflash0, *pflash1;
    int smbios_entry;
    int pit;
} MachineOptions;

static const char *const machine_on_off_auto[] = {"auto", "on", "off", NULL};
#define MACHINE_OFF 2

/* A later -machine replaces what an earlier one has set. */
static void machine_replace(char **setting, const char *value)
{
    if (value != NULL) {
        g_free(*setting);
        *setting = g_strdup(value);
    }
}

static bool machine_apply(VmConfig *config, const char *name, const MachineOptions *options,
                          GError **error)
{
    if (options->type != NULL && strcmp(options->type, "q35") != 0 &&
        strcmp(options->type, "pc-q35") != 0) {
        return cmdline_fail(error, name, "skiff has no machine '%s'; nearest is q35",
                            options->type);
    }
    if (options->accel != NULL && !accel_note_list(config, name, options->accel, error)) {
        return false;
    }
    machine_replace(&config->machine.memory, options->memory_backend);
    machine_replace(&config->machine.pflash[0], options->pflash0);
    machine_replace(&config->machine.pflash[1], options->pflash1);
    config->machine.smbios_entry =
        options->smbios_entry != 0 ? options->smbios_entry : config->machine.smbios_entry;
    return true;
}

bool cmdline_machine(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const char *const smbios_entries[] = {"auto", "32", "64", NULL}; /* SmbiosEntry */
    static const OptSpec specs[] = {
        OPT_SPEC(MachineOptions, "type", OPT_STRING, type),
        OPT_SPEC(MachineOptions, "accel", OPT_STRING, accel),
        OPT_SPEC(MachineOptions, "memory-backend", OPT_STRING, memory_backend),
        OPT_SPEC(MachineOptions, "smbios-entry-point-type", OPT_ENUM, smbios_entry,
                 .names = smbios_entries),
        OPT_SPEC(MachineOptions, "pit", OPT_ENUM, pit, .names = machine_on_off_auto),
        OPT_SPEC(MachineOptions, "pflash0", OPT_STRING, pflash0),
        OPT_SPEC(MachineOptions, "pflash1", OPT_STRING, pflash1),
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "type", error);
    MachineOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !fixed_take(machine_fixed, dict, name, error) ||
        !opts_bind(specs, &options, dict, "-machine", error)) {
        return false;
    }
    bool ok = machine_apply(config, name, &options, error);
    if (ok && opt_dict_has(dict, "pit")) {
        config->machine.no_pit = options.pit == MACHINE_OFF;
    }
    opts_clear(specs, &options);
    return ok;
}

/* ---- -m ---- */

typedef struct MemoryOptions {
    uint64_t size, max_size;
    uint32_t slots;
} MemoryOptions;

bool cmdline_memory(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const OptSpec specs[] = {
        OPT_SPEC(MemoryOptions, "size", OPT_SIZE, size, .default_unit = 1 << 20, .min = 2 << 20,
                 .max = UINT64_C(1) << 46, .required = true),
        OPT_SPEC(MemoryOptions, "maxmem", OPT_SIZE, max_size, .default_unit = 1 << 20,
                 .max = UINT64_C(1) << 46),
        OPT_SPEC(MemoryOptions, "slots", OPT_U32, slots),
        {0},
    };
    g_autoptr(OptDict) dict = opt_dict_parse(value, "size", error);
    MemoryOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !opts_bind(specs, &options, dict, "-m", error)) {
        return false;
    }
    if (options.slots != 0 || (options.max_size != 0 && options.max_size != options.size)) {
        return cmdline_fail(error, name,
                            "skiff has no memory hotplug: leave slots= and maxmem= off");
    }
    config->machine.ram_size = options.size;
    config->machine.ram_size_set = true;
    return true;
}

/* ---- -overcommit, -rtc, -name ---- */

bool cmdline_overcommit(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const FixedProperty properties[] = {
        {"mem-lock", "off", "locked guest memory; leave it off"},
        {"cpu-pm", "off", "power management of host processors by the guest; leave it off"},
        {0},
    };
    static const OptSpec specs[] = {{0}};
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    return dict != NULL && fixed_take(properties, dict, name, error) &&
           opts_bind(specs, NULL, dict, "-overcommit", error);
}

bool cmdline_rtc(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const FixedProperty properties[] = {
        {"clock", "host", "other clock for the RTC than the host's: use clock=host"},
        {"driftfix", "none", "reinjection of lost RTC ticks: use driftfix=none"},
        {0},
    };
    typedef struct {
        char *base;
    } RtcOptions;
    static const OptSpec specs[] = {
        OPT_SPEC(RtcOptions, "base", OPT_STRING, base),
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    RtcOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !fixed_take(properties, dict, name, error) ||
        !opts_bind(specs, &options, dict, "-rtc", error)) {
        return false;
    }
    if (options.base != NULL && !rtc_check_base(options.base, error)) {
        g_prefix_error(error, "-%s: ", name);
        opts_clear(specs, &options);
        return false;
    }
    if (options.base != NULL) {
        g_free(config->machine.rtc_base);
        config->machine.rtc_base = options.base;
    }
    return true;
}

bool cmdline_name(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const FixedProperty properties[] = {
        {"debug-threads", "on", "threads without names: use debug-threads=on"},
        {0},
    };
    typedef struct {
        char *guest, *process;
    } NameOptions;
    static const OptSpec specs[] = {
        OPT_SPEC(NameOptions, "guest", OPT_STRING, guest),
        OPT_SPEC(NameOptions, "process", OPT_STRING, process),
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "guest", error);
    NameOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !fixed_take(properties, dict, name, error) ||
        !opts_bind(specs, &options, dict, "-name", error)) {
        return false;
    }
    bool ok = options.process == NULL ||
              cmdline_fail(error, name, "process=%s: skiff has no other process name than its own",
                           options.process);
    if (ok && options.guest != NULL) {
        g_free(config->machine.name);
        config->machine.name = g_steal_pointer(&options.guest);
    }
    opts_clear(specs, &options);
    return ok;
}

/* ---- -global ---- */

static bool global_pit(VmConfig *config, const char *value)
{
    bool discard = strcmp(value, "discard") == 0;
    config->machine.discard_late_ticks = discard;
    return discard || strcmp(value, "delay") == 0;
}

static bool global_tco(VmConfig *config, const char *value)
{
    return opt_parse_bool(value, &config->machine.tco_no_reboot, NULL);
}

static const struct {
    const char *driver, *property;
    const char *values; /* for the error message */
    bool (*set)(VmConfig *config, const char *value);
} globals[] = {
    {"kvm-pit", "lost_tick_policy", "delay or discard", global_pit},
    {"ICH9-LPC", "noreboot", "on or off", global_tco},
};

/* Splits "DRIVER.PROPERTY=VALUE" or "driver=,property=,value="; NULL when @text is neither. */
static OptDict *global_split(const char *text)
{
    g_autoptr(OptDict) dict = opt_dict_new();
    const char *dot = strchr(text, '.'), *equals = strchr(text, '=');
    if (dot != NULL && equals != NULL && dot < equals) {
        g_autofree char *driver = g_strndup(text, (gsize)(dot - text));
        g_autofree char *property = g_strndup(dot + 1, (gsize)(equals - dot - 1));
        opt_dict_set(dict, "driver", driver);
        opt_dict_set(dict, "property", property);
        opt_dict_set(dict, "value", equals + 1);
        return g_steal_pointer(&dict);
    }
    OptDict *parsed = opt_dict_parse(text, NULL, NULL);
    if (parsed != NULL && opt_dict_count(parsed) == 3 && opt_dict_has(parsed, "driver") &&
        opt_dict_has(parsed, "property") && opt_dict_has(parsed, "value")) {
        return parsed;
    }
    opt_dict_free(parsed);
    return NULL;
}

bool cmdline_global(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_autoptr(OptDict) dict = global_split(value);
    for (unsigned i = 0; dict != NULL && i < G_N_ELEMENTS(globals); i++) {
        if (g_strcmp0(opt_dict_get(dict, "driver"), globals[i].driver) == 0 &&
            g_strcmp0(opt_dict_get(dict, "property"), globals[i].property) == 0) {
            const char *wanted = opt_dict_get(dict, "value");
            return (wanted != NULL && globals[i].set(config, wanted)) ||
                   cmdline_fail(error, name, "%s: %s is %s", value, globals[i].property,
                                globals[i].values);
        }
    }
    return cmdline_fail(error, name,
                        "%s: skiff has no such global property; nearest is the property at -device",
                        value);
}
