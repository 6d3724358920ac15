/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X. PCI 3.0 §6.8.2. How raise, mask and pending go together: see pci.h. */
#include "hw/pci/pci_int.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "hw/pci/trace_events.h"

#define MSIX_TABLE_ENTRY_SIZE 16
#define MSIX_PBA_OFFSET (PCI_MSIX_MAX_VECTORS * MSIX_TABLE_ENTRY_SIZE)
#define MSIX_BAR_SIZE 4096
#define MSIX_CAPABILITY_SIZE 12
#define MSIX_CONTROL 2 /* offsets into the capability */
#define MSIX_TABLE 4
#define MSIX_PBA 8
#define MSIX_CONTROL_ENABLE 0x8000
#define MSIX_CONTROL_FUNCTION_MASK 0x4000
#define MSIX_ENTRY_ADDRESS_LOW 0 /* offsets into a table entry */
#define MSIX_ENTRY_ADDRESS_HIGH 4
#define MSIX_ENTRY_DATA 8
#define MSIX_ENTRY_CONTROL 12
#define MSIX_ENTRY_MASKED 1u

_Static_assert(MSIX_PBA_OFFSET + PCI_MSIX_MAX_VECTORS / 8 <= MSIX_BAR_SIZE, "PBA beyond its BAR");

static uint32_t msix_table_get(const PciDevice *dev, unsigned offset)
{
    const uint8_t *b = &dev->state.msix_table[offset];
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static void msix_table_set(PciDevice *dev, unsigned offset, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        dev->state.msix_table[offset + i] = (uint8_t)(value >> (i * 8));
    }
}

/* ---- vectors ---- */

static MsiMessage msix_message(const PciDevice *dev, unsigned vector)
{
    unsigned entry = vector * MSIX_TABLE_ENTRY_SIZE;
    return (MsiMessage){
        .address = msix_table_get(dev, entry + MSIX_ENTRY_ADDRESS_LOW) |
                   (uint64_t)msix_table_get(dev, entry + MSIX_ENTRY_ADDRESS_HIGH) << 32,
        .data = msix_table_get(dev, entry + MSIX_ENTRY_DATA),
    };
}

static bool msix_vector_delivers(const PciDevice *dev, unsigned vector) BQL_HELD;
static bool msix_vector_delivers(const PciDevice *dev, unsigned vector)
{
    uint32_t control = pci_get(dev, dev->msix.cap + MSIX_CONTROL, 2);
    uint32_t entry = msix_table_get(dev, vector * MSIX_TABLE_ENTRY_SIZE + MSIX_ENTRY_CONTROL);
    return (control & MSIX_CONTROL_ENABLE) != 0 && (control & MSIX_CONTROL_FUNCTION_MASK) == 0 &&
           (entry & MSIX_ENTRY_MASKED) == 0 && pci_bus_master(dev) && !pci_device_hidden(dev);
}

static void msix_vector_update(PciDevice *dev, unsigned vector) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    MsixVector *v = &dev->msix.vectors[vector];
    MsiMessage message = msix_message(dev, vector);
    if (!msix_vector_delivers(dev, vector)) {
        if (v->route != NULL) {
            trace_pci_msix_detach(device_label(&dev->base), vector);
            machine->ops->msi_route_remove(machine->opaque, v->route);
            v->route = NULL;
        }
        return;
    }
    if (v->route == NULL) {
        g_autoptr(GError) error = NULL;
        v->message = message;
        trace_pci_msix_attach(device_label(&dev->base), vector, message.address, message.data);
        v->route =
            machine->ops->msi_route_add(machine->opaque, message, dev->devfn, v->event_fd, &error);
        if (v->route == NULL) {
            /* The vector stays pending, as if masked, and is tried again at its next write. */
            log_limited(&dev->base.log_limit, "%s: MSI-X vector %u cannot be routed: %s",
                        device_label(&dev->base), vector,
                        error != NULL ? error->message : "unknown reason");
        }
    } else if (message.address != v->message.address || message.data != v->message.data) {
        v->message = message;
        machine->ops->msi_route_update(machine->opaque, v->route, message);
    }
}

