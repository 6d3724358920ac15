/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/pci/pci_int.h"

#include <stdio.h>
#include <string.h>
#include "hw/pci/trace_events.h"

#define PCI_PREFETCH_64 0x0001
#define PCI_BRIDGE_CONTROL_WRITABLE 0x03 /* parity error response, SERR#; there is no bus reset */

static const StateField pci_device_fields[] = {
    STATE_ARRAY(PciState, STATE_BYTES, config),
    STATE_ARRAY(PciState, STATE_BYTES, msix_table),
    STATE_ARRAY(PciState, STATE_BYTES, msix_pending),
    {0},
};

const StateDesc pci_device_state_desc =
    STATE_DESC("pci-device", 1, PciDevice, state, PciState, pci_device_fields);

/* ---- plugging ---- */

bool pci_parse_addr(const char *addr, unsigned *devfn, GError **error)
{
    unsigned slot = 0, function = 0;
    int used = 0;
    bool ok = sscanf(addr, "%2x%n.%1x%n", &slot, &used, &function, &used) >= 1 &&
              addr[used] == '\0' && g_ascii_isxdigit(addr[0]);
    if (!ok || slot >= PCI_SLOT_COUNT || function > 7) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "addr=%s is no PCI address: slot[.function] in hexadecimal, 0.0 to 1f.7", addr);
        return false;
    }
    *devfn = slot << 3 | function;
    return true;
}

static bool pci_slot_is_free(const PciBus *bus, unsigned slot)
{
    for (unsigned function = 0; function < 8; function++) {
        if (bus->devices[slot << 3 | function] != NULL) {
            return false;
        }
    }
    return true;
}

static bool pci_choose_devfn(const PciDevice *dev, const PciBus *bus, unsigned *devfn,
                             GError **error)
{
    if (dev->addr == NULL) {
        for (unsigned slot = bus->bridge == NULL ? 1 : 0;
             slot < (bus->bridge == NULL ? PCI_SLOT_COUNT : 1); slot++) {
            if (pci_slot_is_free(bus, slot)) {
                *devfn = slot << 3;
                return true;
            }
        }
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "PCI: no slot/function available for %s, all in use or reserved",
                    dev->base.type->name);
        return false;
    }
    if (!pci_parse_addr(dev->addr, devfn, error)) {
        return false;
    }
    if (bus->bridge != NULL && *devfn >= 8) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "PCI: slot %u is not valid for %s, parent device only allows plugging into "
                    "slot 0.",
                    *devfn >> 3, dev->base.type->name);
        return false;
    }
    const PciDevice *other = bus->devices[*devfn];
    if (other != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "PCI: slot %u function %u not available for %s, in use by %s%s%s", *devfn >> 3,
                    *devfn & 7, dev->base.type->name, other->base.type->name,
                    other->base.id != NULL ? ",id=" : "",
                    other->base.id != NULL ? other->base.id : "");
        return false;
    }
    const PciDevice *first = bus->devices[*devfn & ~7u];
    if ((*devfn & 7) != 0 && first != NULL && !first->multifunction) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                    "PCI: single function device can't be populated in function %x.%x; %s at "
                    "%x.0 needs multifunction=on for that",
                    *devfn >> 3, *devfn & 7, device_label(&first->base), *devfn >> 3);
        return false;
    }
    return true;
}

static void pci_fill_header(PciDevice *dev, const PciIdentity *id)
{
    pci_set_u16(dev, PCI_REG_VENDOR, id->vendor);
    pci_set_u16(dev, PCI_REG_DEVICE, id->device);
    pci_set_u8(dev, PCI_REG_REVISION, id->revision);
    pci_set_u8(dev, PCI_REG_CLASS, (uint8_t)id->class_code);
    pci_set_u16(dev, PCI_REG_CLASS + 1, (uint16_t)(id->class_code >> 8));
    pci_set_u8(dev, PCI_REG_HEADER_TYPE, dev->multifunction ? PCI_HEADER_MULTIFUNCTION : 0);

    dev->wmask[PCI_REG_COMMAND] = PCI_COMMAND_WRITABLE & 0xff;
    dev->wmask[PCI_REG_COMMAND + 1] = PCI_COMMAND_WRITABLE >> 8;
    dev->w1cmask[PCI_REG_STATUS + 1] = PCI_STATUS_WRITE_1_CLEARS >> 8;
    dev->wmask[PCI_REG_CACHE_LINE] = 0xff;
    dev->wmask[PCI_REG_INTERRUPT_LINE] = 0xff;
}

