/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/snapshot/machine_addresses.h"

#include <string.h>
#include "hw/pci/pci.h"

#define ADDRESSES_TEXT "addresses"

static bool addresses_is_pci(const Device *dev)
{
    return g_strcmp0(dev->type->bus, "pci") == 0;
}

/* The address of @dev; NULL: it is on a bus that gives none. The caller owns it. */
static RUNS_IN_MAIN char *addresses_of(const Device *dev)
{
    const Device *function = addresses_is_pci(dev) ? dev : dev->bus_device;
    if (function == NULL || !addresses_is_pci(function) ||
        (function != dev && dev->type->firmware_path == NULL)) {
        return NULL;
    }
    GString *path = g_string_new(NULL);
    pci_device_firmware_path((const PciDevice *)function, path);
    if (function != dev) {
        dev->type->firmware_path(dev, path);
    }
    return g_string_free(path, FALSE);
}

bool machine_addresses_write(const GPtrArray *devices, StateWriter *w, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    for (unsigned i = 0; i < devices->len; i++) {
        const Device *dev = devices->pdata[i];
        g_autofree char *address = addresses_of(dev);
        if (address != NULL) {
            g_string_append_printf(text, "%s%s=%s", text->len > 0 ? " " : "", dev->path, address);
        }
    }
    return state_writer_text(w, ADDRESSES_TEXT, text->str, error);
}

static RUNS_IN_MAIN const Device *addresses_find(const GPtrArray *devices, const char *path)
{
    for (unsigned i = 0; i < devices->len; i++) {
        const Device *dev = devices->pdata[i];
        if (strcmp(dev->path, path) == 0) {
            return dev;
        }
    }
    return NULL;
}

static RUNS_IN_MAIN bool addresses_check_one(const GPtrArray *devices, char *entry, GError **error)
{
    char *saved = strchr(entry, '=');
    g_autofree char *shown = opt_excerpt(saved != NULL ? saved + 1 : entry);
    if (saved == NULL) {
        g_set_error(error, STATE_ERROR, STATE_ERROR_FORMAT,
                    "the saved machine has an address that is none: '%s'", shown);
        return false;
    }
    *saved++ = '\0';
    const Device *dev = addresses_find(devices, entry);
    g_autofree char *address = dev != NULL ? addresses_of(dev) : NULL;
    if (dev == NULL || g_strcmp0(address, saved) == 0) {
        return true;
    }
    g_set_error(error, STATE_ERROR, STATE_ERROR_MACHINE,
                "device '%s' was at %s when the machine was saved, and is at %s: give its place "
                "(addr=; scsi-id= and lun= of a SCSI disk)",
                device_label(dev), shown, address != NULL ? address : "no address");
    return false;
}

bool machine_addresses_check(const GPtrArray *devices, const StateStream *s, GError **error)
{
    const char *text = state_stream_text(s, ADDRESSES_TEXT);
    g_auto(GStrv) entries = g_strsplit(text != NULL ? text : "", " ", -1);
    for (unsigned i = 0; entries[i] != NULL; i++) {
        if (!addresses_check_one(devices, entries[i], error)) {
            return false;
        }
    }
    return true;
}
