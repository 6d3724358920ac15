/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/boot_order.h"

#include <string.h>

#define BOOT_DEFAULT_DRIVES "cad" /* as QEMU on a PC */

static bool boot_order_lists(const Device *dev)
{
    return dev->bootindex != DEVICE_NO_BOOTINDEX && dev->type->firmware_path != NULL;
}

static int boot_order_compare(const void *a, const void *b)
{
    const Device *x = *(Device *const *)a, *y = *(Device *const *)b;
    return x->bootindex < y->bootindex ? -1 : x->bootindex > y->bootindex;
}

static void boot_order_put_path(const Device *dev, GString *path)
{
    bool is_pci = strcmp(dev->type->bus, "pci") == 0;
    const Device *function = is_pci ? dev : dev->bus_device;
    pci_device_firmware_path((const PciDevice *)function, path);
    dev->type->firmware_path(dev, path);
}

char *machine_boot_order(const VmMachine *m)
{
    g_autoptr(GPtrArray) devices = g_ptr_array_new();
    for (unsigned i = 0; i < m->devices->len; i++) {
        if (boot_order_lists(m->devices->pdata[i])) {
            g_ptr_array_add(devices, m->devices->pdata[i]);
        }
    }
    if (devices->len == 0) {
        return NULL;
    }
    g_ptr_array_sort(devices, boot_order_compare);
    GString *list = g_string_new(NULL);
    for (unsigned i = 0; i < devices->len; i++) {
        g_string_append(list, i > 0 ? "\n" : "");
        boot_order_put_path(devices->pdata[i], list);
    }
    if (m->config->boot.strict) {
        g_string_append(list, "\nHALT");
    }
    return g_string_free(list, FALSE);
}

const char *machine_boot_drives(const VmMachine *m, bool first)
{
    const BootConfig *boot = &m->config->boot;
    if (first && boot->once != NULL) {
        return boot->once;
    }
    return boot->order != NULL ? boot->order : BOOT_DEFAULT_DRIVES;
}

bool machine_check_bootindex(const VmMachine *m, const Device *dev, GError **error)
{
    for (unsigned i = 0; dev->bootindex != DEVICE_NO_BOOTINDEX && i < m->devices->len; i++) {
        const Device *other = m->devices->pdata[i];
        if (other->bootindex == dev->bootindex) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_DUPLICATE,
                        "The bootindex %u has already been used, by %s", dev->bootindex,
                        device_label(other));
            return false;
        }
    }
    return true;
}