static void pci_fill_bridge_header(PciDevice *dev)
{
    pci_set_u8(dev, PCI_REG_HEADER_TYPE,
               (uint8_t)(pci_get(dev, PCI_REG_HEADER_TYPE, 1) | PCI_HEADER_BRIDGE));
    memset(&dev->wmask[PCI_REG_SECONDARY_BUS - 1], 0xff, 3); /* primary, secondary, subordinate */
    dev->wmask[PCI_REG_IO_BASE] = dev->wmask[PCI_REG_IO_LIMIT] = 0xf0;
    dev->w1cmask[PCI_REG_SECONDARY_STATUS + 1] = PCI_STATUS_WRITE_1_CLEARS >> 8;
    for (unsigned reg = PCI_REG_MEMORY_BASE; reg <= PCI_REG_PREFETCH_LIMIT; reg += 2) {
        dev->wmask[reg] = 0xf0;
        dev->wmask[reg + 1] = 0xff;
    }
    pci_set_u16(dev, PCI_REG_PREFETCH_BASE, PCI_PREFETCH_64);
    pci_set_u16(dev, PCI_REG_PREFETCH_LIMIT, PCI_PREFETCH_64);
    memset(&dev->wmask[PCI_REG_PREFETCH_BASE_HIGH], 0xff, 8);
    dev->wmask[PCI_REG_BRIDGE_CONTROL] = PCI_BRIDGE_CONTROL_WRITABLE;
}

static bool pci_plug(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
{
    g_assert(dev->bus == NULL);
    unsigned devfn;
    if (dev->base.bus_device != NULL) {
        bus = ((PciDevice *)dev->base.bus_device)->secondary;
    }
    bql_lock();
    bool ok = pci_choose_devfn(dev, bus, &devfn, error);
    if (ok) {
        dev->bus = bus;
        dev->devfn = (uint8_t)devfn;
        g_free(dev->addr); /* the property shows the place, also one that was chosen here */
        dev->addr = g_strdup_printf("%02x.%x", devfn >> 3, devfn & 7);
        dev->cap_end = PCI_HEADER_END;
        irq_line_init(&dev->intx, NULL);
        pci_fill_header(dev, id);
        bus->devices[devfn] = dev;
    }
    bql_unlock();
    return ok;
}

bool pci_device_plug(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
{
    if (!pci_plug(dev, bus, id, error)) {
        return false;
    }
    pci_set_u16(dev, PCI_REG_SUBSYSTEM_VENDOR, id->subsystem_vendor);
    pci_set_u16(dev, PCI_REG_SUBSYSTEM, id->subsystem);
    return true;
}

bool pci_device_plug_bridge(PciDevice *dev, PciBus *bus, const PciIdentity *id, GError **error)
{
    if (dev->base.bus_device != NULL) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "PCI: %s can be plugged into pcie.0 only",
                    dev->base.type->name);
        return false;
    }
    if (!pci_plug(dev, bus, id, error)) {
        return false;
    }
    pci_fill_bridge_header(dev);
    return true;
}

