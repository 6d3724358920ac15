/* SPDX-License-Identifier: Apache-2.0 */
/* Character devices of the VM: which serial ports there are and where they lead. */
#include <string.h>
#include "util/log.h"
#include "hw/chardev/chardev_set.h"
#include "vmm/vm/vm.h"

#define VM_MAX_SERIALS 2

static Vm *chardevs_vm; /* devices look chardevs up by name only */

Chardev *vm_claim_chardev(const char *id, const char *user, GError **error)
{
    enter_main();
    Vm *vm = chardevs_vm;
    Chardev *c = vm_exec_chardev(vm, id);
    if (c != NULL && (c->frontend != NULL || strcmp(user, c->id) != 0)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "chardev '%s' is in use by -exec", id);
        return NULL;
    }
    if (c != NULL) {
        return c;
    }
    c = chardev_claim(id, user, error);
    if (c != NULL && vm->console == NULL && vm->serials->len > 0 &&
        g_strcmp0(id, vm->serials->pdata[0]) == 0) {
        vm->console = c;
    }
    return c;
}

void vm_release_chardev(Chardev *c)
{
    enter_main();
    if (c->id != NULL && vm_exec_chardev(chardevs_vm, c->id) == c) {
        return; /* -exec keeps its own, and has heard that the port is gone */
    }
    chardev_release(c);
}

/* Not on a terminal that is about to go. */
static bool vm_check_chardev(const OptDict *opts, GError **error)
{
    if (chardevs_vm->config->daemonize && g_strcmp0(opt_dict_get(opts, "backend"), "stdio") == 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "a daemon has no terminal: use file, socket or pty, and -display none in place "
                    "of -nographic");
        return false;
    }
    return true;
}

static void vm_let_listen(OptDict *opts)
{
    if (g_strcmp0(opt_dict_get(opts, "backend"), "socket") == 0 && !opt_dict_has(opts, "server") &&
        !opt_dict_has(opts, "reconnect") && !opt_dict_has(opts, "reconnect-ms")) {
        opt_dict_set(opts, "server", "on");
        opt_dict_set_default(opts, "wait", "off");
    }
}

static coroutine_fn RUNS_IN_MAIN bool vm_co_open_chardev(const char *text, const char *label,
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
        vm_let_listen(s.opts);
    }
    bool ok = s.opts == NULL ||
              (vm_check_chardev(s.opts, error) && chardev_co_add(g_steal_pointer(&s.opts), error));
    if (ok) {
        *id = g_strdup(s.id);
        if (s.monitor) {
            vm_add_human_monitor(chardevs_vm, g_strdup(s.id), option);
        }
    } else {
        g_prefix_error(error, "-%s %s: ", option, text);
    }
    chardev_string_clear(&s);
    return ok;
}

bool vm_co_open_string(const char *text, const char *label, const char *option, char **id,
                       GError **error)
{
    return vm_co_open_chardev(text, label, option, false, id, error);
}

bool vm_co_open_listening(const char *text, const char *label, const char *option, char **id,
                          GError **error)
{
    return vm_co_open_chardev(text, label, option, true, id, error);
}

static coroutine_fn RUNS_IN_MAIN bool vm_co_add_serial(Vm *vm, const char *text, GError **error)
{
    if (vm->serials->len == VM_MAX_SERIALS) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "-serial: this machine has %d serial ports; "
                    "use -device virtio-serial-pci for more",
                    VM_MAX_SERIALS);
        return false;
    }
    g_autofree char *label = g_strdup_printf("serial%u", vm->serials->len);
    char *id;
    if (!vm_co_open_string(text, label, "serial", &id, error)) {
        return false;
    }
    g_ptr_array_add(vm->serials, id);
    return true;
}

/* Without -serial: the terminal, unless the VM is told to be silent or a command in the guest has
 * it. */
static const char *vm_default_serial(const VmConfig *config)
{
    if (config->exec != NULL) {
        return "null";
    }
    if (config->nographic || (!config->display_none && !config->daemonize)) {
        return "mon:stdio";
    }
    return "null";
}

bool vm_co_make_chardevs(Vm *vm, GError **error)
{
    const VmConfig *config = vm->config;
    chardevs_vm = vm;
    chardev_hold_input(true);
    for (unsigned i = 0; i < config->chardevs->len; i++) {
        g_autoptr(OptDict) opts = opt_dict_parse(config->chardevs->pdata[i], "backend", error);
        if (opts == NULL || !vm_check_chardev(opts, error) ||
            !chardev_co_add(g_steal_pointer(&opts), error)) {
            g_prefix_error(error, "-chardev %s: ", (const char *)config->chardevs->pdata[i]);
            return false;
        }
    }
    for (unsigned i = 0; i < config->serials->len; i++) {
        if (!vm_co_add_serial(vm, config->serials->pdata[i], error)) {
            return false;
        }
    }
    if (config->serials->len == 0 && !vm_co_add_serial(vm, vm_default_serial(config), error)) {
        return false;
    }
    if (config->debugcon != NULL &&
        !vm_co_open_string(config->debugcon, "debugcon", "debugcon", &vm->debugcon, error)) {
        return false;
    }
    return vm_co_make_monitors(vm, error);
}
