/* SPDX-License-Identifier: Apache-2.0 */
#include "hw/virtio/virtio_pci.h"

#define PCI_CAP_ID_VENDOR 0x09
#define CAP_SIZE 16 /* struct virtio_pci_cap */
#define CAP_CFG_TYPE 3
#define CAP_BAR 4
#define CAP_OFFSET 8
#define CAP_LENGTH 12
#define CAP_EXTRA 16 /* notify_off_multiplier, or pci_cfg_data */

const char *const virtio_pci_disable_legacy_names[] = {"on", "auto", "off", NULL};

static VirtioPci *from_device(Device *dev)
{
    return (VirtioPci *)(void *)dev;
}

/* ---- interrupts: any thread ---- */

static bool intx_cause(void *opaque)
{
    VirtioPci *p = opaque;
    return !pci_msix_enabled(&p->pci) &&
           __atomic_load_n(&p->vdev.state->isr, __ATOMIC_ACQUIRE) != 0;
}

static void isr_set(VirtioPci *p, uint8_t bit)
{
    __atomic_fetch_or(&p->vdev.state->isr, bit, __ATOMIC_ACQ_REL);
}

static void notify_queue(void *opaque, unsigned index)
{
    VirtioPci *p = opaque;
    if (pci_msix_enabled(&p->pci)) {
        pci_msix_raise(&p->pci,
                       __atomic_load_n(&p->vdev.state->queues[index].vector, __ATOMIC_RELAXED));
        return;
    }
    isr_set(p, VIRTIO_ISR_QUEUE);
    pci_intx_update(&p->pci, intx_cause, p);
}

static void notify_config(void *opaque)
{
    VirtioPci *p = opaque;
    isr_set(p, VIRTIO_ISR_CONFIG); /* with MSI-X too, §4.1.4.5.1 */
    if (pci_msix_enabled(&p->pci)) {
        pci_msix_raise(&p->pci, __atomic_load_n(&p->vdev.state->config_vector, __ATOMIC_RELAXED));
        return;
    }
    pci_intx_update(&p->pci, intx_cause, p);
}

static VirtioInterrupt queue_interrupt(void *opaque, unsigned index)
{
    VirtioPci *p = opaque;
    VirtioInterrupt now = {.mode = VIRTIO_INTERRUPT_RELAY, .event_fd = -1};
    assert_bql();
    if (pci_msix_enabled(&p->pci)) {
        now.event_fd = pci_msix_event_fd(&p->pci, p->vdev.state->queues[index].vector, &now.masked);
        now.mode = now.event_fd < 0 ? VIRTIO_INTERRUPT_NONE : VIRTIO_INTERRUPT_VECTOR;
    }
    return now;
}

static void msix_changed(PciDevice *pci, unsigned first, unsigned count)
{
    assert_bql();
    virtio_interrupts_changed(&from_device(&pci->base)->vdev);
}

/* The registers, including isr, have been reset. */
static void transport_reset(void *opaque)
{
    VirtioPci *p = opaque;
    pci_intx_update(&p->pci, intx_cause, p);
}

static const VirtioTransportOps transport_ops = {
    .notify_queue = notify_queue,
    .notify_config = notify_config,
    .reset = transport_reset,
    .queue_interrupt = queue_interrupt,
};

/* ---- registers ---- */

static uint32_t isr_read(VirtioPci *p)
{
    uint8_t isr = __atomic_exchange_n(&p->vdev.state->isr, 0, __ATOMIC_ACQ_REL);
    pci_intx_update(&p->pci, intx_cause, p);
    return isr;
}

static BQL_HELD void register_read(VirtioPci *p, IoAccess *a)
{
    unsigned block = a->offset & ~0xfffull, offset = a->offset & 0xfff;
    switch (block) {
    case VIRTIO_PCI_COMMON:
        a->value = virtio_pci_common_read(p, offset, a->size);
        return;
    case VIRTIO_PCI_ISR:
        a->value = offset == 0 ? isr_read(p) : 0;
        return;
    case VIRTIO_PCI_DEVICE:
        a->value = virtio_read_config(&p->vdev, offset, a->size);
        return;
    default:
        a->value = 0;
        return;
    }
}

