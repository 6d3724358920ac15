/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PCI: the root bus (00), the buses behind root ports, config space, BARs, INTx, MSI-X. PCI Local
 * Bus 3.0, PCI-to-PCI Bridge 1.2.
 *
 * Config accesses (CF8/CFC and ECAM) come from vCPUs under the BQL. A device is visible on the bus
 * once it is realized. BARs are mapped and moved as the guest writes them. A BAR outside the
 * bridges' windows is not mapped; one that overlaps another BAR or a fixed device hides at most
 * itself or that BAR. MSI-X vectors are raised from any thread without a lock.
 *
 * MSI-X: masking loses no interrupt. Each vector has an eventfd. To raise the vector, masked or
 * not, pci_msix_raise() or another holder of the descriptor (vhost) writes to it. The eventfd's
 * counter is the pending bit:
 *   1. The vector is enabled and unmasked, and the device may master the bus (its message is a
 *      memory write, PCI 3.0 §6.2.2) <=> its MsiRoute is attached. The machine then takes every
 *      event out of the eventfd at once and delivers it; the counter reads 0, as does the PBA.
 *   2. Masking, like clearing Bus Master, detaches the route (under the BQL). A later raise stays
 *      in the counter, and a PBA read finds it there. The route keeps its message and its entry in
 *      the machine's table.
 *   3. Unmasking attaches the route, which delivers the counter once, as PCI requires.
 * Every vector has a route from realize on: a machine with too few routes refuses the device, and
 * no vector lacks one later.
 * The eventfd's lock orders a raise before or after a concurrent attach or detach. There is no
 * second word that could disagree with the counter.
 */
#ifndef SKIFF_HW_PCI_PCI_H
#define SKIFF_HW_PCI_PCI_H

#include "hw/core/device.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_MAX_BARS 6
/* The expansion ROM is mapped like a BAR, and has the index after theirs. */
#define PCI_ROM_BAR PCI_MAX_BARS
#define PCI_REGIONS (PCI_MAX_BARS + 1)
#define PCI_ROM_MAX (UINT64_C(16) << 20)

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

typedef struct PciIdentity {
    uint16_t vendor, device;
    uint16_t subsystem_vendor, subsystem;
    uint32_t class_code; /* 24 bits: class, subclass, prog-if */
    uint8_t revision;
} PciIdentity;

typedef struct PciBar {
    IoRegion *region; /* NULL: no such BAR */
    uint64_t size;    /* power of two */
    bool is_io, is_64, prefetch;
} PciBar;

typedef struct MsixVector {
    int event_fd;    /* a write raises the vector; non-blocking */
    MsiRoute *route; /* reserved at realize */
    /* BQL */
    bool attached;      /* see 1. above */
    bool has_message;   /* `message` is set in the route */
    MsiMessage message; /* the message that the route delivers */
} MsixVector;

typedef struct Msix {
    unsigned count; /* 0: none */
    uint8_t cap;    /* offset of the capability */
    uint8_t bar;
    _Atomic bool enabled;
    IoRegion region; /* table and PBA, their own BAR */
    MsixVector *vectors;
} Msix;

/*
 * The expansion ROM (PCI 3.0 §6.2.5.2, §6.3): code for firmware, which copies and runs it, as for network
 * boot. The guest reads it by exits; firmware does so once.
 */
typedef struct PciRom {
    /* config */
    char *file; /* romfile=; NULL: the type's own, "": none */
    bool bar;   /* rombar=; false: no ROM */
    const char
        *fallback; /* the type's own: a name, looked for where Debian's packages put such files */
    /* runtime */
    GBytes *image;
    IoRegion region;
} PciRom;

