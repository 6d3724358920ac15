/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one table. QEMU's spelling wherever skiff has the feature; what skiff lacks is
 * refused by name.
 */
#include <stdio.h>
#include <string.h>
#include "util/log.h"
#include "util/trace.h"
#include "vmm/cmdline_int.h"
#include "vmm/config.h"

typedef bool CmdlineHandler(VmConfig *config, const char *name, const char *value, GError **error);

typedef struct CmdlineOption {
    const char *name;
    const char *argument; /* for help; NULL: takes none */
    const char *help;     /* NULL: not listed */
    CmdlineHandler *handler;
    size_t offset; /* for the generic handlers */
} CmdlineOption;

static bool cmdline_fail(GError **error, const char *name, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static bool cmdline_fail(GError **error, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_autofree char *text = g_strdup_vprintf(format, ap);
    va_end(ap);
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "-%s: %s", name, text);
    return false;
}

/* ---- handlers ---- */

static const CmdlineOption *cmdline_current; /* the row whose handler runs */

static void *cmdline_field(VmConfig *config)
{
    return (char *)config + cmdline_current->offset;
}

static bool cmdline_string(VmConfig *config, const char *name, const char *value, GError **error)
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
static bool cmdline_text(VmConfig *config, const char *name, const char *value, GError **error)
{
    char **field = cmdline_field(config);
    if (*field != NULL) {
        return cmdline_fail(error, name, "given twice");
    }
    *field = g_strdup(value);
    return true;
}

static bool cmdline_uuid(VmConfig *config, const char *name, const char *value, GError **error)
{
    if (!g_uuid_string_is_valid(value)) {
        return cmdline_fail(error, name,
                            "'%s' is no UUID, as 01234567-89ab-cdef-0123-456789abcdef is", value);
    }
    return cmdline_string(config, name, value, error);
}

static bool cmdline_flag(VmConfig *config, const char *name, const char *value, GError **error)
{
    *(bool *)cmdline_field(config) = true;
    return true;
}

static bool cmdline_ignore(VmConfig *config, const char *name, const char *value, GError **error)
{
    return true;
}

static bool cmdline_list(VmConfig *config, const char *name, const char *value, GError **error)
{
    GPtrArray **field = cmdline_field(config);
    g_ptr_array_add(*field, g_strdup(value));
    return true;
}

static bool cmdline_add_dict(GPtrArray *list, const char *name, const char *value,
                             const char *implied_key, GError **error)
{
    OptDict *dict = opt_dict_parse(value, implied_key, error);
    if (dict == NULL) {
        g_prefix_error(error, "-%s: ", name);
        return false;
    }
    if (implied_key != NULL && !opt_dict_has(dict, implied_key)) {
        opt_dict_free(dict);
        return cmdline_fail(error, name, "'%s' lacks %s=", value, implied_key);
    }
    g_ptr_array_add(list, dict);
    return true;
}

static bool cmdline_device(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->devices, name, value, "driver", error);
}

static bool cmdline_object(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->objects, name, value, "qom-type", error);
}

static bool cmdline_blockdev(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->blockdevs, name, value, "driver", error);
}

static bool cmdline_drive(VmConfig *config, const char *name, const char *value, GError **error)
{
    return cmdline_add_dict(config->drives, name, value, NULL, error);
}

static bool cmdline_machine(VmConfig *config, const char *name, const char *value, GError **error)
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
    g_autoptr(OptDict) dict = opt_dict_parse(value, "type", error);
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

static bool cmdline_accel(VmConfig *config, const char *name, const char *value, GError **error)
{
    return strcmp(value, "kvm") == 0 ||
           cmdline_fail(error, name, "skiff has no accelerator '%s'; it runs on kvm only", value);
}

static bool cmdline_memory(VmConfig *config, const char *name, const char *value, GError **error)
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

static bool cmdline_display(VmConfig *config, const char *name, const char *value, GError **error)
{
    config->display_none = true;
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has no display '%s'; use none, and a serial console",
                        value);
}

/* Options whose only meaning that skiff has is "none". */
static bool cmdline_only_none(VmConfig *config, const char *name, const char *value, GError **error)
{
    return strcmp(value, "none") == 0 ||
           cmdline_fail(error, name, "skiff has only '-%s none'", name);
}

static bool cmdline_timeout(VmConfig *config, const char *name, const char *value, GError **error)
{
    uint64_t seconds;
    if (!opt_parse_u64(value, 1, 31536000, &seconds, error)) {
        g_prefix_error(error, "-%s (seconds): ", name);
        return false;
    }
    config->timeout_s = (unsigned)seconds;
    return true;
}

