/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one root bus (00), config space, BARs, INTx, MSI-X.
 *
 * Config accesses (CF8/CFC and ECAM) come from vCPUs under the BQL. BARs are mapped and moved as
 * the guest writes them; a BAR whose window leaves the bridge's windows is not mapped. MSI-X
 * vectors are raised from any thread without a lock.
 */
#ifndef SKIFF_HW_PCI_PCI_H
#define SKIFF_HW_PCI_PCI_H

#include "hw/core/device.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_MAX_BARS 6

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

typedef struct PciIdentity {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, prog-if */
    uint8_t revision;
} PciIdentity;

typedef struct PciBar {
    IoRegion *region; /* NULL: no BAR here */
    uint64_t size;    /* power of two */
    bool is_io, is_64, prefetch;
} PciBar;

typedef struct MsixVector {
    int event_fd;        /* written to raise, also by irqfd users */
    MsiRoute *route;     /* BQL; present while enabled and unmasked */
    _Atomic bool masked; /* masked or disabled: raise sets pending */
    _Atomic bool pending;
} MsixVector;

typedef struct Msix {
    unsigned count; /* 0: none */
    uint8_t cap;    /* offset of the capability */
    uint8_t bar;
    IoRegion region; /* table and PBA, their own 4 KiB-aligned BAR */
    MsixVector *vectors;
} Msix;

/* Saved: the config space and the MSI-X table as the guest wrote them. */
#define PCI_MSIX_MAX_VECTORS 128
typedef struct PciState {
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t msix_table[PCI_MSIX_MAX_VECTORS * 16];
} PciState;

struct PciDevice {
    Device base;
    /* links */
    PciBus *bus;
    /* config */
    char *addr; /* "slot[.fn]" as in -device addr=, or NULL: first free */
    uint8_t devfn;
    bool multifunction;
    PciBar bars[PCI_MAX_BARS];
    /* state */
    PciState state;
    /* runtime */
    uint8_t wmask[PCI_CONFIG_SIZE];   /* 1: the guest may write the bit */
    uint8_t w1cmask[PCI_CONFIG_SIZE]; /* 1: writing 1 clears */
    unsigned cap_end;
    Msix msix;
    IrqLine intx;
    /* hook: after a config write that changed [offset, offset+size); may be NULL. BQL. */
    void (*config_written)(PciDevice *dev, unsigned offset, unsigned size);
    /* hook: config read of a device-specific capability (virtio pci_cfg window), before the bytes
     * are taken; may be NULL */
    MmioResult (*config_access)(PciDevice *dev, unsigned offset, IoAccess *access, bool *handled);
};

extern const StateDesc pci_device_state_desc;

/* ---- bus (the board) ---- */
typedef struct PciWindows {
    uint64_t mmio32_base, mmio32_size;
    uint64_t mmio64_base, mmio64_size;
    uint64_t ecam_base; /* 256 MiB-aligned; 1 MiB per bus */
} PciWindows;

PciBus *pci_bus_new(const DeviceEnv *env, const PciWindows *windows, IrqGate *const gates[8])
    RUNS_IN_MAIN;
void pci_bus_free(PciBus *bus) RUNS_IN_MAIN;
/* The bus' own regions: CF8/CFC (ports, 8 bytes at 0xcf8; byte 0xcf9 belongs to the LPC and has
 * higher priority) and ECAM. */
IoRegion *pci_bus_config_ports(PciBus *bus) ANY_THREAD;
IoRegion *pci_bus_ecam(PciBus *bus) ANY_THREAD;
PciDevice *pci_bus_device(PciBus *bus, unsigned devfn) ANY_THREAD;
/* Assigns BAR addresses inside the windows to every device and enables decode: what firmware would
 * do, for direct kernel boot. */
void pci_bus_assign_resources(PciBus *bus) RUNS_IN_MAIN BQL_HELD;
void pci_bus_reset(PciBus *bus) BQL_HELD;
/* INTx pin A-D of devfn -> index of gate (0..7): (slot + pin) & 3, plus 0. The board's _PRT says
 * the same. */
unsigned pci_intx_gate(unsigned devfn, unsigned pin) ANY_THREAD;

/* ---- device side, in realize ---- */
/* Plugs @dev at its `addr` (or the first free slot from 1): fills in the identity, header, masks.
 */
bool pci_device_plug(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
    RUNS_IN_MAIN;
void pci_device_unplug(PciDevice *dev) RUNS_IN_MAIN;
void pci_device_add_bar(PciDevice *dev, unsigned index, IoRegion *region, bool is_64, bool prefetch)
    ANY_THREAD;
void pci_device_add_io_bar(PciDevice *dev, unsigned index, IoRegion *region) ANY_THREAD;
/* Returns the offset of a new capability of @size bytes (id and next filled in); aborts when config
 * space is full. */
uint8_t pci_device_add_capability(PciDevice *dev, uint8_t id, uint8_t size) ANY_THREAD;
void pci_device_set_intx_pin(PciDevice *dev, unsigned pin) ANY_THREAD; /* 1..4 = A..D */
/* MSI-X with @count vectors in BAR @bar. */
bool pci_device_add_msix(PciDevice *dev, unsigned count, unsigned bar, GError **error) RUNS_IN_MAIN;
/* After the device's own state reset: command register, BARs, MSI-X to power-on. */
void pci_device_reset(PciDevice *dev) BQL_HELD;
/* Remaps BARs and rebuilds MSI-X routes from `state`. */
void pci_device_post_load(PciDevice *dev) BQL_HELD;

/* Config bytes, little-endian; for capability set-up. */
void pci_set_u8(PciDevice *dev, unsigned off, uint8_t v) ANY_THREAD;
void pci_set_u16(PciDevice *dev, unsigned off, uint16_t v) ANY_THREAD;
void pci_set_u32(PciDevice *dev, unsigned off, uint32_t v) ANY_THREAD;
uint32_t pci_get(const PciDevice *dev, unsigned off, unsigned size) ANY_THREAD;

/* ---- interrupts ---- */
bool pci_msix_enabled(const PciDevice *dev) ANY_THREAD; /* atomically read */
/* Raises @vector: eventfd write when unmasked, else its pending bit. Nothing when @vector >= count.
 */
void pci_msix_raise(PciDevice *dev, unsigned vector) ANY_THREAD;
/* INTx level; the Interrupt Disable bit and the status bit are looked after. */
void pci_intx_update(PciDevice *dev, bool (*cause)(void *opaque), void *opaque) ANY_THREAD;

#endif
