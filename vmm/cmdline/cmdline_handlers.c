/* SPDX-License-Identifier: Apache-2.0 */
/* The handlers of command line options. */
#include <stdio.h>
#include <string.h>
#include "vmm/cmdline/cmdline_int.h"
#include "vmm/cmdline/restore_clone.h"

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

/* The last value of a repeated option counts, as in QEMU. */
bool cmdline_text(VmConfig *config, const char *name, const char *value, GError **error)
{
    char **field = cmdline_field(config);
    g_free(*field);
    *field = g_strdup(value);
    return true;
}

/* As cmdline_text(), but an empty value is an error. */
bool cmdline_string(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a value");
    }
    return cmdline_text(config, name, value, error);
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

OptDict *cmdline_parse_dict(const char *name, const char *value, const char *implied_key,
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
    return cmdline_add_dict(config->machine.devices, name, value, "driver", error);
}

bool cmdline_object(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->backends.objects, name, value, "qom-type", error);
}

bool cmdline_blockdev(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->backends.blockdevs, name, value, "driver", error);
}

bool cmdline_drive(VmConfig *config, const char *name, const char *value, GError **error)
{
    /* file=x,file.locking=off */
    OptDict *dict = opt_dict_parse_folding(value, "file", "filename", error);
    return cmdline_take_dict(config->backends.drives, name, dict, error);
}

bool cmdline_netdev(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->backends.netdevs, name, value, "type", error);
}

bool cmdline_virtiofs(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a value");
    }
    return cmdline_take_dict(config->backends.virtiofs, name, opt_dict_parse(value, "tag", error),
                             error);
}

/* There is no NIC by default, so "none" only takes back what came before. */
bool cmdline_nic(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (strcmp(value, "none") == 0) {
        g_ptr_array_set_size(config->backends.nics, 0);
        return true;
    }
    return cmdline_add_dict(config->backends.nics, name, value, "type", error);
}

bool cmdline_net(VmConfig *config, const char *name, const char *value, GError **error)
{
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name,
                        "skiff has only '-net none'; use -nic, or -netdev and -device");
}

/* -display and -vnc */
bool cmdline_display(VmConfig *config, const char *name, const char *value, GError **error)
{
    config->backends.display_none = true;
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has no display '%s'; use none, and a serial console",
                        value);
}

bool cmdline_escape(VmConfig *config, const char *name, const char *value, GError **error)
{
    char *end;
    guint64 code = g_ascii_strtoull(value, &end, 0);
    if (!g_ascii_isdigit(value[0]) || *end != '\0' || code > UINT8_MAX) {
        return cmdline_fail(error, name, "'%s': must be a character code from 0 to 255", value);
    }
    config->backends.escape_set = true;
    config->backends.escape = (uint8_t)code;
    return true;
}

/* Options for which skiff supports only "none". */
bool cmdline_only_none(VmConfig *config, const char *name, const char *value, GError **error)
{
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has only '-%s none'", name);
}

/* A disk by its file name alone; commas in it have no meaning. */
bool cmdline_disk(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a file name");
    }
    char index[] = {(char)('0' + (name[2] - 'a')), '\0'};
    OptDict *dict = opt_dict_new();
    opt_dict_set(dict, "file", value);
    opt_dict_set(dict, "index", index);
    opt_dict_set(dict, "format", "raw");
    g_ptr_array_add(config->backends.drives, dict);
    g_ptr_array_add(config->backends.ide_drives, dict);
    return true;
}

/* The next flash, by its file name alone. */
bool cmdline_pflash(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (value[0] == '\0') {
        return cmdline_fail(error, name, "needs a file name");
    }
    OptDict *dict = opt_dict_new();
    opt_dict_set(dict, "file", value);
    opt_dict_set(dict, "if", "pflash");
    opt_dict_set(dict, "format", "raw");
    g_ptr_array_add(config->backends.drives, dict);
    g_ptr_array_add(config->backends.ide_drives, dict);
    return true;
}

bool cmdline_restore(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_free(config->life.load_state);
    config->life.load_state = g_strdup(value);
    config->life.map_state = true;
    return true;
}

bool cmdline_prefault(VmConfig *config, const char *name, const char *value, GError **error)
{
    bool on;
    if (!opt_parse_bool(value, &on, error)) {
        g_prefix_error(error, "-%s: ", name);
        return false;
    }
    config->life.prefault = on ? PREFAULT_ON : PREFAULT_OFF;
    return true;
}