static bool cmdline_action(VmConfig *config, const char *name, const char *value, GError **error)
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
    g_autoptr(OptDict) dict = opt_dict_parse(value, NULL, error);
    ActionOptions options;
    opts_init(specs, &options);
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

static bool cmdline_rtc(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        char *base, *clock;
    } RtcOptions;
    static const OptSpec specs[] = {
        {.name = "base", .type = OPT_STRING, .offset = offsetof(RtcOptions, base), .def = "utc"},
        {.name = "clock", .type = OPT_STRING, .offset = offsetof(RtcOptions, clock), .def = "host"},
        {0},
    };
    g_autoptr(OptDict) dict = opt_dict_parse(value, NULL, error);
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

static bool cmdline_msg(VmConfig *config, const char *name, const char *value, GError **error)
{
    typedef struct {
        bool timestamp;
    } MsgOptions;
    static const OptSpec specs[] = {
        {.name = "timestamp", .type = OPT_BOOL, .offset = offsetof(MsgOptions, timestamp)},
        {0},
    };
    g_autoptr(OptDict) dict = opt_dict_parse(value, NULL, error);
    MsgOptions options;
    if (dict == NULL || !opts_bind(specs, &options, dict, "-msg", error)) {
        return false;
    }
    config->log_timestamps = options.timestamp;
    return true;
}

/* ---- the table ---- */

#define FIELD(f) offsetof(VmConfig, f)

static const CmdlineOption cmdline_options[] = {
    {"machine", "q35[,memory-backend=id]", "the machine", cmdline_machine, 0},
    {"M", "q35", NULL, cmdline_machine, 0},
    {"accel", "kvm", NULL, cmdline_accel, 0},
    {"enable-kvm", NULL, NULL, cmdline_ignore, 0},
    {"cpu", "host[,+f][,-f]", "the processor, with features on or off", cmdline_string, FIELD(cpu)},
    {"smp", "n[,sockets=s][,cores=c][,threads=t]", "processors", cmdline_string, FIELD(smp)},
    {"m", "size", "RAM in MiB, or with a suffix K M G T (default 128)", cmdline_memory, 0},
    {"kernel", "file", "bzImage, ELF with a PVH note, or Multiboot kernel", cmdline_string,
     FIELD(kernel)},
    {"initrd", "file", "initial RAM disk, or Multiboot modules 'file args,...'", cmdline_string,
     FIELD(initrd)},
    {"append", "text", "the kernel's command line", cmdline_text, FIELD(append)},
    {"bios", "file", "raw firmware image, ends at 4 GiB", cmdline_string, FIELD(bios)},
    {"drive", "file=f[,format=raw][,if=virtio|none][,id=i][,...]", "a disk", cmdline_drive, 0},
    {"blockdev", "driver=d,node-name=n,...", "a block node (also as JSON)", cmdline_blockdev, 0},
    {"object", "iothread|memory-backend-memfd,id=i,...", "an iothread or guest memory",
     cmdline_object, 0},
    {"device", "type[,prop=value...]", "a device; '-device help', '-device type,help'",
     cmdline_device, 0},
    {"chardev", "backend,id=i,...", "a character backend", cmdline_list, FIELD(chardevs)},
    {"serial", "stdio|mon:stdio|file:f|pty|unix:p|tcp:h:p|null|none", "the next serial port",
     cmdline_list, FIELD(serials)},
    {"debugcon", "backend", "port 0xe9 to a character backend", cmdline_string, FIELD(debugcon)},
    {"nographic", NULL, "serial port on the terminal; Ctrl-A x ends, Ctrl-A h helps", cmdline_flag,
     FIELD(nographic)},
    {"display", "none", "no display is what there is", cmdline_display, 0},
    {"vga", "none", NULL, cmdline_only_none, 0},
    {"net", "none", NULL, cmdline_only_none, 0},
    {"nic", "none", NULL, cmdline_only_none, 0},
    {"monitor", "none", NULL, cmdline_only_none, 0},
    {"parallel", "none", NULL, cmdline_only_none, 0},
    {"nodefaults", NULL, NULL, cmdline_ignore, 0},
    {"no-user-config", NULL, NULL, cmdline_ignore, 0},
    {"S", NULL, "do not start the processors", cmdline_flag, FIELD(start_stopped)},
    {"no-reboot", NULL, "exit instead of resetting", cmdline_flag, FIELD(no_reboot)},
    {"no-shutdown", NULL, "stop instead of exiting on power-off", cmdline_flag, FIELD(no_shutdown)},
    {"action",
     "reboot=reset|shutdown,shutdown=poweroff|pause,panic=shutdown|exit-failure|pause|none",
     "what events do", cmdline_action, 0},
    {"timeout", "seconds", "end a VM that runs longer; exit status 12", cmdline_timeout, 0},
    {"rtc", "base=utc|localtime", "the clock's base", cmdline_rtc, 0},
    {"name", "text", "the VM's name", cmdline_string, FIELD(name)},
    {"uuid", "uuid", "the VM's UUID", cmdline_uuid, FIELD(uuid)},
    {"pidfile", "file", "write the process id there", cmdline_string, FIELD(pidfile)},
    {"daemonize", NULL, "go to the background once the VM is up", cmdline_flag, FIELD(daemonize)},
    {"D", "file", "log to a file", cmdline_string, FIELD(log_file)},
    {"msg", "timestamp=on", "log lines with time", cmdline_msg, 0},
    {"trace", "pattern", "trace events by name, with * and ?; 'help' lists them", cmdline_list,
     FIELD(traces)},
    {0},
};

