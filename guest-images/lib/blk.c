/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/blk.h"
#include "lib/bootinfo.h"
#include "lib/clock.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/interrupts.h"
#include "lib/irqchip.h"
#include "lib/lapic.h"
#include "lib/scsi.h"
#include "lib/smp.h"
#include "lib/virtio_regs.h"

#define FEATURE_SEG_MAX (1ull << 2)
#define FEATURE_READ_ONLY (1ull << 5)
#define FEATURE_FLUSH (1ull << 9)
#define FEATURE_QUEUES (1ull << 12)
#define FEATURE_DISCARD (1ull << 13)
#define FEATURE_WRITE_ZEROES (1ull << 14)

#define CONFIG_CAPACITY 0
#define CONFIG_SEG_MAX 12
#define CONFIG_QUEUES 34
#define CONFIG_DISCARD_SECTORS 36
#define CONFIG_DISCARD_SEGMENTS 40
#define CONFIG_ZEROES_SECTORS 48
#define CONFIG_ZEROES_SEGMENTS 52
#define CONFIG_ZEROES_UNMAP 56

#define SCSI_CONFIG_QUEUES 0
#define SCSI_CONFIG_SEG_MAX 4
#define SCSI_MAX_SECTORS 65535 /* of an UNMAP or WRITE SAME */
#define SCSI_MAX_RANGES 8

#define PCI_INTERRUPT_LINE 0x3c
#define PCI_INTERRUPT_PIN 0x3d
#define LIMIT_DEFAULT_MS 60000
#define WATCHDOG_NS (CLOCK_NS_PER_S / 2)

static BlkDevice device;
static BlkQueue *queue_of_vector[256];
static uint64_t limit_ns, watchdog_count;
static uint64_t progress_ns[CPU_MAX];

static void note_interrupt(BlkQueue *queue)
{
    queue->interrupted = 1;
    queue->interrupts++;
}

static void on_msix(InterruptFrame *frame)
{
    note_interrupt(queue_of_vector[frame->vector]);
    lapic_end_interrupt();
}

static void on_intx(InterruptFrame *frame)
{
    if (virtio_read_isr(&device.virtio) & 1) {
        for (unsigned i = 0; i < device.queue_count; i++) {
            note_interrupt(&device.queues[i]);
        }
    }
    lapic_end_interrupt();
}

/* Wakes a CPU from hlt periodically, so that a lost interrupt is noticed. */
static void on_watchdog(InterruptFrame *frame)
{
    lapic_end_interrupt();
}

static void read_mode(BlkDevice *blk)
{
    blk->mode = BLK_MODE_POLL;
    if (bootinfo_is_value("mode", "irq")) {
        blk->mode = BLK_MODE_IRQ;
    } else if (bootinfo_is_value("mode", "intx")) {
        blk->mode = BLK_MODE_INTX;
    } else if (bootinfo_has_word("mode") && !bootinfo_is_value("mode", "poll")) {
        guest_refuse(EXIT_USAGE, "mode= is poll, irq or intx");
    }
}

static void negotiate(BlkDevice *blk)
{
    uint64_t wanted = FEATURE_SEG_MAX | FEATURE_READ_ONLY | FEATURE_FLUSH | FEATURE_QUEUES |
                      FEATURE_DISCARD | FEATURE_WRITE_ZEROES;
    wanted = blk->scsi ? 0 : wanted;
    wanted |= bootinfo_get_number("indirect", 1) ? VIRTIO_F_INDIRECT_DESC : 0;
    wanted |= bootinfo_get_number("event_idx", 1) ? VIRTIO_F_EVENT_IDX : 0;
    virtio_negotiate(&blk->virtio, wanted);
}

static void read_config(BlkDevice *blk)
{
    const VirtioDevice *dev = &blk->virtio;
    uint64_t features = dev->features;
    blk->sector_count = virtio_config64(dev, CONFIG_CAPACITY);
    blk->segment_max = features & FEATURE_SEG_MAX ? virtio_config32(dev, CONFIG_SEG_MAX) : 1;
    blk->read_only = features & FEATURE_READ_ONLY;
    blk->can_flush = features & FEATURE_FLUSH;
    blk->can_discard = features & FEATURE_DISCARD;
    blk->can_write_zeroes = features & FEATURE_WRITE_ZEROES;
    if (blk->can_discard) {
        blk->discard_max_sectors = virtio_config32(dev, CONFIG_DISCARD_SECTORS);
        blk->discard_max_segments = virtio_config32(dev, CONFIG_DISCARD_SEGMENTS);
    }
    if (blk->can_write_zeroes) {
        blk->zeroes_max_sectors = virtio_config32(dev, CONFIG_ZEROES_SECTORS);
        blk->zeroes_max_segments = virtio_config32(dev, CONFIG_ZEROES_SEGMENTS);
        blk->may_unmap = virtio_config8(dev, CONFIG_ZEROES_UNMAP);
    }
}

