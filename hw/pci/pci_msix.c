/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X. PCI 3.0 §6.8.2. pci.h describes raise, mask and pending. */
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

static void msix_vector_detach(PciDevice *dev, unsigned vector) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    MsixVector *v = &dev->msix.vectors[vector];
    if (v->attached) {
        trace_pci_msix_detach(device_label(&dev->base), vector);
        machine->ops->msi_route_detach(machine->opaque, v->route);
        v->attached = false;
    }
}

static void msix_vector_attach(PciDevice *dev, unsigned vector) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    MsixVector *v = &dev->msix.vectors[vector];
    g_autoptr(GError) error = NULL;
    if (v->attached) {
        return;
    }
    trace_pci_msix_attach(device_label(&dev->base), vector, v->message.address, v->message.data);
    v->attached = machine->ops->msi_route_attach(machine->opaque, v->route, &error);
    if (!v->attached) {
        /* The vector stays pending, as if masked, until its next write retries. */
        log_limited(&dev->base.log_limit, "%s: MSI-X vector %u cannot be routed: %s",
                    device_label(&dev->base), vector, error ? error->message : "unknown reason");
    }
}

/* Updates the machine's routes of vectors [first, first + count) from the table, control and
 * command registers. All new messages go into one commit. Returns whether a route was attached or
 * detached. */
static bool msix_routes_update(PciDevice *dev, unsigned first, unsigned count) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    bool changed = false, moved = false;
    for (unsigned i = first; i < first + count; i++) {
        MsixVector *v = &dev->msix.vectors[i];
        MsiMessage message = msix_message(dev, i);
        if (!msix_vector_delivers(dev, i)) {
            moved |= v->attached;
            msix_vector_detach(dev, i);
        } else if (!v->has_message || message.address != v->message.address ||
                   message.data != v->message.data) {
            v->message = message;
            v->has_message = true;
            machine->ops->msi_route_set(machine->opaque, v->route, message);
            changed = true;
        }
    }
    if (changed) {
        machine->ops->msi_routes_commit(machine->opaque);
    }
    for (unsigned i = first; i < first + count; i++) {
        if (msix_vector_delivers(dev, i) && !dev->msix.vectors[i].attached) {
            msix_vector_attach(dev, i);
            moved |= dev->msix.vectors[i].attached;
        }
    }
    return moved;
}

static void msix_vectors_update(PciDevice *dev, unsigned first, unsigned count, bool switched)
    BQL_HELD
{
    if ((msix_routes_update(dev, first, count) || switched) && dev->msix_changed != NULL) {
        dev->msix_changed(dev, first, count);
    }
}

void msix_update(PciDevice *dev)
{
    if (dev->msix.count == 0) {
        return;
    }
    uint32_t control = pci_get(dev, dev->msix.cap + MSIX_CONTROL, 2);
    bool enabled = (control & MSIX_CONTROL_ENABLE) != 0;
    bool switched = enabled != dev->msix.enabled;
    dev->msix.enabled = enabled;
    msix_vectors_update(dev, 0, dev->msix.count, switched);
}

bool pci_msix_enabled(const PciDevice *dev)
{
    return dev->msix.enabled;
}

int pci_msix_event_fd(const PciDevice *dev, unsigned vector, bool *masked)
{
    bool any = dev->msix.enabled && vector < dev->msix.count;
    *masked = any && !dev->msix.vectors[vector].attached;
    return any ? dev->msix.vectors[vector].event_fd : -1;
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

/* Bits of vectors [first, first+32): set when an event is in the eventfd and no route is
 * attached. */
static uint32_t msix_pending_bits(const PciDevice *dev, unsigned first)
{
    struct pollfd fds[32];
    unsigned vectors[32];
    unsigned count = 0;
    for (unsigned i = first; i < MIN(first + 32, dev->msix.count); i++) {
        if (!dev->msix.vectors[i].attached) {
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
    /* The routes belong to the earlier state and must not deliver the vectors pending now. */
    for (unsigned i = 0; i < dev->msix.count; i++) {
        msix_vector_detach(dev, i);
    }
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
    msix_drain(dev); /* after the routes are detached: no event reaches the guest */
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
    msix_vectors_update(dev, offset / MSIX_TABLE_ENTRY_SIZE, 1, false);
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

/* Quadword accesses arrive as two doublewords. PCI 3.0 §6.8.2. */
static const IoRegionOps msix_ops = {.access = msix_access, .min_size = 4, .max_size = 4};

/* Frees the resources of the first @count vectors. */
static void msix_vectors_free(PciDevice *dev, MsixVector *vectors, unsigned count) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    for (unsigned i = 0; i < count; i++) {
        if (vectors[i].attached) {
            machine->ops->msi_route_detach(machine->opaque, vectors[i].route);
        }
        machine->ops->msi_route_free(machine->opaque, vectors[i].route);
        close(vectors[i].event_fd);
    }
    g_free(vectors);
}

static bool msix_vector_init(PciDevice *dev, MsixVector *v, GError **error) BQL_HELD
{
    const Machine *machine = dev->bus->env->machine;
    v->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (v->event_fd < 0) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "no descriptor: %s (ulimit -n)",
                    g_strerror(errno));
        return false;
    }
    v->route = machine->ops->msi_route_new(machine->opaque, dev->devfn, v->event_fd, error);
    if (v->route == NULL) {
        close(v->event_fd);
    }
    return v->route != NULL;
}

/* @count vectors, each with an eventfd and a route; NULL + error when the host has too few. */
static MsixVector *msix_vectors_new(PciDevice *dev, unsigned count, GError **error) BQL_HELD
{
    MsixVector *vectors = g_new0(MsixVector, count);
    for (unsigned i = 0; i < count; i++) {
        if (!msix_vector_init(dev, &vectors[i], error)) {
            g_prefix_error(error, "%s: MSI-X vector %u of %u: ", device_label(&dev->base), i,
                           count);
            msix_vectors_free(dev, vectors, i);
            return NULL;
        }
    }
    return vectors;
}

bool pci_device_add_msix(PciDevice *dev, unsigned count, unsigned bar, GError **error)
{
    Msix *msix = &dev->msix;
    g_assert(msix->count == 0 && dev->bus != NULL);
    if (count < 1 || count > PCI_MSIX_MAX_VECTORS) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "%s: %u MSI-X vectors, must be 1 to %d",
                    device_label(&dev->base), count, PCI_MSIX_MAX_VECTORS);
        return false;
    }
    bql_lock();
    MsixVector *vectors = msix_vectors_new(dev, count, error);
    bql_unlock();
    if (vectors == NULL) {
        return false;
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
    Msix *msix = &dev->msix;
    if (msix->count > 0) {
        msix_vectors_free(dev, msix->vectors, msix->count);
    }
    msix->vectors = NULL;
    msix->count = 0;
    msix->enabled = false;
}
