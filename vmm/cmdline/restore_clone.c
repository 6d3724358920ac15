/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cmdline/restore_clone.h"

#include <string.h>
#include "hw/chardev/chardev_set.h"
#include "hw/core/device.h"
#include "hw/firmware/vmgenid.h"
#include "vmm/cmdline/restore_args.h"

#define CLONE_VSOCK_TYPE "vhost-vsock-pci"
#define CLONE_FIRST_CID 3 /* of a guest */

/* ---- -clone ---- */

static const char *const clone_macs[] = {"same", "random", NULL};

static const OptSpec clone_specs[] = {
    OPT_SPEC(CloneOptions, "file", OPT_STRING, file, .required = true, .help = "the saved machine"),
    OPT_SPEC(CloneOptions, "mac", OPT_ENUM, mac, .names = clone_macs, .def = "same",
             .help = "the MAC addresses of the NICs"),
    OPT_SPEC(CloneOptions, "cid", OPT_U64, cid, .def = "0", .max = UINT32_MAX - 1,
             .help = "the CID of the vsock device"),
    {0},
};

bool clone_options_parse(CloneOptions *c, const char *value, GError **error)
{
    g_autoptr(OptDict) d = opt_dict_parse(value, "file", error);
    *c = (CloneOptions){0};
    opts_init(clone_specs, c);
    if (d == NULL || !opts_bind(clone_specs, c, d, "-clone", error)) {
        return false;
    }
    if (c->file[0] == '\0' || (c->cid != 0 && c->cid < CLONE_FIRST_CID)) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    c->file[0] == '\0' ? "-clone: needs the name of a file"
                                       : "-clone: cid: a guest's is %d or more",
                    CLONE_FIRST_CID);
        clone_options_clear(c);
        return false;
    }
    return true;
}

void clone_options_clear(CloneOptions *c)
{
    opts_clear(clone_specs, c);
}

/* ---- chardevs ---- */

/* Whether only one process can have it, or whether it belongs to somebody else there. */
static bool change_is_taken(const RestoreChanges *c, const OptDict *chardev)
{
    static const char *const single[] = {"file", "pty", NULL};
    const char *backend = opt_dict_get(chardev, "backend");
    const char *server = opt_dict_get(chardev, "server");
    bool listens = false;
    if (backend == NULL) {
        return false;
    }
    if (c->exec && strcmp(backend, "stdio") == 0) {
        return true;
    }
    if (server != NULL && !opt_parse_bool(server, &listens, NULL)) {
        listens = true; /* the option's own handler would have refused it */
    }
    return c->clone &&
           (g_strv_contains(single, backend) || (strcmp(backend, "socket") == 0 && listens));
}

/* Whether @word of an option says where and how output is logged. */
static bool change_is_log(const char *word, size_t size)
{
    static const char *const keys[] = {"logfile", "logappend", "logtimestamp", NULL};
    g_autofree char *key = g_strndup(word, size);
    key[strcspn(key, "=")] = '\0';
    return g_strv_contains(keys, key);
}

/* @value without logfile=, which each clone would empty, and what needs it. */
static char *change_drop_log(const RestoreChanges *c, const char *value)
{
    GString *out = g_string_new(NULL);
    if (!c->clone) {
        return g_string_free(g_string_append(out, value), FALSE);
    }
    for (const char *at = value;;) {
        const char *end = restore_word_end(at);
        if (!change_is_log(at, (size_t)(end - at))) {
            g_string_append_printf(out, "%s%.*s", out->len > 0 ? "," : "", (int)(end - at), at);
        }
        if (*end == '\0') {
            return g_string_free(out, FALSE);
        }
        at = end + 1;
    }
}

/* -serial, -debugcon. */
static char *change_chardev_string(const RestoreChanges *c, const char *value)
{
    ChardevString s;
    if (!chardev_string_parse(&s, value, "saved", NULL)) {
        return g_strdup(value); /* the option's own handler says what is wrong */
    }
    bool taken = s.opts != NULL && change_is_taken(c, s.opts);
    chardev_string_clear(&s);
    return taken ? g_strdup("null") : change_drop_log(c, value);
}

static void change_append_key(const char *key, const char *value, void *opaque)
{
    GString *out = opaque;
    g_auto(GStrv) parts = g_strsplit(value, ",", 0);
    g_autofree char *escaped = g_strjoinv(",,", parts);
    g_string_append_printf(out, "%s%s=%s", out->len > 0 ? "," : "", key, escaped);
}

/* A chardev that stays, of any form. */
static char *change_chardev_log(const RestoreChanges *c, const OptDict *d, const char *value)
{
    if (value[0] != '{' || !c->clone) {
        return change_drop_log(c, value);
    }
    GString *out = g_string_new(NULL);
    opt_dict_foreach(d, change_append_key, out);
    g_autofree char *plain = g_string_free(out, FALSE);
    return change_drop_log(c, plain);
}