/* Saved: the config space and the MSI-X table as the guest wrote them, and the vectors that were
 * raised while masked (updated by pci_device_pre_save()). */
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
    /* "slot[.fn]" as in -device addr=; NULL: the first free slot. Once plugged, what devfn is. */
    char *addr;
    uint8_t devfn;
    bool multifunction;
    PciBar bars[PCI_REGIONS];
    PciRom rom;
    /* state */
    PciState state;
    /* runtime */
    uint8_t wmask[PCI_CONFIG_SIZE];    /* 1: the guest may write the bit */
    uint8_t w1cmask[PCI_CONFIG_SIZE];  /* 1: writing 1 clears */
    uint8_t power_on[PCI_CONFIG_SIZE]; /* the config space after reset, as realize left it */
    unsigned cap_end;
    PciBus *secondary; /* of a bridge: the bus behind it; else NULL */
    Msix msix;
    IrqLine intx;
    bool intx_asserted; /* under the gate's lock: the cause reported by the device */
    bool intx_enabled;  /* under the gate's lock: neither Interrupt Disable nor MSI-X */
    /* After the consumer of the eventfds of vectors [first, first + count) changed, see
     * pci_msix_event_fd(); may be NULL. BQL. */
    void (*msix_changed)(PciDevice *dev, unsigned first, unsigned count);
    /* After a config write that changed a byte of [offset, offset+size); may be NULL. BQL. */
    void (*config_written)(PciDevice *dev, unsigned offset, unsigned size);
    /* Before a config access, for registers with side effects (virtio's pci_cfg window) and for
     * accesses that must wait; may be NULL. */
    MmioResult (*config_access)(PciDevice *dev, unsigned offset, IoAccess *access, bool *handled);
};

/* DeviceType.base_state of every PCI device. */
extern const StateDesc pci_device_state_desc;

/* The first rows of every PCI device's property table; @where is the default of addr ("1f.0"), or
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
/* Rows of devices that may have an expansion ROM. */
#define PCI_DEVICE_ROM_PROPERTIES                                                                  \
    {.name = "romfile",                                                                            \
     .type = OPT_STRING,                                                                           \
     .offset = offsetof(PciDevice, rom.file),                                                      \
     .help = "file with the expansion ROM, which firmware runs; empty: none"},                     \
    {                                                                                              \
        .name = "rombar", .type = OPT_BOOL, .offset = offsetof(PciDevice, rom.bar), .def = "on",   \
        .help = "whether the guest sees the expansion ROM"                                         \
    }

/* ---- bus (the board) ---- */
typedef struct PciWindows {
    uint64_t mmio32_base, mmio32_size;
    uint64_t mmio64_base, mmio64_size;
    uint64_t ecam_base; /* 256 MiB-aligned; 1 MiB per bus */
} PciWindows;

/* @gates are the targets of INTx, see pci_intx_gate(); an entry may be NULL. */
PciBus *pci_bus_new(const DeviceEnv *env, const PciWindows *windows, IrqGate *const gates[8])
    RUNS_IN_MAIN;
void pci_bus_free(PciBus *bus) RUNS_IN_MAIN;
/* Gives @bridge, a plugged device with the header of a bridge, a bus with one slot. Its number is
 * what the guest writes to the bridge's Secondary Bus Number. Freed by pci_bridge_free_bus(), when
 * nothing is plugged into it. */
void pci_bridge_add_bus(PciDevice *bridge) RUNS_IN_MAIN;
void pci_bridge_free_bus(PciDevice *bridge) RUNS_IN_MAIN;
/* The bridge that @dev is behind, or NULL. */
PciDevice *pci_device_bridge(const PciDevice *dev) ANY_THREAD;
/* The number of the bus that @dev is on, as the guest has set it; 0 on the root bus. */
unsigned pci_device_bus_number(const PciDevice *dev) BQL_HELD;
/* The number of bridges on the root bus, which does not change while the guest runs. */
unsigned pci_bus_bridges(const PciBus *bus) ANY_THREAD;
const PciWindows *pci_bus_windows(const PciBus *bus) ANY_THREAD;
/* The bus' own regions: CF8/CFC (ports, 8 bytes at 0xcf8; byte 0xcf9 belongs to the reset register,
 * which has higher priority) and ECAM. The host bridge device maps them. */
