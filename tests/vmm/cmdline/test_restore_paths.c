/* SPDX-License-Identifier: Apache-2.0 */
/* Saved paths: each option that takes a text, in the tables of the command line, devices, networks, chardevs and block
 * drivers, either is located in the saved directory, or is listed here as one that is no path. A new one fails here
 * until somebody has decided. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "block/drivers.h"
#include "block/node.h"
#include "hw/chardev/chardev_set.h"
#include "hw/core/device.h"
#include "hw/net/net.h"
#include "hw/net_types.h"
#include "vmm/cmdline/restore_args.h"
#include "vmm/config.h"

/* Options of the command line, of a machine, with neither a path nor keys that have one. */
static const char *const no_options[] = {
    "accel",   "action", "append", "boot", "cpu",  "display",         "global", "m",
    "machine", "name",   "rtc",    "smp",  "uuid", "watchdog-action", NULL};
/* "OPTION KEY", at any type: names, addresses, numbers; programs, with which restore_args_merge() refuses the option. */
static const char *const no_keys[] = {"blockdev bitmap.name",
                                      "blockdev bitmap.node",
                                      "blockdev export",
                                      "blockdev host",
                                      "blockdev port",
                                      "blockdev server.host",
                                      "blockdev server.port",
                                      "blockdev server.str",
                                      "blockdev throttle-group",
                                      "blockdev tls-creds",
                                      "blockdev tls-hostname",
                                      "blockdev x-dirty-bitmap",
                                      "chardev fd",
                                      "chardev host",
                                      "chardev port",
                                      "chardev tls-creds",
                                      "chardev wait",
                                      "device addr",
                                      "device base",
                                      "device chardev",
                                      "device device_id",
                                      "device drive",
                                      "device guid",
                                      "device iothread",
                                      "device iothread-vq-mapping",
                                      "device mac",
                                      "device name",
                                      "device netdev",
                                      "device product",
                                      "device rng",
                                      "device serial",
                                      "device speed",
                                      "device tag",
                                      "device vendor",
                                      "device ver",
                                      "netdev addr.host",
                                      "netdev addr.port",
                                      "netdev addr.str",
                                      "netdev bootfile",
                                      "netdev br",
                                      "netdev chardev",
                                      "netdev connect",
                                      "netdev dhcpstart",
                                      "netdev dns",
                                      "netdev dnssearch",
                                      "netdev domainname",
                                      "netdev downscript",
                                      "netdev fd",
                                      "netdev fds",
                                      "netdev guestfwd",
                                      "netdev helper",
                                      "netdev host",
                                      "netdev hostfwd",
                                      "netdev hostname",
                                      "netdev ifname",
                                      "netdev ipv4",
                                      "netdev ipv6",
                                      "netdev ipv6-dns",
                                      "netdev ipv6-host",
                                      "netdev ipv6-net",
                                      "netdev ipv6-prefix",
                                      "netdev listen",
                                      "netdev local.host",
                                      "netdev local.port",
                                      "netdev local.str",
                                      "netdev localaddr",
                                      "netdev mcast",
                                      "netdev net",
                                      "netdev remote.host",
                                      "netdev remote.port",
                                      "netdev remote.str",
                                      "netdev script",
                                      "netdev smb",
                                      "netdev smbserver",
                                      "netdev tftp-server-name",
                                      "netdev udp",
                                      "netdev vhostfd",
                                      "netdev vhostfds",
                                      "netdev vnet_hdr",
                                      NULL};

static unsigned forgotten, checked;

/* @text has a relative path, "rel", unless @known lists @what. */
static void check(const char *const *known, const char *what, const char *option, const char *text)
{
    g_autofree char *located = restore_args_locate(option, text, "/saved");
    bool is_path = strcmp(located, text) != 0;
    checked++;
    if (is_path == g_strv_contains(known, what)) {
        print_error("\"%s\", -%s %s\n", what, option, text);
        forgotten++;
    } else if (is_path) {
        assert_non_null(strstr(located, "/saved/rel"));
    }
}

