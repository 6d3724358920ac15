/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI transport of virtio 1.2 §4.1, modern only (device IDs 0x1040 + type).
 *
 * A device type embeds VirtioPci first. Its realize sets vdev's config (home, features, queues, ops
 * and state) and calls virtio_pci_realize(). A DeviceType uses the other life cycle functions
 * directly. BAR 4 (64-bit) holds the registers, BAR 1 MSI-X:
 *
 *   0x0000  common configuration      §4.1.4.3     } accesses are pended while a reset drains
 *   0x1000  ISR status                §4.1.4.5
 *   0x2000  device configuration      §4.1.4.6     } the same
 *   0x3000  doorbells, 4 bytes each   §4.1.4.4     ioeventfd; the register is the slow path
 */
#ifndef SKIFF_HW_VIRTIO_VIRTIO_PCI_H
#define SKIFF_HW_VIRTIO_VIRTIO_PCI_H

#include "hw/pci/pci.h"
#include "hw/virtio/virtio.h"

#define VIRTIO_PCI_VENDOR 0x1af4
#define VIRTIO_PCI_DEVICE_BASE 0x1040
#define VIRTIO_PCI_BAR 4
#define VIRTIO_PCI_MSIX_BAR 1
#define VIRTIO_PCI_BAR_SIZE 0x4000
#define VIRTIO_PCI_COMMON 0x0000
#define VIRTIO_PCI_ISR 0x1000
#define VIRTIO_PCI_DEVICE 0x2000
#define VIRTIO_PCI_NOTIFY 0x3000
#define VIRTIO_PCI_NOTIFY_MULTIPLIER 4

/* struct virtio_pci_common_cfg, §4.1.4.3: offsets of its fields. */
enum {
    VIRTIO_COMMON_DEVICE_FEATURE_SELECT = 0,
    VIRTIO_COMMON_DEVICE_FEATURE = 4,
    VIRTIO_COMMON_DRIVER_FEATURE_SELECT = 8,
    VIRTIO_COMMON_DRIVER_FEATURE = 12,
    VIRTIO_COMMON_CONFIG_VECTOR = 16,
    VIRTIO_COMMON_NUM_QUEUES = 18,
    VIRTIO_COMMON_STATUS = 20,
    VIRTIO_COMMON_GENERATION = 21,
    VIRTIO_COMMON_QUEUE_SELECT = 22,
    VIRTIO_COMMON_QUEUE_SIZE = 24,
    VIRTIO_COMMON_QUEUE_VECTOR = 26,
    VIRTIO_COMMON_QUEUE_ENABLE = 28,
    VIRTIO_COMMON_QUEUE_NOTIFY_OFF = 30,
    VIRTIO_COMMON_QUEUE_DESC = 32,
    VIRTIO_COMMON_QUEUE_DRIVER = 40,
    VIRTIO_COMMON_QUEUE_DEVICE = 48,
    VIRTIO_COMMON_SIZE = 56,
};

/* cfg_type of the vendor capabilities, §4.1.4. */
enum {
    VIRTIO_PCI_CAP_COMMON = 1,
    VIRTIO_PCI_CAP_NOTIFY = 2,
    VIRTIO_PCI_CAP_ISR = 3,
    VIRTIO_PCI_CAP_DEVICE = 4,
    VIRTIO_PCI_CAP_PCI = 5,
};

enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 };

typedef struct VirtioPci {
    PciDevice pci;
    VirtioDevice vdev;
    /* config: properties */
    uint32_t vectors;
    int disable_legacy;
    bool disable_modern, packed, iommu_platform;
    bool event_idx, indirect_desc;
    /* config: fixed at realize */
    uint32_t class_code;
    /* runtime */
    IoRegion region;
    uint8_t window_cap;  /* the PCI configuration access capability */
    uint64_t doorbells;  /* bit n: the machine has queue n's doorbell */
    uint64_t notify_gpa; /* the GPA of the doorbells */
} VirtioPci;

extern const char *const virtio_pci_disable_legacy_names[];

/* Rows for a device's table of properties; @T is the device's struct, @m its VirtioPci, @n the
 * default number of vectors ("128": one for each queue). */
#define VIRTIO_PCI_PROPERTIES(T, m, n)                                                             \
    PCI_DEVICE_PROPERTIES, PCI_DEVICE_ROM_PROPERTIES,                                              \
        OPT_SPEC(T, "vectors", OPT_U32, m.vectors, .def = n, .max = 128,                           \
                 .help = "maximum number of MSI-X vectors; 0: none"),                              \
        DEVICE_BOOTINDEX_PROPERTY,                                                                 \
        OPT_SPEC(T, "event_idx", OPT_BOOL, m.event_idx, .def = "on",                               \
                 .help = "offer VIRTIO_F_EVENT_IDX"),                                              \
        OPT_SPEC(T, "indirect_desc", OPT_BOOL, m.indirect_desc, .def = "on",                       \
                 .help = "offer VIRTIO_F_INDIRECT_DESC"),                                          \
        OPT_SPEC(T, "disable-legacy", OPT_ENUM, m.disable_legacy, .def = "on",                     \
                 .names = virtio_pci_disable_legacy_names, .help = "always on: modern only"),      \
        OPT_SPEC(T, "disable-modern", OPT_BOOL, m.disable_modern, .def = "off",                    \
                 .help = "always off: modern only"),                                               \
        OPT_SPEC(T, "packed", OPT_BOOL, m.packed, .def = "off",                                    \
                 .help = "always off: split queues only"),                                         \
        OPT_SPEC(T, "iommu_platform", OPT_BOOL, m.iommu_platform, .def = "off",                    \
                 .help = "always off: no guest IOMMU")

/* Builds the queues and plugs the device into its bus. A failed realize releases everything. */
bool virtio_pci_realize(VirtioPci *p, GError **error) RUNS_IN_MAIN;
void virtio_pci_unrealize(VirtioPci *p) RUNS_IN_MAIN;

/* For use in a DeviceType: @dev begins with a VirtioPci. */
void virtio_pci_reset(Device *dev);
bool virtio_pci_co_start(Device *dev, GError **error);
void virtio_pci_co_stop(Device *dev);
void virtio_pci_pre_save(Device *dev);
/* Also of a device type with checks of its own, which begins its state with a VirtioState. */
bool virtio_pci_check_state(const Device *dev, const void *state, GError **error);
bool virtio_pci_post_load(Device *dev, GError **error);

/* In virtio_pci_common.c: the common configuration structure. @offset lies inside it. */
uint32_t virtio_pci_common_read(VirtioPci *p, unsigned offset, unsigned size) BQL_HELD;
void virtio_pci_common_write(VirtioPci *p, unsigned offset, unsigned size, uint32_t value) BQL_HELD;

#endif