IoRegion *pci_bus_config_ports(PciBus *bus) ANY_THREAD;
IoRegion *pci_bus_ecam(PciBus *bus) ANY_THREAD;
/* Parses "slot[.function]", both hexadecimal, as QEMU does. */
bool pci_parse_addr(const char *addr, unsigned *devfn, GError **error) ANY_THREAD;
/* Appends the path by which firmware knows @dev: "/pci@i0cf8/scsi@4". IEEE 1275 PCI binding. */
void pci_device_firmware_path(const PciDevice *dev, GString *path) ANY_THREAD;
/* The device at @devfn, or NULL. */
PciDevice *pci_bus_device(PciBus *bus, unsigned devfn) ANY_THREAD;
/* The address latch of port 0xcf8, for the host bridge to save. */
uint32_t pci_bus_config_address(const PciBus *bus) BQL_HELD;
void pci_bus_set_config_address(PciBus *bus, uint32_t value) BQL_HELD;
/* Assigns BAR addresses inside the windows to every device, enables decode and writes the GSI of
 * INTx to Interrupt Line, as firmware does. For direct kernel boot, after every reset. A 64-bit BAR
 * goes above 4 GiB only when it does not fit below; a BAR that fits nowhere stays unassigned. */
void pci_bus_assign_resources(PciBus *bus) RUNS_IN_MAIN BQL_HELD;
/* Resets the bus' own state; DeviceType.reset resets the devices. */
void pci_bus_reset(PciBus *bus) BQL_HELD;
/* Maps INTx pin 1-4 (A-D) of @devfn to the index of its gate: (slot + pin - 1) & 3, as in the
 * board's _PRT (whose pins count from 0). */
unsigned pci_intx_gate(unsigned devfn, unsigned pin) ANY_THREAD;

/* ---- device side, in realize ---- */
/* Plugs @dev into @bus, or into the bus of its Device.bus_device if it has one, at its `addr` (or
 * the first free slot; slot 0 of the root bus is the host bridge's). Fills in identity, header and
 * masks. Takes the BQL. The guest sees the device when it is realized. */
