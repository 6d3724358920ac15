/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/virtio.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/virtio_regs.h"

#define VENDOR_ID 0x1af4
#define MODERN_DEVICE_ID 0x1040
#define TRANSITIONAL_BLOCK_ID 0x1001

enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };
#define CAP_TYPE 3
#define CAP_BAR 4
#define CAP_OFFSET 8
#define CAP_NOTIFY_MULTIPLIER 16

static bool is_type(const PciDevice *pci, unsigned type)
{
    return pci->vendor_id == VENDOR_ID &&
           (pci->device_id == MODERN_DEVICE_ID + type ||
            (type == VIRTIO_TYPE_BLOCK && pci->device_id == TRANSITIONAL_BLOCK_ID));
}

/* Finds each structure; of several of a type the first is used (virtio 1.2 §4.1.4.1). */
static void read_capabilities(VirtioDevice *dev)
{
    uint16_t cap = pci_find_capability(dev->pci, PCI_CAP_VENDOR, 0);
    for (; cap; cap = pci_find_capability(dev->pci, PCI_CAP_VENDOR, cap)) {
        uint8_t bar = pci_read8(dev->pci, cap + CAP_BAR);
        uint64_t base = bar < PCI_MAX_BARS ? pci_bar(dev->pci, bar) : 0;
        if (!base) {
            continue;
        }
        uint64_t gpa = base + pci_read32(dev->pci, cap + CAP_OFFSET);
        uint8_t type = pci_read8(dev->pci, cap + CAP_TYPE);
        if (type == CAP_COMMON && !dev->common_gpa) {
            dev->common_gpa = gpa;
        } else if (type == CAP_NOTIFY && !dev->notify_gpa) {
            dev->notify_gpa = gpa;
            dev->notify_multiplier = pci_read32(dev->pci, cap + CAP_NOTIFY_MULTIPLIER);
        } else if (type == CAP_ISR && !dev->isr_gpa) {
            dev->isr_gpa = gpa;
        } else if (type == CAP_DEVICE && !dev->config_gpa) {
            dev->config_gpa = gpa;
        }
    }
}

unsigned virtio_type(const PciDevice *pci)
{
    bool modern = pci->vendor_id == VENDOR_ID && pci->device_id > MODERN_DEVICE_ID;
    return modern ? pci->device_id - MODERN_DEVICE_ID : 0;
}

void virtio_attach(VirtioDevice *dev, PciDevice *pci)
{
    *dev = (VirtioDevice){.pci = pci};
    pci_enable(pci);
    read_capabilities(dev);
    bool has_config = dev->config_gpa || virtio_type(pci) == VIRTIO_TYPE_RANDOM;
    if (!dev->common_gpa || !dev->notify_gpa || !dev->isr_gpa || !has_config) {
        guest_refuse(EXIT_MISSING, "virtio device %02x:%02x.%u has no modern interface", pci->bus,
                     pci->slot, pci->func);
    }
    virtio_reset(dev);
    dev->queue_count = mmio_read16(dev->common_gpa + COMMON_QUEUE_COUNT);
}

bool virtio_find(VirtioDevice *dev, unsigned type, unsigned nth)
{
    unsigned count = pci_scan();
    for (unsigned i = 0; i < count; i++) {
        if (is_type(pci_device(i), type) && nth-- == 0) {
            virtio_attach(dev, pci_device(i));
            return true;
        }
    }
    return false;
}

uint8_t virtio_status(const VirtioDevice *dev)
{
    return mmio_read8(dev->common_gpa + COMMON_STATUS);
}

static void set_status(const VirtioDevice *dev, uint8_t status)
{
    mmio_write8(dev->common_gpa + COMMON_STATUS, status);
}

void virtio_reset(VirtioDevice *dev)
{
    set_status(dev, 0);
    while (virtio_status(dev) != 0) {
        cpu_pause();
    }
}

static uint32_t read_features(const VirtioDevice *dev, uint32_t half)
{
    mmio_write32(dev->common_gpa + COMMON_DEVICE_FEATURE_SELECT, half);
    return mmio_read32(dev->common_gpa + COMMON_DEVICE_FEATURE);
}

static void write_features(const VirtioDevice *dev, uint32_t half, uint32_t features)
{
    mmio_write32(dev->common_gpa + COMMON_DRIVER_FEATURE_SELECT, half);
    mmio_write32(dev->common_gpa + COMMON_DRIVER_FEATURE, features);
}

void virtio_negotiate(VirtioDevice *dev, uint64_t wanted)
{
    set_status(dev, STATUS_ACKNOWLEDGE);
    set_status(dev, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    dev->offered = read_features(dev, 0) | (uint64_t)read_features(dev, 1) << 32;
    dev->features = dev->offered & (wanted | VIRTIO_F_VERSION_1);
    if (!(dev->features & VIRTIO_F_VERSION_1)) {
        guest_refuse(EXIT_MISSING, "virtio device offers no VERSION_1: 0x%lx", dev->offered);
    }
    write_features(dev, 0, (uint32_t)dev->features);
    write_features(dev, 1, (uint32_t)(dev->features >> 32));
    set_status(dev, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    if (!(virtio_status(dev) & STATUS_FEATURES_OK)) {
        guest_fail("virtio device refuses features 0x%lx of 0x%lx", dev->features, dev->offered);
    }
}

void virtio_go(VirtioDevice *dev)
{
    set_status(dev, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
}

uint8_t virtio_read_isr(const VirtioDevice *dev)
{
    return mmio_read8(dev->isr_gpa);
}

uint8_t virtio_config8(const VirtioDevice *dev, unsigned offset)
{
    return mmio_read8(dev->config_gpa + offset);
}

uint16_t virtio_config16(const VirtioDevice *dev, unsigned offset)
{
    return mmio_read16(dev->config_gpa + offset);
}

uint32_t virtio_config32(const VirtioDevice *dev, unsigned offset)
{
    return mmio_read32(dev->config_gpa + offset);
}

uint64_t virtio_config64(const VirtioDevice *dev, unsigned offset)
{
    uint64_t value;
    uint8_t before, after;
    do {
        before = mmio_read8(dev->common_gpa + COMMON_GENERATION);
        value = virtio_config32(dev, offset);
        value |= (uint64_t)virtio_config32(dev, offset + 4) << 32;
        after = mmio_read8(dev->common_gpa + COMMON_GENERATION);
    } while (before != after);
    return value;
}