/* The capacity is read when the queues work. */
static void read_scsi_config(BlkDevice *blk)
{
    blk->segment_max = virtio_config32(&blk->virtio, SCSI_CONFIG_SEG_MAX);
    blk->can_flush = blk->can_discard = blk->can_write_zeroes = blk->may_unmap = true;
    blk->discard_max_sectors = blk->zeroes_max_sectors = SCSI_MAX_SECTORS;
    blk->discard_max_segments = SCSI_MAX_RANGES;
    blk->zeroes_max_segments = 1;
}

/* Interrupt Line has the routing as firmware set it: in skiff the pin of the IOAPIC; in QEMU a PIC
 * interrupt, since its q35 swizzles slots 0-24 over PIRQ E-H, which are GSI 20-23. */
static unsigned intx_gsi(const PciDevice *pci, unsigned pin)
{
    unsigned line = pci_read8(pci, PCI_INTERRUPT_LINE);
    return line >= 16 && line < 24 ? line : 20 + (pci->slot + pin - 1) % 4;
}

static void route_intx(BlkDevice *blk)
{
    const PciDevice *pci = blk->virtio.pci;
    unsigned pin = pci_read8(pci, PCI_INTERRUPT_PIN);
    if (pin == 0 || pci->bus != 0) {
        guest_refuse(EXIT_MISSING, "mode=intx: the device has no INTx pin on bus 0");
    }
    uint64_t gsi = bootinfo_get_number("gsi", intx_gsi(pci, pin));
    ioapic_mask_all();
    ioapic_route((unsigned)gsi, interrupts_alloc_vector(on_intx), cpu_this()->apic_id,
                 IOAPIC_LEVEL_HIGH);
}

static void setup_queue(BlkDevice *blk, unsigned index, unsigned cpu_count)
{
    BlkQueue *queue = &blk->queues[index];
    queue->cpu_index = index % cpu_count;
    uint16_t entry = VIRTIO_NO_VECTOR;
    if (blk->mode == BLK_MODE_IRQ) {
        uint8_t vector = interrupts_alloc_vector(on_msix);
        entry = (uint16_t)index;
        queue_of_vector[vector] = queue;
        pci_msix_route(blk->virtio.pci, entry, smp_cpu(queue->cpu_index)->apic_id, vector);
    }
    unsigned first = blk->scsi ? SCSI_FIRST_QUEUE : 0;
    virtqueue_setup(&queue->ring, &blk->virtio, (uint16_t)(first + index),
                    (uint16_t)bootinfo_get_number("qsize", 256), entry);
}

static void setup_queues(BlkDevice *blk)
{
    uint64_t offered = 1;
    if (blk->scsi) {
        offered = virtio_config32(&blk->virtio, SCSI_CONFIG_QUEUES);
    } else if (blk->virtio.features & FEATURE_QUEUES) {
        offered = virtio_config16(&blk->virtio, CONFIG_QUEUES);
    }
    offered = offered < BLK_MAX_QUEUES ? offered : BLK_MAX_QUEUES;
    uint64_t wanted = bootinfo_get_number("queues", offered);
    if (wanted == 0 || wanted > offered) {
        guest_refuse(EXIT_USAGE, "queues=%lu, the device has %lu", wanted, offered);
    }
    blk->queue_count = (unsigned)wanted;
    if (blk->mode == BLK_MODE_IRQ) {
        if (blk->virtio.pci->msix_count < blk->queue_count) {
            guest_refuse(EXIT_MISSING, "mode=irq: %u MSI-X entries for %u queues",
                         blk->virtio.pci->msix_count, blk->queue_count);
        }
        pci_msix_enable(blk->virtio.pci);
    }
    unsigned cpu_count = blk->mode != BLK_MODE_INTX ? smp_count() : 1;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        setup_queue(blk, i, cpu_count);
    }
}