bool pci_device_plug(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
    RUNS_IN_MAIN;
/* The same with the header of a PCI-to-PCI bridge, which has BARs 0 and 1 only and no subsystem. */
bool pci_device_plug_bridge(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
    RUNS_IN_MAIN;
/* Adds the expansion ROM that the properties name, or the type's own if the machine has firmware and the
 * file exists. The device is plugged. False + error: the file cannot be read. Waits for a worker if there is
 * one to read: called from DeviceType.realize. */
bool pci_device_load_rom(PciDevice *dev, GError **error) RUNS_IN_MAIN;
/* Adds @image, of PCI_ROM_MAX bytes at most, as the expansion ROM of a plugged device; takes a reference. */
void pci_device_add_rom(PciDevice *dev, GBytes *image) ANY_THREAD;
/* Unmaps BARs, detaches routes and frees all that the calls below took; no interrupt is raised any
 * more. Takes the BQL. Does nothing if @dev is not plugged. */
void pci_device_unplug(PciDevice *dev) RUNS_IN_MAIN;
/* BAR @index (and the next one when @is_64) decodes @region, rounded up to a power of two. */
void pci_device_add_bar(PciDevice *dev, unsigned index, IoRegion *region, bool is_64, bool prefetch)
    ANY_THREAD;
void pci_device_add_io_bar(PciDevice *dev, unsigned index, IoRegion *region) ANY_THREAD;
/* Adds a capability of @size bytes, with id and next filled in, and returns its offset. Aborts when
 * config space is full. */
uint8_t pci_device_add_capability(PciDevice *dev, uint8_t id, uint8_t size) ANY_THREAD;
void pci_device_set_intx_pin(PciDevice *dev, unsigned pin) ANY_THREAD; /* 1..4 = A..D */
/* Adds MSI-X with @count vectors in BAR @bar, which is 4 KiB and used for nothing else. */
bool pci_device_add_msix(PciDevice *dev, unsigned count, unsigned bar, GError **error) RUNS_IN_MAIN;
/* After the reset of the device's own state: sets config space, BARs and MSI-X to power-on, INTx to
 * low. */
void pci_device_reset(PciDevice *dev) BQL_HELD;
/* Updates `state` before a save. */
void pci_device_pre_save(PciDevice *dev) BQL_HELD;
/* Remaps BARs and rebuilds MSI-X from `state`; corrects bits that the guest cannot write. The
 * device then updates INTx itself. */
void pci_device_post_load(PciDevice *dev) BQL_HELD;

/* Set config bytes, little-endian; before the device is realized also the value after reset. */
void pci_set_u8(PciDevice *dev, unsigned off, uint8_t v) ANY_THREAD;
void pci_set_u16(PciDevice *dev, unsigned off, uint16_t v) ANY_THREAD;
void pci_set_u32(PciDevice *dev, unsigned off, uint32_t v) ANY_THREAD;
uint32_t pci_get(const PciDevice *dev, unsigned off, unsigned size) ANY_THREAD;

/* Whether the guest lets the device access memory: Bus Master of the command register. Devices that
 * access memory follow it in `config_written`, reset and post_load. */
bool pci_bus_master(const PciDevice *dev) BQL_HELD;
/* For `config_access`: whether the access clears Bus Master. */
bool pci_write_ends_mastering(const PciDevice *dev, unsigned offset, const IoAccess *access)
    BQL_HELD;

/* ---- hotplug (pci_hotplug.c) ---- */
typedef enum PciUnplugState {
    PCI_UNPLUG_NONE,
    PCI_UNPLUG_REQUESTED,    /* the guest has not seen the request */
    PCI_UNPLUG_ACKNOWLEDGED, /* the guest has seen the request; it may eject the device or not */
    PCI_UNPLUG_EJECTED,      /* the guest ejected the device and sees the slot empty */
} PciUnplugState;

/* The operations of a hotplug controller (hw/platform/acpi_hotplug.c). All under the BQL. */
typedef struct PciHotplugOps {
    void (*inserted)(void *opaque, unsigned slot);       /* reports function 0 to the guest */
    void (*request_unplug)(void *opaque, unsigned slot); /* requests, or requests again */
    void (*emptied)(void *opaque, unsigned slot);        /* no device left: clears its state */
    PciUnplugState (*state)(void *opaque, unsigned slot);
} PciHotplugOps;

/* NULL @ops: no controller. */
void pci_bus_set_hotplug(PciBus *bus, const PciHotplugOps *ops, void *opaque) RUNS_IN_MAIN;
bool pci_bus_has_hotplug(const PciBus *bus) ANY_THREAD;
/* Bit n is set if slot n has a device that the guest sees (present) and that can be unplugged
 * (removable). */
uint32_t pci_bus_present_slots(const PciBus *bus) BQL_HELD;
uint32_t pci_bus_removable_slots(const PciBus *bus) BQL_HELD;
/* The guest ejected the slot: until they are unplugged its devices decode nothing, raise no
 * interrupt and answer no config access. Called by the controller, also from a vCPU. */
void pci_bus_hide_slot(PciBus *bus, unsigned slot) BQL_HELD;
/* After a load: hides those of @slots that may be hidden, shows all others. Returns what is hidden. */
uint32_t pci_bus_set_hidden_slots(PciBus *bus, uint32_t slots) BQL_HELD;
bool pci_device_hidden(const PciDevice *dev) BQL_HELD;
/* Reports a realized device to the guest; functions other than 0 are reported with function 0.
 * Takes the BQL. */
void pci_device_announce(PciDevice *dev) RUNS_IN_MAIN;
/* Requests the unplug of the device and the other functions of its slot. Takes the BQL. */
void pci_device_request_unplug(PciDevice *dev) RUNS_IN_MAIN;
PciUnplugState pci_device_unplug_state(const PciDevice *dev) RUNS_IN_MAIN;

/* ---- interrupts ---- */
bool pci_msix_enabled(const PciDevice *dev) ANY_THREAD; /* atomically read */
/* Raises @vector; it stays pending while masked. Does nothing when MSI-X is disabled or @vector >=
 * count. */
void pci_msix_raise(PciDevice *dev, unsigned vector) ANY_THREAD;
/* The descriptor that raises @vector by a write, masked or not, for code that raises it without a
 * call (vhost); -1: MSI-X is disabled, or there is no such vector. It stays open until the device
 * is unplugged. *@masked: events stay in it for now. `msix_changed` reports changes. */
int pci_msix_event_fd(const PciDevice *dev, unsigned vector, bool *masked) BQL_HELD;
/* Sets the INTx level from @cause, called under the gate's lock. Respects the Interrupt Disable bit
 * and MSI-X (which disables INTx), and updates the Interrupt Status bit. */
void pci_intx_update(PciDevice *dev, bool (*cause)(void *opaque), void *opaque) ANY_THREAD;

#endif