void pci_device_unplug(PciDevice *dev)
{
    if (dev->bus == NULL) {
        return;
    }
    bql_lock();
    irq_line_set(&dev->intx, false);
    for (unsigned i = 0; i < PCI_REGIONS; i++) {
        if (dev->bars[i].region != NULL) {
            address_space_unmap(dev->bars[i].region);
        }
        dev->bars[i] = (PciBar){0};
    }
    msix_free(dev);
    dev->bus->devices[dev->devfn] = NULL;
    pci_slot_emptied(dev->bus, dev->devfn >> 3);
    dev->bus = NULL;
    bql_unlock();
    pci_rom_free(dev);
}

/* ---- the firmware's name for it ---- */

void pci_device_firmware_path(const PciDevice *dev, GString *path)
{
    static const struct {
        uint32_t class; /* and subclass */
        const char *name;
    } names[] = {{0x0100, "scsi"}, {0x0200, "ethernet"}, {0x0604, "pci-bridge"}};
    uint32_t class = pci_get(dev, PCI_REG_CLASS + 1, 2);
    const char *name = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        name = names[i].class == class ? names[i].name : name;
    }
    if (dev->bus->bridge != NULL) {
        pci_device_firmware_path(dev->bus->bridge, path);
    } else {
        g_string_append(path, "/pci@i0cf8");
    }
    g_string_append_c(path, '/');
    if (name != NULL) {
        g_string_append_printf(path, "%s@%x", name, dev->devfn >> 3);
    } else {
        g_string_append_printf(path, "pci%x,%x@%x", pci_get(dev, PCI_REG_VENDOR, 2),
                               pci_get(dev, PCI_REG_DEVICE, 2), dev->devfn >> 3);
    }
    if ((dev->devfn & 7) != 0) {
        g_string_append_printf(path, ",%x", dev->devfn & 7);
    }
}

/* ---- BARs and capabilities ---- */

static void pci_set_writable(PciDevice *dev, unsigned offset, uint32_t mask)
{
    for (unsigned i = 0; i < 4; i++) {
        dev->wmask[offset + i] = (uint8_t)(mask >> (i * 8));
    }
}

static void pci_add_bar(PciDevice *dev, unsigned index, PciBar bar, uint64_t min_size)
{
    g_assert(index + bar.is_64 < PCI_MAX_BARS && dev->bars[index].region == NULL);
    bar.size = min_size;
    while (bar.size < bar.region->size) {
        g_assert(bar.size < UINT64_C(1) << 62);
        bar.size <<= 1;
    }
    g_assert(bar.is_64 || bar.size <= UINT64_C(1) << 31);
    dev->bars[index] = bar;
    unsigned reg = PCI_REG_BAR0 + index * 4;
    uint64_t writable = ~(bar.size - 1);
    pci_set_u32(dev, reg,
                bar.is_io ? PCI_BAR_IO
                          : (bar.is_64 ? PCI_BAR_64 : 0) | (bar.prefetch ? PCI_BAR_PREFETCH : 0));
    pci_set_writable(dev, reg, (uint32_t)writable);
    if (bar.is_64) {
        pci_set_writable(dev, reg + 4, (uint32_t)(writable >> 32));
    }
}

void pci_device_add_bar(PciDevice *dev, unsigned index, IoRegion *region, bool is_64, bool prefetch)
{
    pci_add_bar(dev, index, (PciBar){.region = region, .is_64 = is_64, .prefetch = prefetch}, 16);
}

void pci_device_add_io_bar(PciDevice *dev, unsigned index, IoRegion *region)
{
    pci_add_bar(dev, index, (PciBar){.region = region, .is_io = true}, 4);
}

uint8_t pci_device_add_capability(PciDevice *dev, uint8_t id, uint8_t size)
{
    unsigned at = dev->cap_end;
    g_assert(at >= PCI_HEADER_END && size >= 2 && at + size <= 256);
    dev->cap_end = (at + size + 3) & ~3u;
    pci_set_u8(dev, at, id);
    /* The new capability is the first of the list. */
    pci_set_u8(dev, at + 1, (uint8_t)pci_get(dev, PCI_REG_CAPABILITIES, 1));
    pci_set_u8(dev, PCI_REG_CAPABILITIES, (uint8_t)at);
    pci_set_u16(dev, PCI_REG_STATUS,
                (uint16_t)(pci_get(dev, PCI_REG_STATUS, 2) | PCI_STATUS_CAPABILITIES));
    return (uint8_t)at;
}