static void start_watchdog(void *arg)
{
    uint8_t vector = *(const uint8_t *)arg;
    lapic_timer_setup(vector | LAPIC_TIMER_PERIODIC);
    lapic_timer_start((uint32_t)watchdog_count);
}

static void prepare_waiting(BlkDevice *blk)
{
    limit_ns = bootinfo_get_number("limit_ms", LIMIT_DEFAULT_MS) * CLOCK_NS_PER_MS;
    if (blk->mode == BLK_MODE_POLL) {
        return;
    }
    static uint8_t vector;
    vector = interrupts_alloc_vector(on_watchdog);
    watchdog_count = lapic_timer_measure_hz() * WATCHDOG_NS / CLOCK_NS_PER_S;
    smp_run_all(start_watchdog, &vector);
}

BlkDevice *blk_open(void)
{
    BlkDevice *blk = &device;
    read_mode(blk);
    smp_start();
    blk->scsi = bootinfo_is_value("bus", "scsi");
    if (!virtio_find(&blk->virtio, blk->scsi ? VIRTIO_TYPE_SCSI : VIRTIO_TYPE_BLOCK,
                     (unsigned)bootinfo_get_number("disk", 0))) {
        guest_refuse(EXIT_MISSING, "no virtio-%s device", blk->scsi ? "scsi" : "blk");
    }
    negotiate(blk);
    if (blk->scsi) {
        read_scsi_config(blk);
    } else {
        read_config(blk);
    }
    if (blk->mode == BLK_MODE_INTX) {
        route_intx(blk);
    }
    setup_queues(blk);
    prepare_waiting(blk);
    virtio_go(&blk->virtio);
    if (blk->scsi) {
        blk->sector_count = scsi_read_capacity(&blk->queues[0].ring);
    }
    return blk;
}

const char *blk_mode_name(const BlkDevice *blk)
{
    static const char *const names[] = {"poll", "irq", "intx"};
    return names[blk->mode];
}

void blk_note_progress(void)
{
    progress_ns[cpu_this()->index] = clock_now_ns();
}

static _Noreturn void fail_waiting(BlkDevice *blk, const BlkQueue *queue)
{
    const Virtqueue *ring = &queue->ring;
    const volatile uint16_t *used = (const volatile uint16_t *)ring->used;
    guest_fail(
        "queue %u: no completion for %lu ms: made available %u, device has used %u, taken %u, "
        "interrupts %lu, device status 0x%x",
        ring->index, limit_ns / CLOCK_NS_PER_MS, ring->kicked_idx, used[1], ring->used_idx,
        queue->interrupts, virtio_status(&blk->virtio));
}

/* Clears the interrupt notes of the calling CPU's queues. Returns whether there were any. */
static bool take_interrupts(BlkDevice *blk)
{
    bool any = false;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        BlkQueue *queue = &blk->queues[i];
        if (queue->cpu_index == cpu_this()->index && queue->interrupted) {
            queue->interrupted = 0;
            any = true;
        }
    }
    return any;
}

/* Enables the interrupts of the calling CPU's queues; false when a completion is already there. */
static bool arm_interrupts(BlkDevice *blk)
{
    bool armed = true;
    for (unsigned i = 0; i < blk->queue_count; i++) {
        BlkQueue *queue = &blk->queues[i];
        if (queue->cpu_index == cpu_this()->index && !virtqueue_want_interrupt(&queue->ring)) {
            armed = false;
        }
    }
    return armed;
}

static void check_limit(BlkDevice *blk)
{
    if (clock_now_ns() - progress_ns[cpu_this()->index] < limit_ns) {
        return;
    }
    for (unsigned i = 0; i < blk->queue_count; i++) {
        const BlkQueue *queue = &blk->queues[i];
        if (queue->cpu_index == cpu_this()->index &&
            queue->ring.kicked_idx != queue->ring.used_idx) {
            fail_waiting(blk, queue);
        }
    }
}

void blk_wait(BlkDevice *blk)
{
    if (blk->mode == BLK_MODE_POLL) {
        cpu_pause();
        check_limit(blk);
        return;
    }
    if (!arm_interrupts(blk)) {
        return;
    }
    while (!take_interrupts(blk)) {
        cpu_wait_interrupt();
        check_limit(blk);
    }
}
