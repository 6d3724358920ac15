/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/net.h"
#include "lib/bootinfo.h"
#include "lib/clock.h"
#include "lib/cpu.h"
#include "lib/exit.h"
#include "lib/interrupts.h"
#include "lib/lapic.h"
#include "lib/memory.h"
#include "lib/text.h"

#define FEATURE_MAC (1ull << 5)
#define FEATURE_STATUS (1ull << 16)

#define CONFIG_MAC 0
#define CONFIG_STATUS 6
#define STATUS_LINK_UP 1

#define QUEUE_RX 0
#define QUEUE_TX 1
#define HEADER_SIZE 12 /* with VERSION_1 */
#define WAKE_NS (CLOCK_NS_PER_S / 2)

/* A queue entry: its header and frame are one buffer. */
typedef struct NetBuffer {
    struct NetBuffer *next;
    uint8_t data[HEADER_SIZE + NET_FRAME_MAX];
} NetBuffer;

static NetDevice device;

static void on_frame(InterruptFrame *frame)
{
    device.interrupted = 1;
    device.interrupts++;
    lapic_end_interrupt();
}

/* Wakes the CPU from hlt periodically, so that the caller sees the time pass. */
static void on_tick(InterruptFrame *frame)
{
    device.interrupted = 1;
    lapic_end_interrupt();
}

static void read_mode(NetDevice *net)
{
    net->irq = bootinfo_is_value("mode", "irq");
    if (!net->irq && bootinfo_has_word("mode") && !bootinfo_is_value("mode", "poll")) {
        guest_refuse(EXIT_USAGE, "mode= is poll or irq");
    }
}

static uint16_t prepare_interrupts(NetDevice *net)
{
    if (!net->irq) {
        return VIRTIO_NO_VECTOR;
    }
    if (net->virtio.pci->msix_count == 0) {
        guest_refuse(EXIT_MISSING, "mode=irq: the device has no MSI-X");
    }
    lapic_init();
    pci_msix_enable(net->virtio.pci);
    pci_msix_route(net->virtio.pci, 0, lapic_id(), interrupts_alloc_vector(on_frame));
    uint64_t count = lapic_timer_measure_hz() * WAKE_NS / CLOCK_NS_PER_S;
    lapic_timer_setup(interrupts_alloc_vector(on_tick) | LAPIC_TIMER_PERIODIC);
    lapic_timer_start((uint32_t)count);
    return 0;
}

static void offer(NetDevice *net, NetBuffer *b)
{
    VirtqueueBuffer whole = {b->data, sizeof(b->data)};
    if (!virtqueue_add(&net->rx, &whole, 0, 1, b, false)) {
        guest_fail("virtio-net: no free descriptor to receive");
    }
}

static void fill_queues(NetDevice *net)
{
    for (unsigned i = 0; i < net->rx.size; i++) {
        offer(net, memory_alloc(sizeof(NetBuffer), 64));
    }
    for (unsigned i = 0; i < net->tx.size; i++) {
        NetBuffer *b = memory_alloc(sizeof(NetBuffer), 64);
        b->next = net->free_tx;
        net->free_tx = b;
    }
}

NetDevice *net_open(void)
{
    NetDevice *net = &device;
    VirtioDevice *virtio = &net->virtio;
    read_mode(net);
    clock_init();
    if (!virtio_find(virtio, VIRTIO_TYPE_NET, (unsigned)bootinfo_get_number("nic", 0))) {
        guest_refuse(EXIT_MISSING, "no virtio-net device");
    }
    uint64_t wanted = FEATURE_MAC | FEATURE_STATUS;
    wanted |= bootinfo_get_number("indirect", 1) ? VIRTIO_F_INDIRECT_DESC : 0;
    wanted |= bootinfo_get_number("event_idx", 1) ? VIRTIO_F_EVENT_IDX : 0;
    virtio_negotiate(virtio, wanted);
    if (!(virtio->features & FEATURE_MAC)) {
        guest_refuse(EXIT_MISSING, "the virtio-net device has no address");
    }
    for (unsigned i = 0; i < NET_MAC_SIZE; i++) {
        net->mac[i] = virtio_config8(virtio, CONFIG_MAC + i);
    }
    net->has_link_status = virtio->features & FEATURE_STATUS;
    uint16_t size = (uint16_t)bootinfo_get_number("qsize", 256);
    virtqueue_setup(&net->rx, virtio, QUEUE_RX, size, prepare_interrupts(net));
    virtqueue_setup(&net->tx, virtio, QUEUE_TX, size, VIRTIO_NO_VECTOR);
    fill_queues(net);
    virtio_go(virtio);
    net_flush(net);
    return net;
}

static void take_back_sent(NetDevice *net)
{
    NetBuffer *b;
    uint32_t written;
    while ((b = virtqueue_take(&net->tx, &written)) != NULL) {
        b->next = net->free_tx;
        net->free_tx = b;
    }
}

uint8_t *net_frame_to_send(NetDevice *net)
{
    if (net->free_tx == NULL) {
        take_back_sent(net);
    }
    return net->free_tx != NULL ? net->free_tx->data + HEADER_SIZE : NULL;
}

void net_send(NetDevice *net, uint32_t size)
{
    NetBuffer *b = net->free_tx;
    net->free_tx = b->next;
    memset(b->data, 0, HEADER_SIZE);
    VirtqueueBuffer whole = {b->data, HEADER_SIZE + size};
    if (!virtqueue_add(&net->tx, &whole, 1, 0, b, false)) {
        guest_fail("virtio-net: no free descriptor to send");
    }
    net->sent++;
}

const uint8_t *net_receive(NetDevice *net, uint32_t *size)
{
    if (net->current != NULL) {
        offer(net, net->current);
    }
    uint32_t written;
    NetBuffer *b = net->current = virtqueue_take(&net->rx, &written);
    if (b == NULL) {
        return NULL;
    }
    if (written < HEADER_SIZE || written > sizeof(b->data)) {
        guest_fail("virtio-net: a received frame has %u bytes with its header", written);
    }
    net->received++;
    *size = written - HEADER_SIZE;
    return b->data + HEADER_SIZE;
}

void net_flush(NetDevice *net)
{
    virtqueue_kick(&net->rx);
    virtqueue_kick(&net->tx);
}

void net_wait(NetDevice *net)
{
    if (!net->irq) {
        cpu_pause();
        return;
    }
    if (!virtqueue_want_interrupt(&net->rx)) {
        return;
    }
    while (!net->interrupted) {
        cpu_wait_interrupt();
    }
    net->interrupted = 0;
}

bool net_link_up(const NetDevice *net)
{
    return !net->has_link_status ||
           (virtio_config16(&net->virtio, CONFIG_STATUS) & STATUS_LINK_UP) != 0;
}