/* ---- reset and state ---- */

void pci_device_follow_config(PciDevice *dev)
{
    pci_bars_update(dev);
    msix_update(dev);
    pci_intx_gate_changed(dev);
    if (dev->secondary != NULL) {
        pci_bridge_changed(dev);
    }
}

static bool pci_intx_none(void *opaque)
{
    return false;
}

void pci_device_reset(PciDevice *dev)
{
    memcpy(dev->state.config, dev->power_on, sizeof(dev->state.config));
    msix_reset(dev);
    pci_device_follow_config(dev);
    pci_intx_update(dev, pci_intx_none, NULL);
}

void pci_device_pre_save(PciDevice *dev)
{
    msix_pre_save(dev);
}

void pci_device_post_load(PciDevice *dev)
{
    for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
        uint8_t guests = dev->wmask[i] | dev->w1cmask[i];
        dev->state.config[i] =
            (uint8_t)((dev->power_on[i] & ~guests) | (dev->state.config[i] & guests));
    }
    msix_post_load(dev);
    pci_device_follow_config(dev);
}

/* ---- INTx ---- */

void pci_device_set_intx_pin(PciDevice *dev, unsigned pin)
{
    g_assert(pin >= 1 && pin <= 4 && dev->bus != NULL);
    pci_set_u8(dev, PCI_REG_INTERRUPT_PIN, (uint8_t)pin);
    const PciDevice *root = dev;
    while (root->bus->bridge != NULL) { /* each bridge rotates the pins by the slot */
        pin = pci_intx_gate(root->devfn, pin) + 1;
        root = root->bus->bridge;
    }
    irq_line_init(&dev->intx, root->bus->gates[pci_intx_gate(root->devfn, pin)]);
    dev->intx_enabled = true;
}

/* Iothreads report the cause of INTx, vCPUs enable and disable it. Both go through
 * irq_line_update(); its gate's lock orders them, so the level always matches both. */
typedef struct PciIntxChange {
    PciDevice *dev;
    bool (*cause)(void *opaque); /* NULL: unchanged */
    void *opaque;
    bool enabled;
} PciIntxChange;

static bool pci_intx_set_cause(void *opaque)
{
    const PciIntxChange *c = opaque;
    bool before = c->dev->intx_asserted;
    c->dev->intx_asserted = c->cause(c->opaque);
    if (c->dev->intx_asserted != before) {
        trace_pci_intx(device_label(&c->dev->base), !before);
    }
    return c->dev->intx_asserted && c->dev->intx_enabled;
}

static bool pci_intx_set_enabled(void *opaque)
{
    const PciIntxChange *c = opaque;
    c->dev->intx_enabled = c->enabled;
    return c->dev->intx_asserted && c->dev->intx_enabled;
}

void pci_intx_update(PciDevice *dev, bool (*cause)(void *opaque), void *opaque)
{
    PciIntxChange change = {.dev = dev, .cause = cause, .opaque = opaque};
    irq_line_update(&dev->intx, pci_intx_set_cause, &change);
}

void pci_intx_gate_changed(PciDevice *dev)
{
    bool disabled = (pci_get(dev, PCI_REG_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE) != 0;
    PciIntxChange change = {
        .dev = dev, .enabled = !disabled && !pci_msix_enabled(dev) && !pci_device_hidden(dev)};
    irq_line_update(&dev->intx, pci_intx_set_enabled, &change);
}

bool pci_intx_is_asserted(PciDevice *dev)
{
    if (dev->intx.gate == NULL) {
        return false;
    }
    rank_mutex_lock(&dev->intx.gate->lock);
    bool asserted = dev->intx_asserted;
    rank_mutex_unlock(&dev->intx.gate->lock);
    return asserted;
}
