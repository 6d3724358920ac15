/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: one root bus (00), config space, BARs, INTx, MSI-X. PCI Local Bus 3.0.
 *
 * Config accesses (CF8/CFC and ECAM) come from vCPUs under the BQL. A device shows up on the bus
 * when it is realized. BARs are mapped and moved as the guest writes them; a BAR that leaves the
 * bridge's windows is not mapped, one that overlaps another or a fixed device hides nothing but
 * itself or its neighbour. MSI-X vectors are raised from any thread without a lock.
 *
 * MSI-X: how masking loses nothing. Each vector has an eventfd, and raising the vector is one write
 * to it, whatever its mask: by pci_msix_raise() or by whoever was given the descriptor (vhost). The
 * eventfd's counter *is* the pending bit:
 *   1. The vector is enabled and unmasked, and the device may master the bus (its message is a
 *      memory write, PCI 3.0 §6.2.2) <=> its MsiRoute is attached. The machine then takes every event
 *      out of the eventfd at once and delivers it; the counter reads 0, and so does the PBA.
 *   2. Masking, like clearing Bus Master, detaches the route (under the BQL). From then on a raise
 *      stays in the counter, and a PBA read finds it there. The route keeps its message and its
 *      place in the machine's table.
 *   3. Unmasking attaches the route, which delivers what the counter holds: once, as PCI wants.
 * Every vector has a route from realize on, so a machine that has too few refuses the device and no
 * vector lacks one later.
 * A raise that runs against a mask or unmask is wholly before or wholly after the attach or detach,
 * because the eventfd's own lock orders them; there is no second word to disagree with it.
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
    int event_fd;    /* written to raise; non-blocking */
    MsiRoute *route; /* reserved at realize */
    /* BQL */
    bool attached;      /* see 1. above */
    bool has_message;   /* `message` is the route's */
    MsiMessage message; /* what the route delivers */
} MsixVector;

typedef struct Msix {
    unsigned count; /* 0: none */
    uint8_t cap;    /* offset of the capability */
    uint8_t bar;
    _Atomic bool enabled;
    IoRegion region; /* table and PBA, their own BAR */
    MsixVector *vectors;
} Msix;

/* Saved: the config space and the MSI-X table as the guest wrote them, and the vectors that were
 * raised while masked (brought up to date by pci_device_pre_save()). */
#define PCI_MSIX_MAX_VECTORS 128
typedef struct PciState {
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t msix_table[PCI_MSIX_MAX_VECTORS * 16];
    uint8_t msix_pending[PCI_MSIX_MAX_VECTORS / 8];
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
    uint8_t wmask[PCI_CONFIG_SIZE];    /* 1: the guest may write the bit */
    uint8_t w1cmask[PCI_CONFIG_SIZE];  /* 1: writing 1 clears */
    uint8_t power_on[PCI_CONFIG_SIZE]; /* what reset brings back: config as realize left it */
    unsigned cap_end;
    Msix msix;
    IrqLine intx;
    bool intx_asserted; /* under the gate's lock: the device's cause */
    bool intx_enabled;  /* under the gate's lock: neither Interrupt Disable nor MSI-X */
    /* hook: after a change of who receives what is written to the eventfds of vectors [first, first +
     * count), see pci_msix_event_fd(); may be NULL. BQL. */
    void (*msix_changed)(PciDevice *dev, unsigned first, unsigned count);
    /* hook: after a config write that changed something in [offset, offset+size); may be NULL. BQL.
     */
    void (*config_written)(PciDevice *dev, unsigned offset, unsigned size);
    /* hook: before a config access, for what is more than bytes (virtio's pci_cfg window), or may
     * not retire yet; may be NULL */
    MmioResult (*config_access)(PciDevice *dev, unsigned offset, IoAccess *access, bool *handled);
};

/* DeviceType.base_state of every PCI device. */
extern const StateDesc pci_device_state_desc;

/* What every PCI device's property table begins with; @where is the default of addr ("1f.0"), or
 * NULL. */
#define PCI_DEVICE_PROPERTIES_AT(where)                                                            \
    {.name = "addr",                                                                               \
     .type = OPT_STRING,                                                                           \
     .offset = offsetof(PciDevice, addr),                                                          \
     .help = "slot[.function], hexadecimal (default: the first free slot)",                        \
     .def = (where)},                                                                              \
    {                                                                                              \
        .name = "multifunction", .type = OPT_BOOL, .offset = offsetof(PciDevice, multifunction),   \
        .help = "other functions of the slot may be used"                                          \
    }
