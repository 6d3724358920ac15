/* SPDX-License-Identifier: Apache-2.0 */
/* What each option of the command line does with its value. */
#include <stdio.h>
#include <string.h>
#include "vmm/cmdline/cmdline_int.h"

const CmdlineOption *cmdline_current;

bool cmdline_fail(GError **error, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-%s: %s", name, text);
    return false;
}

static void *cmdline_field(VmConfig *config)
{
    return (char *)config + cmdline_current->offset;
}

bool cmdline_string(VmConfig *config, const char *name, const char *value, GError **error)
{
    char **field = cmdline_field(config);
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a value");
    }
    if (*field != NULL) {
        return cmdline_fail(error, name, "given twice ('%s' and '%s')", *field, value);
    }
    *field = g_strdup(value);
    return true;
}

/* As cmdline_string, but an empty text is a text (-append ''). */
bool cmdline_text(VmConfig *config, const char *name, const char *value, GError **error)
{
    char **field = cmdline_field(config);
    if (*field != NULL) {
        return cmdline_fail(error, name, "given twice");
    }
    *field = g_strdup(value);
    return true;
}

bool cmdline_uuid(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (!g_uuid_string_is_valid(value)) {
        return cmdline_fail(error, name,
                            "'%s' is no UUID, as 01234567-89ab-cdef-0123-456789abcdef is", value);
    }
    return cmdline_string(config, name, value, error);
}

bool cmdline_flag(VmConfig *config, const char *name, const char *value, GError **error)
{
    *(bool *)cmdline_field(config) = true;
    return true;
}

bool cmdline_ignore(VmConfig *config, const char *name, const char *value, GError **error)
{
    return true;
}

bool cmdline_list(VmConfig *config, const char *name, const char *value, GError **error)
{
    GPtrArray **field = cmdline_field(config);
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a value");
    }
    g_ptr_array_add(*field, g_strdup(value));
    return true;
}

/* What is there must say something. */
static OptDict *cmdline_parse_dict(const char *name, const char *value, const char *implied_key,
                                   GError **error)
{
    g_autoptr(OptDict) dict = opt_dict_parse(value, implied_key, error);
    if (dict != NULL && opt_dict_count(dict) == 0) {
        cmdline_fail(error, name, "needs a value");
        return NULL;
    }
    return g_steal_pointer(&dict);
}

/* Takes @dict, which is NULL when it could not be parsed. */
static bool cmdline_take_dict(GPtrArray *list, const char *name, OptDict *dict, GError **error)
{
    if (dict == NULL) {
        g_prefix_error(error, "-%s: ", name);
        return false;
    }
    g_ptr_array_add(list, dict);
    return true;
}

static bool cmdline_add_dict(GPtrArray *list, const char *name, const char *value,
                             const char *implied_key, GError **error)
{
    OptDict *dict = opt_dict_parse(value, implied_key, error);
    if (dict != NULL && !opt_dict_has(dict, implied_key)) {
        opt_dict_free(dict);
        return cmdline_fail(error, name, "'%s' lacks %s=", value, implied_key);
    }
    return cmdline_take_dict(list, name, dict, error);
}

bool cmdline_device(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->devices, name, value, "driver", error);
}

bool cmdline_object(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->objects, name, value, "qom-type", error);
}

bool cmdline_blockdev(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->blockdevs, name, value, "driver", error);
}

bool cmdline_drive(VmConfig *config, const char *name, const char *value, GError **error)
{
    /* file=x,file.locking=off */
    OptDict *dict = opt_dict_parse_folding(value, "file", "filename", error);
    return cmdline_take_dict(config->drives, name, dict, error);
}

bool cmdline_machine(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        char *type, *accel, *memory_backend;
        bool usb, vmport, graphics;
    } MachineOptions;
    static const OptSpec specs[] = {
        {.name = "type",
         .type = OPT_STRING,
         .offset = offsetof(MachineOptions, type),
         .def = "q35"},
        {.name = "accel",
         .type = OPT_STRING,
         .offset = offsetof(MachineOptions, accel),
         .def = "kvm"},
        {.name = "memory-backend",
         .type = OPT_STRING,
         .offset = offsetof(MachineOptions, memory_backend)},
        {.name = "usb", .type = OPT_BOOL, .offset = offsetof(MachineOptions, usb)},
        {.name = "vmport", .type = OPT_BOOL, .offset = offsetof(MachineOptions, vmport)},
        {.name = "graphics", .type = OPT_BOOL, .offset = offsetof(MachineOptions, graphics)},
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "type", error);
    MachineOptions options;
    opts_init(specs, &options);
    if (dict == NULL || !opts_bind(specs, &options, dict, "-machine", error)) {
        opts_clear(specs, &options);
        return false;
    }
    bool ok = true;
    if (strcmp(options.type, "q35") != 0 && strcmp(options.type, "pc-q35") != 0) {
        ok = cmdline_fail(error, name, "skiff has no machine '%s'; nearest is q35", options.type);
    } else if (strcmp(options.accel, "kvm") != 0) {
        ok = cmdline_fail(error, name, "skiff has no accelerator '%s'; it runs on kvm only",
                          options.accel);
    } else if (options.usb || options.vmport) {
        ok = cmdline_fail(error, name, "skiff has no %s; leave it off",
                          options.usb ? "USB" : "vmport");
    } else if (options.memory_backend != NULL) {
        g_free(config->machine_memory);
        config->machine_memory = g_strdup(options.memory_backend);
    }
    opts_clear(specs, &options);
    return ok;
}