static const CmdlineOption *cmdline_find(const char *name)
{
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        if (strcmp(o->name, name) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool cmdline_unknown(const char *name, GError **error)
{
    const char *nearest = cmdline_nearest(name);
    if (nearest != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN, "skiff has no -%s; nearest is %s", name,
                    nearest);
        return false;
    }
    const char *names[G_N_ELEMENTS(cmdline_options)];
    unsigned n = 0;
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        names[n++] = o->name;
    }
    names[n] = NULL;
    const char *near = opt_nearest(name, names);
    g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                near != NULL ? "unknown option -%s; did you mean -%s?"
                             : "unknown option -%s; -help lists them%s",
                name, near != NULL ? near : "");
    return false;
}

void cmdline_print_help(FILE *out)
{
    fprintf(out, "skiff " SKIFF_VERSION ": a minimal KVM virtual machine monitor\n\n"
                 "usage: skiff [options]      (see skiff(1) for the whole story)\n\n");
    for (const CmdlineOption *o = cmdline_options; o->name != NULL; o++) {
        if (o->help != NULL) {
            fprintf(out, "  -%s%s%s\n        %s\n", o->name, o->argument != NULL ? " " : "",
                    o->argument != NULL ? o->argument : "", o->help);
        }
    }
    fprintf(out, "\nexample: skiff -m 512 -smp 2 -kernel vmlinuz -initrd initrd.img "
                 "-append console=ttyS0 -nographic\n");
}

/* One option at argv[*at]; advances *at over it and its argument. */
static bool cmdline_take(VmConfig *config, int argc, char **argv, int *at, GError **error)
{
    const char *word = argv[(*at)++];
    if (word[0] == '\0' || strcmp(word, "-") == 0 || strcmp(word, "--") == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX, "'%s' is not an option; -help lists them",
                    word);
        return false;
    }
    if (word[0] != '-') {
        g_set_error(error, OPT_ERROR, OPT_ERROR_SYNTAX,
                    "'%s' is not an option; a disk is given as -drive file=%s,format=raw", word,
                    word);
        return false;
    }
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const CmdlineOption *option = cmdline_find(name);
    if (option == NULL) {
        return cmdline_unknown(name, error);
    }
    const char *value = NULL;
    if (option->argument != NULL) {
        if (*at >= argc) {
            return cmdline_fail(error, name, "needs an argument: -%s %s", name, option->argument);
        }
        value = argv[(*at)++];
    }
    cmdline_current = option;
    return option->handler(config, name, value, error);
}

CmdlineResult cmdline_parse(VmConfig *config, int argc, char **argv, GError **error)
{
    for (int i = 1; i < argc;) {
        const char *name = argv[i] + (g_str_has_prefix(argv[i], "--") ? 1 : 0);
        if (strcmp(name, "-help") == 0 || strcmp(name, "-h") == 0) {
            cmdline_print_help(stdout);
            return CMDLINE_DONE;
        }
        if (strcmp(name, "-version") == 0) {
            printf("skiff version " SKIFF_VERSION "\n");
            return CMDLINE_DONE;
        }
        if (i + 1 < argc && cmdline_is_help_request(name, argv[i + 1])) {
            return cmdline_answer_help(name + 1, argv[i + 1], error) ? CMDLINE_DONE : CMDLINE_ERROR;
        }
        if (!cmdline_take(config, argc, argv, &i, error)) {
            return CMDLINE_ERROR;
        }
    }
    return CMDLINE_RUN;
}