static BQL_HELD void register_write(VirtioPci *p, const IoAccess *a)
{
    unsigned block = a->offset & ~0xfffull, offset = a->offset & 0xfff;
    switch (block) {
    case VIRTIO_PCI_COMMON:
        virtio_pci_common_write(p, offset, a->size, (uint32_t)a->value);
        return;
    case VIRTIO_PCI_DEVICE:
        virtio_write_config(&p->vdev, offset, a->size, (uint32_t)a->value);
        return;
    case VIRTIO_PCI_NOTIFY: /* the value does not matter: each queue has its own address */
        virtio_kick(&p->vdev, offset / VIRTIO_PCI_NOTIFY_MULTIPLIER);
        return;
    default:
        return;
    }
}

static BQL_HELD MmioResult register_access(VirtioPci *p, IoAccess *a)
{
    unsigned block = a->offset & ~0xfffull;
    bool waits = block == VIRTIO_PCI_COMMON || block == VIRTIO_PCI_DEVICE;
    if (waits && virtio_resetting(&p->vdev)) {
        return pended_wait_for(&p->vdev.pended, a);
    }
    if (a->is_write) {
        register_write(p, a);
    } else {
        register_read(p, a);
    }
    return MMIO_DONE;
}

static MmioResult region_access(void *opaque, IoAccess *a)
{
    assert_bql();
    return register_access(opaque, a);
}

/* Doorbells move with the window. If the machine refuses one, its queue is kicked through the
 * register. */
static void region_mapped(void *opaque, bool mapped)
{
    VirtioPci *p = opaque;
    const Machine *m = p->pci.base.env->machine;
    assert_bql();
    if (mapped) {
        p->notify_gpa = p->region.base + VIRTIO_PCI_NOTIFY;
    }
    for (unsigned i = 0; i < p->vdev.num_queues; i++) {
        uint64_t gpa = p->notify_gpa + i * VIRTIO_PCI_NOTIFY_MULTIPLIER;
        int fd = p->vdev.queues[i].kick_fd;
        if (mapped && m->ops->doorbell_add(m->opaque, false, gpa, 0, false, 0, fd) == 0) {
            p->doorbells |= 1ull << i;
        } else if (!mapped && (p->doorbells >> i & 1)) {
            m->ops->doorbell_remove(m->opaque, false, gpa, 0, false, 0, fd);
            p->doorbells &= ~(1ull << i);
        }
    }
}

static const IoRegionOps region_ops = {
    .access = region_access, .min_size = 1, .max_size = 4, .mapped = region_mapped};

/* ---- the window in config space (§4.1.4.9) ---- */

static BQL_HELD MmioResult window_access(VirtioPci *p, IoAccess *a)
{
    const PciDevice *pci = &p->pci;
    uint32_t bar = pci_get(pci, p->window_cap + CAP_BAR, 1);
    uint32_t at = pci_get(pci, p->window_cap + CAP_OFFSET, 4);
    uint32_t length = pci_get(pci, p->window_cap + CAP_LENGTH, 4);
    if (bar != VIRTIO_PCI_BAR || (length != 1 && length != 2 && length != 4) || at % length ||
        at > VIRTIO_PCI_BAR_SIZE - length) {
        virtio_guest_error(&p->vdev, "config window at BAR %u, 0x%x, %u bytes", bar, at, length);
        a->value = 0;
        return MMIO_DONE;
    }
    IoAccess outer = *a; /* the register gets this struct, since a pended access waits in it */
    a->offset = at;
    a->size = (uint8_t)length;
    a->value = a->is_write ? a->value & (0xffffffffu >> (32 - 8 * length)) : 0;
    MmioResult result = register_access(p, a);
    a->offset = outer.offset;
    a->size = outer.size;
    if (a->is_write) {
        a->value = outer.value;
    }
    return result;
}