bool cmdline_clone(VmConfig *config, const char *name, const char *value, GError **error)
{
    CloneOptions c;
    if (!clone_options_parse(&c, value, error)) {
        return false;
    }
    config->backends.clone = true;
    config->life.new_macs = c.mac == CLONE_MAC_RANDOM;
    bool ok = cmdline_restore(config, name, c.file, error);
    clone_options_clear(&c);
    return ok;
}

/* The port is of the machine, and its command of the process. */
bool cmdline_exec_port(VmConfig *config, const char *name, const char *value, GError **error)
{
    config->control.exec_port = true;
    return true;
}

/* -exec and -snapshot-at. */
bool cmdline_exec(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (!config->control.exec_port) {
        vm_config_note_option(config, "exec-port", NULL);
    }
    config->control.exec_port = true;
    return cmdline_string(config, name, value, error);
}

bool cmdline_timeout(VmConfig *config, const char *name, const char *value, GError **error)
{
    uint64_t seconds;
    if (!opt_parse_u64(value, 1, 31536000, &seconds, error)) {
        g_autofree char *excerpt = opt_excerpt(value);
        g_prefix_error(error, "-%s %s: a time in seconds: ", name, excerpt);
        return false;
    }
    config->life.timeout_s = (unsigned)seconds;
    return true;
}

static bool action_apply(VmConfig *config, OptDict *dict, GError **error)
{
    typedef struct {
        int reboot, shutdown, panic, watchdog;
    } ActionOptions;
    static const char *const reboots[] = {"reset", "shutdown", NULL};
    static const char *const shutdowns[] = {"poweroff", "pause", NULL};
    static const char *const panics[] = {"shutdown", "exit-failure", "pause", "none", NULL};
    /* in the order of the enum WatchdogAction */
    static const char *const watchdogs[] = {"reset", "shutdown", "poweroff",   "pause",
                                            "debug", "none",     "inject-nmi", NULL};
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
        {.name = "watchdog",
         .type = OPT_ENUM,
         .offset = offsetof(ActionOptions, watchdog),
         .names = watchdogs,
         .def = "reset"},
        {0},
    };
    ActionOptions options;
    opts_init(specs, &options);
    if (!opts_bind(specs, &options, dict, "-action", error)) {
        return false;
    }
    if (opt_dict_has(dict, "reboot")) {
        config->life.no_reboot = options.reboot == 1;
    }
    if (opt_dict_has(dict, "shutdown")) {
        config->life.no_shutdown = options.shutdown == 1;
    }
    if (opt_dict_has(dict, "panic")) {
        config->life.panic = (PanicAction)options.panic;
    }
    if (opt_dict_has(dict, "watchdog")) {
        config->life.watchdog = (WatchdogAction)options.watchdog;
    }
    return true;
}

bool cmdline_action(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, NULL, error);
    return dict != NULL && action_apply(config, dict, error);
}

/* -watchdog-action ACTION is -action watchdog=ACTION. */
bool cmdline_watchdog_action(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_autoptr(OptDict) dict = opt_dict_new();
    opt_dict_set(dict, "watchdog", value);
    return action_apply(config, dict, error);
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
    config->process.log_timestamps = options.timestamp;
    return true;
}

bool cmdline_mon(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->control.mons, name, value, "chardev", error);
}

static void cmdline_merge_entry(const char *key, const char *value, void *opaque)
{
    opt_dict_set(opaque, key, value);
}

/* A repeated option adds to the earlier ones; the last value of a repeated key counts. */
static bool cmdline_set_dict(OptDict **field, const char *name, const char *value,
                             const char *implied_key, GError **error)
{
    OptDict *dict = cmdline_parse_dict(name, value, implied_key, error);
    if (dict == NULL || *field == NULL) {
        *field = dict != NULL ? dict : *field;
        return dict != NULL;
    }
    opt_dict_foreach(dict, cmdline_merge_entry, *field);
    opt_dict_free(dict);
    return true;
}

bool cmdline_sandbox(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_set_dict(&config->process.sandbox, name, value, "enable", error);
}

bool cmdline_run_with(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_set_dict(&config->process.run_with, name, value, NULL, error);
}

bool cmdline_gdb_default(VmConfig *config, const char *name, const char *value, GError **error)
{
    g_free(config->control.gdb);
    config->control.gdb = g_strdup("tcp::1234");
    return true;
}