/* -chardev: with the same id, and for as many users. */
static char *change_chardev(const RestoreChanges *c, const char *value)
{
    g_autoptr(OptDict) d = opt_dict_parse(value, "backend", NULL);
    const char *id = d != NULL ? opt_dict_get(d, "id") : NULL;
    if (id == NULL) {
        return g_strdup(value);
    }
    if (!change_is_taken(c, d)) {
        return change_chardev_log(c, d, value);
    }
    const char *mux = opt_dict_get(d, "mux");
    return g_strdup_printf("null,id=%s%s%s", id, mux != NULL ? ",mux=" : "",
                           mux != NULL ? mux : "");
}

/* ---- networks ---- */

static void change_find_binding(const char *key, const char *value, void *opaque)
{
    bool *found = opaque;
    *found |= g_str_has_prefix(key, "hostfwd") || strcmp(key, "listen") == 0 ||
              g_str_has_prefix(key, "local.") || strcmp(key, "localaddr") == 0 ||
              strcmp(key, "udp") == 0 || (strcmp(key, "server") == 0 && strcmp(value, "off") != 0);
}

static char *change_network(const RestoreChanges *c, const ConfigOption *o, GError **error)
{
    bool found = false;
    g_autoptr(OptDict) d = c->clone ? opt_dict_parse(o->value, "type", NULL) : NULL;
    if (d != NULL) {
        opt_dict_foreach(d, change_find_binding, &found);
    }
    if (!found) {
        return g_strdup(o->value);
    }
    g_autofree char *shown = opt_excerpt(o->value);
    g_set_error(
        error, OPT_ERROR, OPT_ERROR_VALUE,
        "the saved option -%s %s binds a port or path of the host, which only one machine can "
        "have: give -%s anew%s, with another one or without",
        o->name, shown, o->name, strcmp(o->name, "netdev") == 0 ? " with the same id" : "");
    return NULL;
}

/* ---- devices ---- */

/* NULL + error: what the device stores is in another process, which every clone would write to. */
static char *change_outside(const ConfigOption *o, GError **error)
{
    g_autofree char *shown = opt_excerpt(o->value);
    bool folder = strcmp(o->name, "virtiofs") == 0;
    g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                "the saved option -%s %s has its data in another process, which cannot make it "
                "private to a clone: give -%s anew%s",
                o->name, shown, o->name,
                folder ? ", with a folder that the clone may have"
                       : " with the same id, and its -chardev, with a back end of the clone's own");
    return NULL;
}

static char *change_folder(const RestoreChanges *c, const ConfigOption *o, GError **error)
{
    return c->clone ? change_outside(o, error) : g_strdup(o->value);
}

static char *change_device(RestoreChanges *c, const ConfigOption *o, GError **error)
{
    const char *value = o->value;
    g_autoptr(OptDict) d = c->clone ? opt_dict_parse(value, "driver", NULL) : NULL;
    const char *driver = d != NULL ? opt_dict_get(d, "driver") : NULL;
    const DeviceType *type = driver != NULL ? device_type_find(driver) : NULL;
    if (type != NULL && type->data_outside) {
        return change_outside(o, error);
    }
    if (g_strcmp0(driver, VMGENID_TYPE) == 0) {
        opt_dict_set(d, "guid", "auto");
    } else if (g_strcmp0(driver, CLONE_VSOCK_TYPE) == 0 && c->cid != 0 && !c->has_cid) {
        g_autofree char *cid = g_strdup_printf("%" G_GUINT64_FORMAT, c->cid);
        opt_dict_set(d, "guest-cid", cid);
        c->has_cid = true;
    } else {
        return g_strdup(value);
    }
    GString *out = g_string_new(NULL);
    opt_dict_foreach(d, change_append_key, out);
    return g_string_free(out, FALSE);
}

char *restore_change_option(RestoreChanges *c, const ConfigOption *o, GError **error)
{
    if (o->value == NULL) {
        return NULL;
    }
    if (strcmp(o->name, "serial") == 0 || strcmp(o->name, "debugcon") == 0) {
        return change_chardev_string(c, o->value);
    }
    if (strcmp(o->name, "chardev") == 0) {
        return change_chardev(c, o->value);
    }
    if (strcmp(o->name, "netdev") == 0 || strcmp(o->name, "nic") == 0) {
        return change_network(c, o, error);
    }
    if (strcmp(o->name, "device") == 0) {
        return change_device(c, o, error);
    }
    if (strcmp(o->name, "virtiofs") == 0) {
        return change_folder(c, o, error);
    }
    return g_strdup(o->value);
}