static MmioResult config_access(PciDevice *pci, unsigned offset, IoAccess *a, bool *handled)
{
    VirtioPci *p = from_device(&pci->base);
    assert_bql();
    *handled = offset == p->window_cap + (unsigned)CAP_EXTRA;
    if (*handled) {
        return window_access(p, a);
    }
    /* Once the write has retired, the guest may reuse the memory. Until then the register reads as
     * before, and interrupts of completing requests are delivered. */
    if (pci_write_ends_mastering(pci, offset, a) && !virtio_block_dma(&p->vdev)) {
        *handled = true;
        return pended_wait_for(&p->vdev.pended, a);
    }
    return MMIO_DONE;
}

static BQL_HELD void follow_bus_master(VirtioPci *p)
{
    if (pci_bus_master(&p->pci)) {
        virtio_allow_dma(&p->vdev);
    } else {
        virtio_block_dma(&p->vdev);
    }
}

/* MSI-X may have been enabled or disabled: updates the interrupt line. */
static void config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    VirtioPci *p = from_device(&pci->base);
    assert_bql();
    follow_bus_master(p);
    pci_intx_update(pci, intx_cause, p);
}

/* ---- realize ---- */

static uint8_t add_cap(VirtioPci *p, uint8_t type, uint8_t size, uint32_t offset, uint32_t length)
{
    uint8_t cap = pci_device_add_capability(&p->pci, PCI_CAP_ID_VENDOR, size);
    pci_set_u8(&p->pci, cap + 2u, size);
    pci_set_u8(&p->pci, cap + CAP_CFG_TYPE, type);
    pci_set_u8(&p->pci, cap + CAP_BAR, VIRTIO_PCI_BAR);
    pci_set_u32(&p->pci, cap + CAP_OFFSET, offset);
    pci_set_u32(&p->pci, cap + CAP_LENGTH, length);
    return cap;
}

static void add_caps(VirtioPci *p)
{
    uint32_t notify_length = p->vdev.num_queues * VIRTIO_PCI_NOTIFY_MULTIPLIER;
    add_cap(p, VIRTIO_PCI_CAP_COMMON, CAP_SIZE, VIRTIO_PCI_COMMON, VIRTIO_COMMON_SIZE);
    add_cap(p, VIRTIO_PCI_CAP_ISR, CAP_SIZE, VIRTIO_PCI_ISR, 1);
    if (p->vdev.config_size) {
        add_cap(p, VIRTIO_PCI_CAP_DEVICE, CAP_SIZE, VIRTIO_PCI_DEVICE, p->vdev.config_size);
    }
    uint8_t cap = add_cap(p, VIRTIO_PCI_CAP_NOTIFY, CAP_SIZE + 4, VIRTIO_PCI_NOTIFY, notify_length);
    pci_set_u32(&p->pci, cap + CAP_EXTRA, VIRTIO_PCI_NOTIFY_MULTIPLIER);

    cap = add_cap(p, VIRTIO_PCI_CAP_PCI, CAP_SIZE + 4, 0, 0);
    pci_set_u8(&p->pci, cap + CAP_BAR, 0);
    p->pci.wmask[cap + CAP_BAR] = 0xff;
    for (unsigned i = 0; i < 8; i++) {
        p->pci.wmask[cap + CAP_OFFSET + i] = 0xff;
    }
    p->window_cap = cap;
}

static bool check_options(const VirtioPci *p, GError **error)
{
    const char *lacks = NULL;
    if (p->disable_modern) {
        lacks = "legacy virtio (disable-modern=on); nearest is the modern device, the default";
    } else if (p->disable_legacy == 2) {
        lacks = "transitional virtio (disable-legacy=off); nearest is disable-legacy=on";
    } else if (p->packed) {
        lacks = "packed virtqueues (packed=on); nearest is split ones, the default";
    } else if (p->iommu_platform) {
        lacks = "guest IOMMU (iommu_platform=on); nearest is none, the default";
    }
    if (lacks) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "skiff has no %s", lacks);
    }
    return !lacks;
}

