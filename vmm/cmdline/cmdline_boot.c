/* SPDX-License-Identifier: Apache-2.0 */
/* -boot: what firmware boots from. */
#include <string.h>
#include "vmm/cmdline/cmdline_int.h"

#define BOOT_MAX_DRIVES 3 /* the CMOS fields have room for so many */
#define BOOT_DRIVES "abcdn"
#define BOOT_MAX_TIMEOUT_MS 0xffff

typedef struct BootOptions {
    char *order, *once, *splash, *reboot_timeout;
    bool menu, strict;
    uint16_t splash_time;
} BootOptions;

/* As QEMU: a letter a to p, once each; a PC has floppies a and b, disk c, CD d, network n. */
static bool boot_check_drives(const char *name, const char *drives, GError **error)
{
    for (const char *d = drives; *d != '\0'; d++) {
        if (*d < 'a' || *d > 'p') {
            return cmdline_fail(error, name, "Invalid boot device '%c'", *d);
        }
        if (strchr(d + 1, *d) != NULL) {
            return cmdline_fail(error, name, "Boot device '%c' was given twice", *d);
        }
        if (strchr(BOOT_DRIVES, *d) == NULL) {
            return cmdline_fail(error, name,
                                "Invalid boot device for PC: '%c'; there are c (disk), d (CD) and "
                                "n (network)",
                                *d);
        }
    }
    return strlen(drives) <= BOOT_MAX_DRIVES ||
           cmdline_fail(error, name, "Too many boot devices for PC: '%s'; give %d at most", drives,
                        BOOT_MAX_DRIVES);
}

static void boot_set_string(char **field, char **value)
{
    if (*value != NULL) {
        g_free(*field);
        *field = g_steal_pointer(value);
    }
}

static bool boot_set_timeout(const char *name, const char *text, int32_t *field, GError **error)
{
    int64_t ms;
    if (text == NULL) {
        return true;
    }
    if (!g_ascii_string_to_signed(text, 10, -1, BOOT_MAX_TIMEOUT_MS, &ms, NULL)) {
        return cmdline_fail(error, name,
                            "reboot-timeout=%s: expects milliseconds, up to %d, or -1 (never)",
                            text, BOOT_MAX_TIMEOUT_MS);
    }
    *field = (int32_t)ms;
    return true;
}

static bool boot_apply(BootConfig *boot, const char *name, BootOptions *options,
                       const OptDict *dict, GError **error)
{
    if (options->splash != NULL) {
        return cmdline_fail(error, name, "splash=: this machine has no display");
    }
    if ((options->order != NULL && !boot_check_drives(name, options->order, error)) ||
        (options->once != NULL && !boot_check_drives(name, options->once, error)) ||
        !boot_set_timeout(name, options->reboot_timeout, &boot->reboot_timeout_ms, error)) {
        return false;
    }
    boot_set_string(&boot->order, &options->order);
    boot_set_string(&boot->once, &options->once);
    boot->menu = opt_dict_has(dict, "menu") ? options->menu : boot->menu;
    boot->strict = opt_dict_has(dict, "strict") ? options->strict : boot->strict;
    if (opt_dict_has(dict, "splash-time")) {
        boot->splash_time_ms = options->splash_time;
    }
    return true;
}

bool cmdline_boot(VmConfig *config, const char *name, const char *value, GError **error)
{
    static const OptSpec specs[] = {
        OPT_SPEC(BootOptions, "order", OPT_STRING, order),
        OPT_SPEC(BootOptions, "once", OPT_STRING, once),
        OPT_SPEC(BootOptions, "menu", OPT_BOOL, menu),
        OPT_SPEC(BootOptions, "strict", OPT_BOOL, strict),
        OPT_SPEC(BootOptions, "splash", OPT_STRING, splash),
        OPT_SPEC(BootOptions, "splash-time", OPT_U16, splash_time),
        OPT_SPEC(BootOptions, "reboot-timeout", OPT_STRING, reboot_timeout),
        {0},
    };
    g_autoptr(OptDict) dict = cmdline_parse_dict(name, value, "order", error);
    BootOptions options;
    opts_init(specs, &options);
    g_autoptr(OptDict) given = dict != NULL ? opt_dict_copy(dict) : NULL;
    bool ok = dict != NULL && opts_bind(specs, &options, dict, "-boot", error) &&
              boot_apply(&config->machine.boot, name, &options, given, error);
    opts_clear(specs, &options);
    return ok;
}
