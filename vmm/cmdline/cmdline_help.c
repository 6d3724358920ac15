/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include "block/block.h"
#include "hw/core/device.h"
#include "util/trace.h"
#include "hw/chardev/chardev_set.h"
#include "hw/net_types.h"
#include "vmm/cmdline/cmdline_int.h"
#include "vmm/arch/arch.h"

static bool help_accelerators(GError **error)
{
    fputs("Accelerators supported:\nkvm\n", stdout);
    return true;
}

static bool help_machines(GError **error)
{
    printf("q35    lean q35: PCIe, ACPI, virtio (the only machine, and the default)\n");
    return true;
}

static bool help_devices(GError **error)
{
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        const char *alias = device_type_alias((*t)->name);
        if ((*t)->user_creatable) {
            printf("%-24s %s%s%s%s\n", (*t)->name, (*t)->description,
                   alias != NULL ? " (also " : "", alias != NULL ? alias : "",
                   alias != NULL ? ")" : "");
        }
    }
    return true;
}

static bool help_device(const char *value, GError **error)
{
    g_autofree char *name = g_strndup(value, strcspn(value, ","));
    const DeviceType *type = device_type_find(name);
    if (type == NULL || !type->user_creatable) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_UNKNOWN,
                    "-device: skiff has no device '%s'; '-device help' lists them", name);
        return false;
    }
    printf("%s: %s\n", type->name, type->description);
    if (type->properties != NULL) {
        opts_print_help(type->properties, stdout);
    }
    return true;
}

static bool help_cpu(GError **error)
{
    arch_print_cpu_help(stdout);
    return true;
}

static void help_print_event(const TraceEvent *event, void *opaque)
{
    printf("%s\n", event->name);
}

static bool help_trace(GError **error)
{
    trace_foreach(help_print_event, NULL);
    return true;
}

static bool help_block_drivers(GError **error)
{
    for (const char *const *name = block_driver_names(); *name != NULL; name++) {
        printf("%s\n", *name);
    }
    return true;
}

static bool help_objects(GError **error)
{
    printf("iothread               a thread that serves devices: id=, poll-max-ns=\n"
           "memory-backend-memfd   guest memory in a memfd: id=, size=, share=on\n"
           "memory-backend-ram     anonymous guest memory: id=, size=\n"
           "rng-builtin            random bytes of the host's kernel: id=\n"
           "rng-random             random bytes of a file: id=, filename=\n"
           "tls-creds-anon         TLS without certificates: id=, endpoint=server|client\n"
           "tls-creds-psk          TLS with keys: id=, dir=, endpoint=, username=\n"
           "tls-creds-x509         TLS with certificates: id=, dir=, endpoint=, verify-peer=\n"
           "throttle-group         limits that disks share: id=, limits.bps-total= and others\n");
    return true;
}

static bool help_chardevs(GError **error)
{
    chardev_print_help(NULL, stdout);
    return true;
}

static bool help_chardev(const char *value, GError **error)
{
    g_autofree char *name = g_strndup(value, strcspn(value, ","));
    chardev_print_help(name, stdout);
    return true;
}

static bool help_netdevs(GError **error)
{
    net_print_help(net_types, NULL, stdout);
    return true;
}

static bool help_netdev(const char *value, GError **error)
{
    g_autofree char *name = g_strndup(value, strcspn(value, ","));
    net_print_help(net_types, name, stdout);
    return true;
}

static const struct HelpList {
    const char *option;
    bool (*answer)(GError **error);
    bool (*answer_one)(const char *value, GError **error); /* "name,help"; NULL: has none */
} help_lists[] = {
    {"-accel", help_accelerators, NULL},
    {"-machine", help_machines, NULL},
    {"-M", help_machines, NULL},
    {"-device", help_devices, help_device},
    {"-chardev", help_chardevs, help_chardev},
    {"-cpu", help_cpu, NULL},
    {"-trace", help_trace, NULL},
    {"-blockdev", help_block_drivers, NULL},
    {"-object", help_objects, NULL},
    {"-netdev", help_netdevs, help_netdev},
    {"-nic", help_netdevs, help_netdev},
};

static const struct HelpList *help_list_find(const char *option)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(help_lists); i++) {
        if (strcmp(option, help_lists[i].option) == 0) {
            return &help_lists[i];
        }
    }
    return NULL;
}

static bool help_is_about_one(const struct HelpList *list, const char *value)
{
    return list->answer_one != NULL && g_str_has_suffix(value, ",help");
}

bool cmdline_is_help_request(const char *option, const char *value)
{
    const struct HelpList *list = help_list_find(option);
    return list != NULL && (strcmp(value, "help") == 0 || strcmp(value, "?") == 0 ||
                            help_is_about_one(list, value));
}

bool cmdline_answer_help(const char *name, const char *value, GError **error)
{
    g_autofree char *option = g_strconcat("-", name, NULL);
    const struct HelpList *list = help_list_find(option);
    if (list == NULL) {
        return false;
    }
    return help_is_about_one(list, value) ? list->answer_one(value, error) : list->answer(error);
}