#define PCI_DEVICE_PROPERTIES PCI_DEVICE_PROPERTIES_AT(NULL)

/* ---- bus (the board) ---- */
typedef struct PciWindows {
    uint64_t mmio32_base, mmio32_size;
    uint64_t mmio64_base, mmio64_size;
    uint64_t ecam_base; /* 256 MiB-aligned; 1 MiB per bus */
} PciWindows;

/* @gates: where INTx goes, see pci_intx_gate(); an entry may be NULL. */
PciBus *pci_bus_new(const DeviceEnv *env, const PciWindows *windows, IrqGate *const gates[8])
    RUNS_IN_MAIN;
void pci_bus_free(PciBus *bus) RUNS_IN_MAIN;
const PciWindows *pci_bus_windows(const PciBus *bus) ANY_THREAD;
/* The bus' own regions: CF8/CFC (ports, 8 bytes at 0xcf8; byte 0xcf9 belongs to the reset register,
 * which has higher priority) and ECAM. The host bridge device maps them. */
IoRegion *pci_bus_config_ports(PciBus *bus) ANY_THREAD;
IoRegion *pci_bus_ecam(PciBus *bus) ANY_THREAD;
/* "slot[.function]", both hexadecimal, as QEMU reads it. */
bool pci_parse_addr(const char *addr, unsigned *devfn, GError **error) ANY_THREAD;
/* NULL: nothing is plugged there. */
PciDevice *pci_bus_device(PciBus *bus, unsigned devfn) ANY_THREAD;
/* The address latch of port 0xcf8, for the host bridge to save. */
uint32_t pci_bus_config_address(const PciBus *bus) BQL_HELD;
void pci_bus_set_config_address(PciBus *bus, uint32_t value) BQL_HELD;
/* Assigns BAR addresses inside the windows to every device, enables decode and writes the GSI of
 * INTx to Interrupt Line: what firmware would do, for direct kernel boot. After every reset. A
 * 64-bit BAR goes above 4 GiB only when it does not fit below; one that fits nowhere stays
 * unassigned. */
void pci_bus_assign_resources(PciBus *bus) RUNS_IN_MAIN BQL_HELD;
/* The bus' own state; devices are reset by their type. */
void pci_bus_reset(PciBus *bus) BQL_HELD;
/* INTx pin 1-4 (A-D) of devfn -> index of gate: (slot + pin - 1) & 3. The board's _PRT says the
 * same (with its pins counted from 0). */
unsigned pci_intx_gate(unsigned devfn, unsigned pin) ANY_THREAD;

/* ---- device side, in realize ---- */
/* Plugs @dev at its `addr` (or the first free slot from 1): fills in the identity, header, masks.
 * Takes the BQL. The guest sees the device when it is realized. */
