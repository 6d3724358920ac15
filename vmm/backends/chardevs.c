/* SPDX-License-Identifier: Apache-2.0 */
/* Character devices of the VM: the serial ports and their chardevs. */
#include <string.h>
#include "util/log.h"
#include "hw/chardev/chardev_set.h"
#include "vmm/backends/backends.h"

#define BACKENDS_MAX_SERIALS 2

Chardev *backends_claim_chardev(Backends *b, const char *id, const char *user, GError **error)
{
    Chardev *c = chardev_claim(id, user, error);
    if (c != NULL && b->console == NULL && b->serials->len > 0 &&
        g_strcmp0(id, b->serials->pdata[0]) == 0) {
        b->console = c;
    }
    return c;
}

/* Refuses a terminal under -daemonize. */
static bool backends_check_chardev(const Backends *b, const OptDict *opts, GError **error)
{
    if (b->config->process.daemonize && g_strcmp0(opt_dict_get(opts, "backend"), "stdio") == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "a daemon has no terminal: use file, socket or pty, and -display none in place "
                    "of -nographic");
        return false;
    }
    return true;
}

static void backends_make_server(OptDict *opts)
{
    if (g_strcmp0(opt_dict_get(opts, "backend"), "socket") == 0 && !opt_dict_has(opts, "server") &&
        !opt_dict_has(opts, "reconnect") && !opt_dict_has(opts, "reconnect-ms")) {
        opt_dict_set(opts, "server", "on");
        opt_dict_set_default(opts, "wait", "off");
    }
}

static coroutine_fn RUNS_IN_MAIN bool backends_co_open_chardev(Backends *b, const char *text,
                                                               const char *label,
                                                               const char *option, bool listens,
                                                               char **id, GError **error)
{
    ChardevString s;
    *id = NULL;
    if (!chardev_string_parse(&s, text, label, error)) {
        g_prefix_error(error, "-%s %s: ", option, text);
        return false;
    }
    if (s.opts != NULL && listens) {
        backends_make_server(s.opts);
    }
    bool ok = s.opts == NULL || (backends_check_chardev(b, s.opts, error) &&
                                 chardev_co_add(g_steal_pointer(&s.opts), error));
    if (ok) {
        *id = g_strdup(s.id);
        if (s.monitor) {
            backends_add_human_monitor(b, g_strdup(s.id), option);
        }
    } else {
        g_prefix_error(error, "-%s %s: ", option, text);
    }
    chardev_string_clear(&s);
    return ok;
}

bool backends_co_open_string(Backends *b, const char *text, const char *label, const char *option,
                             char **id, GError **error)
{
    return backends_co_open_chardev(b, text, label, option, false, id, error);
}

bool backends_co_open_listening(Backends *b, const char *text, const char *label,
                                const char *option, char **id, GError **error)
{
    return backends_co_open_chardev(b, text, label, option, true, id, error);
}

static coroutine_fn RUNS_IN_MAIN bool backends_co_add_serial(Backends *b, const char *text,
                                                             GError **error)
{
    if (b->serials->len == BACKENDS_MAX_SERIALS) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-serial: this machine has %d serial ports; "
                    "use -device virtio-serial-pci for more",
                    BACKENDS_MAX_SERIALS);
        return false;
    }
    g_autofree char *label = g_strdup_printf("serial%u", b->serials->len);
    char *id;
    if (!backends_co_open_string(b, text, label, "serial", &id, error)) {
        return false;
    }
    g_ptr_array_add(b->serials, id);
    return true;
}

/* As in QEMU, a serial port created as a device replaces the default one. */
static bool backends_has_default_serial(const VmConfig *config)
{
    if (config->backends.serials->len > 0 || config->backends.nodefaults) {
        return false;
    }
    for (unsigned i = 0; i < config->machine.devices->len; i++) {
        if (g_strcmp0(opt_dict_get(config->machine.devices->pdata[i], "driver"), "isa-serial") ==
            0) {
            return false;
        }
    }
    return true;
}

/* The default serial port's chardev: the terminal, unless the VM is silent or -exec uses the
 * terminal. */
static const char *backends_default_serial(const VmConfig *config)
{
    if (config->control.exec != NULL) {
        return "null";
    }
    if (config->backends.nographic ||
        (!config->backends.display_none && !config->process.daemonize)) {
        return "mon:stdio";
    }
    return "null";
}

bool backends_co_make_chardevs(Backends *b, GError **error)
{
    const VmConfig *config = b->config;
    chardev_hold_input(true);
    for (unsigned i = 0; i < config->backends.chardevs->len; i++) {
        g_autoptr(OptDict) opts =
            opt_dict_parse(config->backends.chardevs->pdata[i], "backend", error);
        if (opts == NULL || !backends_check_chardev(b, opts, error) ||
            !chardev_co_add(g_steal_pointer(&opts), error)) {
            g_prefix_error(error,
                           "-chardev %s: ", (const char *)config->backends.chardevs->pdata[i]);
            return false;
        }
    }
    for (unsigned i = 0; i < config->backends.serials->len; i++) {
        if (!backends_co_add_serial(b, config->backends.serials->pdata[i], error)) {
            return false;
        }
    }
    if (backends_has_default_serial(config) &&
        !backends_co_add_serial(b, backends_default_serial(config), error)) {
        return false;
    }
    if (config->backends.debugcon != NULL &&
        !backends_co_open_string(b, config->backends.debugcon, "debugcon", "debugcon", &b->debugcon,
                                 error)) {
        return false;
    }
    return true;
}
