/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/core/device.h"

#include <string.h>

/* The name of each type's `const DeviceType`, in the order -device help lists them: one row per
 * line, which clang-format would undo. */
/* clang-format off */
#define DEVICE_TYPES(ROW)                                                                          \
    ROW(pci_host_type)                                                                             \
    ROW(lpc_type)                                                                                  \
    ROW(serial_type)                                                                               \
    ROW(rtc_type)                                                                                  \
    ROW(i8042_type)                                                                                \
    ROW(post_port_type)                                                                            \
    ROW(fw_cfg_type)                                                                               \
    ROW(vmgenid_type)                                                                              \
    ROW(vmcoreinfo_type)                                                                           \
    ROW(debug_exit_type)                                                                           \
    ROW(debugcon_type)                                                                             \
    ROW(pc_testdev_type)                                                                           \
    ROW(pvpanic_type)                                                                              \
    ROW(pflash_type)                                                                               \
    ROW(pci_root_port_type)                                                                        \
    ROW(i6300esb_type)                                                                             \
    ROW(virtio_blk_pci_type)                                                                       \
    ROW(virtio_rng_pci_type)                                                                       \
    ROW(virtio_balloon_pci_type)                                                                   \
    ROW(virtio_serial_pci_type)                                                                    \
    ROW(virtconsole_type)                                                                          \
    ROW(virtserialport_type)                                                                       \
    ROW(virtio_vsock_pci_type)                                                                     \
    ROW(virtio_scsi_pci_type)                                                                      \
    ROW(virtio_net_pci_type)                                                                       \
    ROW(scsi_hd_type)                                                                              \
    ROW(scsi_cd_type)                                                                              \
    ROW(vhost_user_fs_pci_type)                                                                    \
    ROW(vhost_user_blk_pci_type)
/* clang-format on */

#define DEVICE_TYPE_DECLARE(type) extern const DeviceType type;
#define DEVICE_TYPE_ENTRY(type) &type,

DEVICE_TYPES(DEVICE_TYPE_DECLARE)

static const DeviceType *const device_types[] = {DEVICE_TYPES(DEVICE_TYPE_ENTRY) NULL};

/* QEMU's aliases of its PCI devices on a PC. */
static const struct {
    const char *alias, *name;
} device_aliases[] = {
    /* clang-format off */
    {"virtio-balloon", "virtio-balloon-pci"},
    {"virtio-blk", "virtio-blk-pci"},
    {"virtio-net", "virtio-net-pci"},
    {"virtio-rng", "virtio-rng-pci"},
    {"virtio-scsi", "virtio-scsi-pci"},
    {"virtio-serial", "virtio-serial-pci"},
    /* clang-format on */
};

const char *device_type_alias(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(device_aliases); i++) {
        if (strcmp(device_aliases[i].name, name) == 0) {
            return device_aliases[i].alias;
        }
    }
    return NULL;
}

static const char *device_resolve_alias(const char *name)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(device_aliases); i++) {
        if (strcmp(device_aliases[i].alias, name) == 0) {
            return device_aliases[i].name;
        }
    }
    return name;
}

const DeviceType *device_type_find(const char *name)
{
    name = device_resolve_alias(name);
    for (unsigned i = 0; device_types[i] != NULL; i++) {
        if (strcmp(device_types[i]->name, name) == 0) {
            return device_types[i];
        }
    }
    return NULL;
}

const DeviceType *const *device_type_all(void)
{
    return device_types;
}