static void check_key(const char *option, const char *type, const char *key)
{
    g_autofree char *what = g_strdup_printf("%s %s", option, key);
    g_autofree char *text = g_strdup_printf("%s,id=i,%s=rel", type, key);
    check(no_keys, what, option, text);
}

static void check_specs(const char *option, const char *type, const OptSpec *specs)
{
    for (const OptSpec *s = specs; s != NULL && s->type != OPT_END; s++) {
        if (s->type == OPT_STRING || s->type == OPT_STRLIST || s->type == OPT_DICT) {
            check_key(option, type, s->name);
        }
    }
}

static void none_is_forgotten(void)
{
    assert_int_equal(forgotten, 0);
    assert_true(checked > 0);
    forgotten = checked = 0;
}

static void each_property_of_a_device_is_known(void **state)
{
    for (const DeviceType *const *t = device_type_all(); *t != NULL; t++) {
        check_specs("device", (*t)->name, (*t)->properties);
    }
    none_is_forgotten();
}

static void each_option_of_a_network_is_known(void **state)
{
    for (const NetType *const *t = net_types; *t != NULL; t++) {
        check_specs("netdev", (*t)->name, (*t)->options);
    }
    none_is_forgotten();
}

static void each_option_of_a_block_node_is_known(void **state)
{
    for (const BlockDriver *const *d = block_drivers; *d != NULL; d++) {
        check_specs("blockdev", (*d)->name, (*d)->options);
    }
    none_is_forgotten();
}

/* The lines of a help text; owned. */
static char **lines_of(void (*print)(const char *what, FILE *out), const char *what)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    print(what, out);
    fclose(out);
    char **lines = g_strsplit(text, "\n", 0);
    free(text);
    return lines;
}

static void each_option_of_a_chardev_is_known(void **state)
{
    for (const char *const *name = chardev_backend_names(); *name != NULL; name++) {
        g_auto(GStrv) lines = lines_of(chardev_print_help, *name);
        for (unsigned i = 0; lines[i] != NULL; i++) {
            const char *type = strstr(lines[i], "=<string>");
            if (type != NULL && g_str_has_prefix(lines[i], "  ")) {
                g_autofree char *key = g_strndup(lines[i] + 2, (size_t)(type - lines[i] - 2));
                check_key("chardev", *name, key);
            }
        }
    }
    none_is_forgotten();
}

static void print_options(const char *what, FILE *out)
{
    cmdline_print_help(out);
}

static void each_option_of_the_command_line_is_known(void **state)
{
    static const char *const keyed[] = {"drive",    "fw_cfg", "smbios", "virtiofs",
                                        "chardev",  "device", "netdev", "nic",
                                        "blockdev", "object", NULL};
    g_auto(GStrv) lines = lines_of(print_options, NULL);
    for (unsigned i = 0; lines[i] != NULL; i++) {
        bool has_argument = false, of_process = false;
        g_autofree char *name = g_str_has_prefix(lines[i], "  -")
                                    ? g_strndup(lines[i] + 3, strcspn(lines[i] + 3, " "))
                                    : NULL;
        if (name == NULL) {
            continue;
        }
        assert_true(cmdline_find_kind(name, &has_argument, &of_process));
        bool string = strcmp(name, "serial") == 0 || strcmp(name, "debugcon") == 0;
        if (has_argument && !of_process) {
            check(no_options, name, name,
                  g_strv_contains(keyed, name) ? "file=rel,path=rel,filename=rel"
                  : string                     ? "file:rel"
                                               : "rel");
        }
    }
    none_is_forgotten();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_property_of_a_device_is_known),
        cmocka_unit_test(each_option_of_a_network_is_known),
        cmocka_unit_test(each_option_of_a_block_node_is_known),
        cmocka_unit_test(each_option_of_a_chardev_is_known),
        cmocka_unit_test(each_option_of_the_command_line_is_known),
    };
    return cmocka_run_group_tests_name("vmm/cmdline/restore_paths", tests, NULL, NULL);
}