bool cmdline_accel(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (g_str_has_prefix(value, "kvm,")) {
        return cmdline_fail(error, name, "kvm takes no options here; leave '%s' off",
                            value + strlen("kvm"));
    }
    return strcmp(value, "kvm") == 0 ||
           cmdline_fail(error, name, "skiff has no accelerator '%s'; it runs on kvm only", value);
}

bool cmdline_memory(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        uint64_t size;
    } MemoryOptions;
    static const OptSpec specs[] = {
        {.name = "size",
         .type = OPT_SIZE,
         .offset = offsetof(MemoryOptions, size),
         .default_unit = 1 << 20,
         .min = 2 << 20,
         .max = UINT64_C(1) << 46,
         .required = true},
        {0},
    };
    g_autoptr(OptDict) dict = opt_dict_parse(value, "size", error);
    MemoryOptions options;
    if (dict == NULL || !opts_bind(specs, &options, dict, "-m", error)) {
        return false;
    }
    config->ram_size = options.size;
    config->ram_size_set = true;
    return true;
}

bool cmdline_display(VmConfig *config, const char *name, const char *value, GError **error)
{
    config->display_none = true;
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has no display '%s'; use none, and a serial console",
                        value);
}

/* Options whose only meaning that skiff has is "none". */
bool cmdline_only_none(VmConfig *config, const char *name, const char *value, GError **error)
{
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has only '-%s none'", name);
}

bool cmdline_timeout(VmConfig *config, const char *name, const char *value, GError **error)
{
    uint64_t seconds;
    if (!opt_parse_u64(value, 1, 31536000, &seconds, error)) {
        g_prefix_error(error, "-%s (seconds): ", name);
        return false;
    }
    config->timeout_s = (unsigned)seconds;
    return true;
}

bool cmdline_action(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        int reboot, shutdown, panic;
    } ActionOptions;
    static const char *const reboots[] = {"reset", "shutdown", NULL};
    static const char *const shutdowns[] = {"poweroff", "pause", NULL};
    static const char *const panics[] = {"shutdown", "exit-failure", "pause", "none", NULL};
    static const OptSpec specs[] = {
        {.name = "reboot",
         .type = OPT_ENUM,
         .offset = offsetof(ActionOptions, reboot),
         .names = reboots,
         .def = "reset"},
        {.name = "shutdown",
         .type = OPT_ENUM,
         .offset = offsetof(ActionOptions, shutdown),
         .names = shutdowns,
         .def = "poweroff"},
        {.name = "panic",
         .type = OPT_ENUM,
         .offset = offsetof(ActionOptions, panic),
         .names = panics,
         .def = "shutdown"},
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    ActionOptions options;
    opts_init(specs, &options);
    if (dict != NULL && opt_dict_has(dict, "watchdog")) {
        return cmdline_fail(error, name, "skiff has no watchdog device; nearest is -timeout");
    }
    if (dict == NULL || !opts_bind(specs, &options, dict, "-action", error)) {
        return false;
    }
    if (opt_dict_has(dict, "reboot")) {
        config->no_reboot = options.reboot == 1;
    }
    if (opt_dict_has(dict, "shutdown")) {
        config->no_shutdown = options.shutdown == 1;
    }
    if (opt_dict_has(dict, "panic")) {
        config->panic = (PanicAction)options.panic;
    }
    return true;
}

bool cmdline_rtc(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        char *base, *clock;
    } RtcOptions;
    static const OptSpec specs[] = {
        {.name = "base", .type = OPT_STRING, .offset = offsetof(RtcOptions, base), .def = "utc"},
        {.name = "clock", .type = OPT_STRING, .offset = offsetof(RtcOptions, clock), .def = "host"},
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    RtcOptions options;
    opts_init(specs, &options);
    bool ok = dict != NULL && opts_bind(specs, &options, dict, "-rtc", error);
    if (ok && strcmp(options.base, "utc") != 0 && strcmp(options.base, "localtime") != 0) {
        ok = cmdline_fail(error, name, "base=%s: skiff has utc and localtime", options.base);
    }
    if (ok && strcmp(options.clock, "host") != 0) {
        ok = cmdline_fail(error, name, "clock=%s: skiff has only clock=host", options.clock);
    }
    if (ok) {
        g_free(config->rtc_base);
        config->rtc_base = g_strdup(options.base);
    }
    opts_clear(specs, &options);
    return ok;
}

bool cmdline_msg(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        bool timestamp;
    } MsgOptions;
    static const OptSpec specs[] = {
        {.name = "timestamp", .type = OPT_BOOL, .offset = offsetof(MsgOptions, timestamp)},
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    MsgOptions options;
    if (dict == NULL || !opts_bind(specs, &options, dict, "-msg", error)) {
        return false;
    }
    config->log_timestamps = options.timestamp;
    return true;
}

bool cmdline_mon(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->mons, name, value, "chardev", error);
}

static bool cmdline_set_dict(OptDict **field, const char *name, const char *value,
                             const char *implied_key, GError **error)
{
    if (*field != NULL) {
        return cmdline_fail(error, name, "given twice");
    }
    *field = cmdline_parse_dict(name, value, implied_key, error);
    return *field != NULL;
}

bool cmdline_sandbox(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_set_dict(&config->sandbox, name, value, "enable", error);
}

bool cmdline_run_with(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_set_dict(&config->run_with, name, value, NULL, error);
}

bool cmdline_gdb_default(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (config->gdb != NULL) {
        return cmdline_fail(error, name, "-gdb %s was given before", config->gdb);
    }
    config->gdb = g_strdup("tcp::1234");
    return true;
}