void msix_update(PciDevice *dev)
{
    if (dev->msix.count == 0) {
        return;
    }
    uint32_t control = pci_get(dev, dev->msix.cap + MSIX_CONTROL, 2);
    dev->msix.enabled = (control & MSIX_CONTROL_ENABLE) != 0;
    for (unsigned i = 0; i < dev->msix.count; i++) {
        msix_vector_update(dev, i);
    }
}

bool pci_msix_enabled(const PciDevice *dev)
{
    return dev->msix.enabled;
}

static void msix_signal(int event_fd)
{
    uint64_t one = 1;
    /* EAGAIN: the counter is full, so the vector is pending already. */
    while (write(event_fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void pci_msix_raise(PciDevice *dev, unsigned vector)
{
    if (vector < dev->msix.count && dev->msix.enabled) {
        trace_pci_msix_raise(device_label(&dev->base), vector);
        msix_signal(dev->msix.vectors[vector].event_fd);
    }
}

/* ---- pending bits ---- */

/* Bits of vectors [first, first+32): an event lies in the eventfd and no route takes it. */
static uint32_t msix_pending_bits(const PciDevice *dev, unsigned first)
{
    struct pollfd fds[32];
    unsigned vectors[32];
    unsigned count = 0;
    for (unsigned i = first; i < MIN(first + 32, dev->msix.count); i++) {
        if (dev->msix.vectors[i].route == NULL) {
            fds[count] = (struct pollfd){.fd = dev->msix.vectors[i].event_fd, .events = POLLIN};
            vectors[count++] = i - first;
        }
    }
    uint32_t bits = 0;
    if (count > 0 && poll(fds, count, 0) > 0) {
        for (unsigned i = 0; i < count; i++) {
            if ((fds[i].revents & POLLIN) != 0) {
                bits |= UINT32_C(1) << vectors[i];
            }
        }
    }
    return bits;
}

void msix_pre_save(PciDevice *dev)
{
    for (unsigned first = 0; first < PCI_MSIX_MAX_VECTORS; first += 32) {
        uint32_t bits = msix_pending_bits(dev, first);
        for (unsigned i = 0; i < 4; i++) {
            dev->state.msix_pending[first / 8 + i] = (uint8_t)(bits >> (i * 8));
        }
    }
}

static void msix_drain(const PciDevice *dev)
{
    for (unsigned i = 0; i < dev->msix.count; i++) {
        uint64_t count;
        while (read(dev->msix.vectors[i].event_fd, &count, sizeof(count)) < 0 && errno == EINTR) {
        }
    }
}

void msix_post_load(PciDevice *dev)
{
    msix_drain(dev);
    for (unsigned i = 0; i < PCI_MSIX_MAX_VECTORS; i++) {
        bool pending = (dev->state.msix_pending[i / 8] >> (i % 8) & 1) != 0;
        if (pending && i < dev->msix.count) {
            msix_signal(dev->msix.vectors[i].event_fd);
        }
        unsigned control = i * MSIX_TABLE_ENTRY_SIZE + MSIX_ENTRY_CONTROL;
        msix_table_set(dev, control, msix_table_get(dev, control) & MSIX_ENTRY_MASKED);
    }
}

void msix_reset(PciDevice *dev)
{
    memset(dev->state.msix_table, 0, sizeof(dev->state.msix_table));
    memset(dev->state.msix_pending, 0, sizeof(dev->state.msix_pending));
    for (unsigned i = 0; i < dev->msix.count; i++) {
        msix_table_set(dev, i * MSIX_TABLE_ENTRY_SIZE + MSIX_ENTRY_CONTROL, MSIX_ENTRY_MASKED);
    }
    msix_update(dev);
    msix_drain(dev); /* after the routes are gone: what is in the eventfds now reaches nobody */
}

/* ---- the BAR ---- */

static uint32_t msix_read(const PciDevice *dev, unsigned offset)
{
    if (offset >= MSIX_PBA_OFFSET) {
        unsigned first = (offset - MSIX_PBA_OFFSET) * 8;
        return first < dev->msix.count ? msix_pending_bits(dev, first) : 0;
    }
    return offset < dev->msix.count * MSIX_TABLE_ENTRY_SIZE ? msix_table_get(dev, offset) : 0;
}

static void msix_write(PciDevice *dev, unsigned offset, uint32_t value) BQL_HELD
{
    if (offset >= dev->msix.count * MSIX_TABLE_ENTRY_SIZE) {
        return; /* the PBA is read-only */
    }
    switch (offset % MSIX_TABLE_ENTRY_SIZE) {
    case MSIX_ENTRY_ADDRESS_LOW:
        value &= ~UINT32_C(3);
        break;
    case MSIX_ENTRY_CONTROL:
        value &= MSIX_ENTRY_MASKED;
        break;
    default:
        break;
    }
    msix_table_set(dev, offset, value);
    msix_vector_update(dev, offset / MSIX_TABLE_ENTRY_SIZE);
}

static MmioResult msix_access(void *opaque, IoAccess *access)
{
    PciDevice *dev = opaque;
    assert_bql();
    if (access->is_write) {
        msix_write(dev, (unsigned)access->offset, (uint32_t)access->value);
    } else {
        access->value = msix_read(dev, (unsigned)access->offset);
    }
    return MMIO_DONE;
}

/* Quadword accesses are allowed too and arrive as two doublewords. PCI 3.0 §6.8.2. */
static const IoRegionOps msix_ops = {.access = msix_access, .min_size = 4, .max_size = 4};

bool pci_device_add_msix(PciDevice *dev, unsigned count, unsigned bar, GError **error)
{
    Msix *msix = &dev->msix;
    g_assert(msix->count == 0 && dev->bus != NULL);
    if (count < 1 || count > PCI_MSIX_MAX_VECTORS) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s: %u MSI-X vectors, must be 1 to %d",
                    device_label(&dev->base), count, PCI_MSIX_MAX_VECTORS);
        return false;
    }
    MsixVector *vectors = g_new0(MsixVector, count);
    for (unsigned i = 0; i < count; i++) {
        vectors[i].event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (vectors[i].event_fd < 0) {
            g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE,
                        "%s: no descriptor for MSI-X vector %u: %s (ulimit -n)",
                        device_label(&dev->base), i, g_strerror(errno));
            while (i-- > 0) {
                close(vectors[i].event_fd);
            }
            g_free(vectors);
            return false;
        }
    }
    msix->vectors = vectors;
    msix->count = count;
    msix->bar = (uint8_t)bar;
    msix->region =
        (IoRegion){.name = "msix", .ops = &msix_ops, .opaque = dev, .size = MSIX_BAR_SIZE};
    pci_device_add_bar(dev, bar, &msix->region, false, false);
    msix->cap = pci_device_add_capability(dev, PCI_CAPABILITY_MSIX, MSIX_CAPABILITY_SIZE);
    pci_set_u16(dev, msix->cap + MSIX_CONTROL, (uint16_t)(count - 1));
    pci_set_u32(dev, msix->cap + MSIX_TABLE, bar);
    pci_set_u32(dev, msix->cap + MSIX_PBA, MSIX_PBA_OFFSET | bar);
    dev->wmask[msix->cap + MSIX_CONTROL + 1] =
        (MSIX_CONTROL_ENABLE | MSIX_CONTROL_FUNCTION_MASK) >> 8;
    return true;
}

void msix_free(PciDevice *dev)
{
    const Machine *machine = dev->bus->env->machine;
    Msix *msix = &dev->msix;
    for (unsigned i = 0; i < msix->count; i++) {
        if (msix->vectors[i].route != NULL) {
            machine->ops->msi_route_remove(machine->opaque, msix->vectors[i].route);
        }
        close(msix->vectors[i].event_fd);
    }
    g_free(msix->vectors);
    msix->vectors = NULL;
    msix->count = 0;
    msix->enabled = false;
}