bool pci_device_plug(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
    RUNS_IN_MAIN;
/* Unmaps, detaches routes, frees what the calls below took; nobody raises interrupts any more.
 * Takes the BQL. Nothing when it is not plugged. */
void pci_device_unplug(PciDevice *dev) RUNS_IN_MAIN;
/* BAR @index (and the next one when @is_64) decodes @region, rounded up to a power of two. */
void pci_device_add_bar(PciDevice *dev, unsigned index, IoRegion *region, bool is_64, bool prefetch)
    ANY_THREAD;
void pci_device_add_io_bar(PciDevice *dev, unsigned index, IoRegion *region) ANY_THREAD;
/* Returns the offset of a new capability of @size bytes (id and next filled in); aborts when config
 * space is full. */
uint8_t pci_device_add_capability(PciDevice *dev, uint8_t id, uint8_t size) ANY_THREAD;
void pci_device_set_intx_pin(PciDevice *dev, unsigned pin) ANY_THREAD; /* 1..4 = A..D */
/* MSI-X with @count vectors in BAR @bar, a 4 KiB one of its own. */
bool pci_device_add_msix(PciDevice *dev, unsigned count, unsigned bar, GError **error) RUNS_IN_MAIN;
/* After the device's own state reset: config space, BARs, MSI-X to power-on; INTx low. */
void pci_device_reset(PciDevice *dev) BQL_HELD;
/* Brings `state` up to date before a save. */
void pci_device_pre_save(PciDevice *dev) BQL_HELD;
/* Remaps BARs and rebuilds MSI-X from `state`; bits the guest could not have written are put right.
 * The device then updates INTx itself. */
void pci_device_post_load(PciDevice *dev) BQL_HELD;

/* Config bytes, little-endian; until the device is realized they set the power-on value too. */
void pci_set_u8(PciDevice *dev, unsigned off, uint8_t v) ANY_THREAD;
void pci_set_u16(PciDevice *dev, unsigned off, uint16_t v) ANY_THREAD;
void pci_set_u32(PciDevice *dev, unsigned off, uint32_t v) ANY_THREAD;
uint32_t pci_get(const PciDevice *dev, unsigned off, unsigned size) ANY_THREAD;

/* The guest lets the device read and write memory: Bus Master of the command register. Devices that
 * do follow it by `config_written`, reset and post_load. */
bool pci_bus_master(const PciDevice *dev) BQL_HELD;
/* For `config_access`: the access would take that away. */
bool pci_write_ends_mastering(const PciDevice *dev, unsigned offset, const IoAccess *access)
    BQL_HELD;

/* ---- hotplug (pci_hotplug.c) ---- */
typedef enum PciUnplugState {
    PCI_UNPLUG_NONE,
    PCI_UNPLUG_ASKED,   /* the guest has not looked yet */
    PCI_UNPLUG_KNOWN,   /* the guest has seen that it was asked; it may let go, or never */
    PCI_UNPLUG_EJECTED, /* the guest has let go: it sees the slot empty from then on */
} PciUnplugState;

/* What a hotplug controller does (hw/platform/acpi_hotplug.c). All under the BQL. */
typedef struct PciHotplugOps {
    void (*inserted)(void *opaque, unsigned slot); /* tells the guest of function 0 */
    void (*ask_back)(void *opaque, unsigned slot); /* asks the guest to let go; again, if asked */
    void (*emptied)(void *opaque, unsigned slot);  /* the last device has left: forgets it */
    PciUnplugState (*state)(void *opaque, unsigned slot);
} PciHotplugOps;

/* @ops NULL: there is no controller (any more). */
void pci_bus_set_hotplug(PciBus *bus, const PciHotplugOps *ops, void *opaque) RUNS_IN_MAIN;
bool pci_bus_has_hotplug(const PciBus *bus) ANY_THREAD;
/* Bit n: slot n has a device that the guest sees; one that may be unplugged. */
uint32_t pci_bus_present_slots(const PciBus *bus) BQL_HELD;
uint32_t pci_bus_removable_slots(const PciBus *bus) BQL_HELD;
/* The guest has let go of the slot: its devices decode nothing, interrupt nobody and answer no
 * config access, until they have been unplugged. For the controller, also from a vCPU. */
void pci_bus_hide_slot(PciBus *bus, unsigned slot) BQL_HELD;
/* After a load: hides those of @slots that may be hidden, shows all others. Returns what is hidden. */
uint32_t pci_bus_set_hidden_slots(PciBus *bus, uint32_t slots) BQL_HELD;
bool pci_device_hidden(const PciDevice *dev) BQL_HELD;
/* Of a device that is realized: tells the guest that it is there; other functions than 0 are
 * announced with that one. Takes the BQL. */
void pci_device_announce(PciDevice *dev) RUNS_IN_MAIN;
/* Asks the guest for the device, and the others of its slot. Takes the BQL. */
void pci_device_ask_back(PciDevice *dev) RUNS_IN_MAIN;
PciUnplugState pci_device_unplug_state(const PciDevice *dev) RUNS_IN_MAIN;

/* ---- interrupts ---- */
bool pci_msix_enabled(const PciDevice *dev) ANY_THREAD; /* atomically read */
/* Raises @vector, or leaves it pending while masked. Nothing when MSI-X is disabled or @vector >=
 * count. */
void pci_msix_raise(PciDevice *dev, unsigned vector) ANY_THREAD;
/* The descriptor that raises @vector when written to, for someone who raises it without a call
 * (vhost); -1: MSI-X is disabled, or there is no such vector. It stays open until the device is
 * unplugged, and raises the vector whatever its mask. *@masked: events stay in it for now. Changes
 * are reported by `msix_changed`. */
int pci_msix_event_fd(const PciDevice *dev, unsigned vector, bool *masked) BQL_HELD;
/* INTx level is what @cause says, asked under the gate's lock; the Interrupt Disable bit, the
 * Interrupt Status bit and MSI-X (which silences INTx) are looked after. */
void pci_intx_update(PciDevice *dev, bool (*cause)(void *opaque), void *opaque) ANY_THREAD;

#endif
