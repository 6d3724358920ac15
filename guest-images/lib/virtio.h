/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Modern virtio over PCI: finding the device, its status, features and configuration. The queues
 * are in virtqueue.h. Boot CPU only. Source: virtio 1.2 §3.1, §4.1.
 *
 *   virtio_find -> virtio_negotiate -> virtqueue_setup for each queue -> virtio_go
 */
#ifndef LIB_VIRTIO_H
#define LIB_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/pci.h"

#define VIRTIO_TYPE_NET 1
#define VIRTIO_TYPE_BLOCK 2
#define VIRTIO_TYPE_SERIAL 3
#define VIRTIO_TYPE_RANDOM 4
#define VIRTIO_TYPE_SCSI 8

#define VIRTIO_F_INDIRECT_DESC (1ull << 28)
#define VIRTIO_F_EVENT_IDX (1ull << 29)
#define VIRTIO_F_VERSION_1 (1ull << 32)
#define VIRTIO_NO_VECTOR 0xffff

typedef struct VirtioDevice {
    PciDevice *pci;
    uint64_t common_gpa, notify_gpa, isr_gpa;
    uint64_t config_gpa; /* 0: no device configuration */
    uint32_t notify_multiplier;
    uint64_t offered, features; /* features: the negotiated ones */
    uint16_t queue_count;       /* as many as the device has */
} VirtioDevice;

/* The @nth (from 0) device of @type with a modern interface, enabled and reset. */
bool virtio_find(VirtioDevice *dev, unsigned type, unsigned nth);

/* VIRTIO_TYPE_* of a modern device, else 0. */
unsigned virtio_type(const PciDevice *pci);
/* Attaches to @pci, a virtio device with a modern interface: enables and resets it. */
void virtio_attach(VirtioDevice *dev, PciDevice *pci);

/* Accepts the features that are both offered and @wanted; requires VERSION_1. Ends the guest if the
 * device refuses. */
void virtio_negotiate(VirtioDevice *dev, uint64_t wanted);

/* Sets DRIVER_OK. */
void virtio_go(VirtioDevice *dev);

/* Resets the device and waits for the end of the reset. */
void virtio_reset(VirtioDevice *dev);

uint8_t virtio_status(const VirtioDevice *dev);

/* Reads and clears the interrupt status; for INTx. Any CPU. */
uint8_t virtio_read_isr(const VirtioDevice *dev);

uint8_t virtio_config8(const VirtioDevice *dev, unsigned offset);
uint16_t virtio_config16(const VirtioDevice *dev, unsigned offset);
uint32_t virtio_config32(const VirtioDevice *dev, unsigned offset);
/* Reads both halves from the same configuration generation. */
uint64_t virtio_config64(const VirtioDevice *dev, unsigned offset);

#endif