static RUNS_IN_MAIN bool plug(VirtioPci *p, GError **error)
{
    PciIdentity id = {.vendor = VIRTIO_PCI_VENDOR,
                      .device = VIRTIO_PCI_DEVICE_BASE + p->vdev.ops->device_id,
                      .subsystem_vendor = VIRTIO_PCI_VENDOR,
                      .subsystem = 0x1100,
                      .class_code = p->class_code,
                      .revision = 1};
    PciBus *bus = p->pci.bus ? p->pci.bus : p->pci.base.env->pci_bus;
    if (!bus) {
        g_set_error(error, OPT_ERROR, OPT_ERROR_VALUE, "the machine has no PCI bus");
        return false;
    }
    if (!pci_device_plug(&p->pci, bus, &id, error)) {
        return false;
    }
    unsigned vectors = MIN(p->vectors, MIN(p->vdev.num_queues + 1, PCI_MSIX_MAX_VECTORS));
    if (!pci_device_load_rom(&p->pci, error) ||
        (vectors && !pci_device_add_msix(&p->pci, vectors, VIRTIO_PCI_MSIX_BAR, error))) {
        pci_device_unplug(&p->pci);
        return false;
    }
    pci_device_add_bar(&p->pci, VIRTIO_PCI_BAR, &p->region, true, true);
    pci_device_set_intx_pin(&p->pci, 1);
    add_caps(p);
    p->pci.msix_changed = msix_changed;
    p->pci.config_written = config_written;
    p->pci.config_access = config_access;
    return true;
}

bool virtio_pci_realize(VirtioPci *p, GError **error)
{
    VirtioDevice *vdev = &p->vdev;
    if (!check_options(p, error)) {
        return false;
    }
    vdev->dev = &p->pci.base;
    vdev->transport = &transport_ops;
    vdev->transport_opaque = p;
    vdev->features |= VIRTIO_F_VERSION_1 | (p->event_idx ? VIRTIO_F_EVENT_IDX : 0) |
                      (p->indirect_desc ? VIRTIO_F_INDIRECT_DESC : 0);
    p->region = (IoRegion){.name = p->pci.base.type->name,
                           .ops = &region_ops,
                           .opaque = p,
                           .size = VIRTIO_PCI_BAR_SIZE};
    if (!plug(p, error)) {
        return false;
    }
    if (!virtio_init(vdev, error)) {
        pci_device_unplug(&p->pci);
        return false;
    }
    return true;
}

void virtio_pci_unrealize(VirtioPci *p)
{
    pci_device_unplug(&p->pci); /* removes the doorbells before their eventfds are closed */
    virtio_cleanup(&p->vdev);
}

void virtio_pci_reset(Device *dev)
{
    VirtioPci *p = from_device(dev);
    assert_bql();
    virtio_reset(&p->vdev);
    pci_device_reset(&p->pci);
    follow_bus_master(p);
}

bool virtio_pci_co_start(Device *dev, GError **error)
{
    enter_main();
    enter_coroutine();
    return virtio_co_start(&from_device(dev)->vdev, error);
}

void virtio_pci_co_stop(Device *dev)
{
    enter_main();
    enter_coroutine();
    virtio_co_stop(&from_device(dev)->vdev);
}

void virtio_pci_pre_save(Device *dev)
{
    assert_bql();
    pci_device_pre_save(&from_device(dev)->pci);
}

bool virtio_pci_check_state(const Device *dev, const void *state, GError **error)
{
    return virtio_check_state(&((const VirtioPci *)(const void *)dev)->vdev, state, error);
}

bool virtio_pci_post_load(Device *dev, GError **error)
{
    VirtioPci *p = from_device(dev);
    assert_bql();
    if (!virtio_check_state(&p->vdev, p->vdev.state, error)) {
        return false;
    }
    assert_virtio_state(&p->vdev);
    pci_device_post_load(&p->pci);
    follow_bus_master(p);
    pci_intx_update(&p->pci, intx_cause, p);
    return true;
}
