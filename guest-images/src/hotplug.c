/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Virtio devices are plugged and unplugged: one disk, one source of random bytes, one set of serial
 * ports at a time. The disk's earlier content is checked; it is written and read again, and then
 * used until its unplug. Random bytes are read all the time; each port sends back the bytes it
 * receives. A device whose unplug the host requests is ejected: every second one with its requests
 * in flight, without a reset (with the word `rude` all of them). The power button ends the guest,
 * which prints its counts.
 */
#include "lib/blk.h"
#include "lib/clock.h"
#include "lib/guest.h"
#include "lib/hotplug.h"
#include "lib/memory.h"
#include "lib/pattern.h"
#include "lib/power.h"
#include "lib/random.h"

#define LIMIT_NS (100 * CLOCK_NS_PER_S)

#define KEPT_SECTORS 512u /* checked */
#define BUSY_SECTORS 512u /* after those: written continuously, contents unknown */
#define BATCH 16u
#define SEED 7

#define RANDOM_BYTES 64u

#define F_MULTIPORT (1ull << 1)
#define CONTROL_RX 2
#define CONTROL_TX 3
#define PORT_RX 4 /* of port 1 */
#define PORT_TX 5
#define PORT_BUFFERS 4u
#define PORT_BUFFER_BYTES 256u
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_REMOVE = 2, PORT_READY = 3, PORT_OPEN = 6 };

typedef struct SerialControl {
    uint32_t id;
    uint16_t event, value;
} SerialControl;

typedef struct DiskRequest {
    BlkHeader header;
    uint8_t data[BLK_SECTOR_SIZE];
    volatile uint8_t status;
} DiskRequest;

/* A plugged device; slot 0: none. */
typedef struct Plugged {
    const char *name;
    uint8_t slot;
    VirtioDevice virtio;
    unsigned seen, ejected;
} Plugged;

static Plugged disk = {.name = "disk"}, rng = {.name = "rng"}, serial = {.name = "serial"};
static Virtqueue disk_queue, rng_queue, serial_queues[6];
static DiskRequest *batch, *busy;
static uint32_t kept[KEPT_SECTORS]; /* generation of each sector */
static uint64_t disk_requests, random_fetched, bytes_echoed;
static unsigned ports_seen, ports_gone;
static uint8_t *random_buffer;
static uint8_t (*port_buffers)[PORT_BUFFER_BYTES], (*control_buffers)[PORT_BUFFER_BYTES];
static Random random;

/* ---- disk ---- */

static void disk_send(DiskRequest *r, uint32_t type, uint64_t sector)
{
    bool reads = type == BLK_READ;
    r->header = (BlkHeader){.type = type, .sector = sector};
    r->status = BLK_STATUS_UNTOUCHED;
    VirtqueueBuffer buffers[] = {{&r->header, sizeof(r->header)},
                                 {r->data, BLK_SECTOR_SIZE},
                                 {(void *)(uintptr_t)&r->status, 1}};
    if (!virtqueue_add(&disk_queue, buffers, reads ? 1 : 2, reads ? 2 : 1, r, false)) {
        guest_fail("disk: no room in the queue");
    }
    virtqueue_kick(&disk_queue);
}

/* The next completed request; NULL: none yet. */
static DiskRequest *disk_take(void)
{
    uint32_t written;
    DiskRequest *r = virtqueue_take(&disk_queue, &written);
    if (r && r->status != BLK_STATUS_OK) {
        guest_fail("disk %u: status %u of a request for sector %lu", disk.seen, r->status,
                   r->header.sector);
    }
    disk_requests += r != NULL;
    return r;
}

static void disk_finish(unsigned count)
{
    uint64_t deadline = clock_now_ns() + LIMIT_NS;
    while (count > 0) {
        if (disk_take()) {
            count--;
        } else if (clock_now_ns() > deadline) {
            guest_fail("disk %u: %u requests do not complete", disk.seen, count);
        }
    }
}

/* Reads BATCH neighbouring sectors from @first and checks them. */
static void disk_check(uint64_t first)
{
    for (unsigned i = 0; i < BATCH; i++) {
        disk_send(&batch[i], BLK_READ, first + i);
    }
    disk_finish(BATCH);
    for (unsigned i = 0; i < BATCH; i++) {
        if (!pattern_is_right(batch[i].data, first + i, kept[first + i], SEED)) {
            pattern_report(batch[i].data, first + i, kept[first + i], SEED);
            guest_fail("disk %u: sector %lu is not what was written", disk.seen, first + i);
        }
    }
}

static void disk_write(uint64_t first)
{
    for (unsigned i = 0; i < BATCH; i++) {
        kept[first + i] = PATTERN_FIRST + disk.seen;
        pattern_fill(batch[i].data, first + i, kept[first + i], SEED);
        disk_send(&batch[i], BLK_WRITE, first + i);
    }
    disk_finish(BATCH);
}

static void disk_keep_busy(DiskRequest *r)
{
    disk_send(r, BLK_WRITE, KEPT_SECTORS + random_below(&random, BUSY_SECTORS));
}

static void disk_plugged(void)
{
    virtio_negotiate(&disk.virtio, 0);
    virtqueue_setup(&disk_queue, &disk.virtio, 0, 256, VIRTIO_NO_VECTOR);
    virtio_go(&disk.virtio);
    uint64_t first = random_below(&random, KEPT_SECTORS / BATCH) * BATCH;
    disk_check((disk.seen * BATCH) % KEPT_SECTORS);
    disk_write(first);
    disk_check(first);
    for (unsigned i = 0; i < BATCH; i++) {
        disk_keep_busy(&busy[i]);
    }
}

static void disk_service(void)
{
    DiskRequest *r = disk_take();
    if (r) {
        disk_keep_busy(r);
    }
}

/* ---- random bytes ---- */

static void rng_ask(void)
{
    VirtqueueBuffer buffer = {random_buffer, RANDOM_BYTES};
    memset(random_buffer, 0, RANDOM_BYTES);
    if (!virtqueue_add(&rng_queue, &buffer, 0, 1, random_buffer, false)) {
        guest_fail("rng: no room in the queue");
    }
    virtqueue_kick(&rng_queue);
}

static bool rng_take(void)
{
    uint32_t written;
    uint8_t sum = 0;
    if (!virtqueue_take(&rng_queue, &written)) {
        return false;
    }
    for (unsigned i = 0; i < RANDOM_BYTES; i++) {
        sum |= random_buffer[i];
    }
    if (written != RANDOM_BYTES || sum == 0) {
        guest_fail("rng %u: %u bytes, or all are zero", rng.seen, written);
    }
    random_fetched += written;
    return true;
}

static void rng_plugged(void)
{
    virtio_negotiate(&rng.virtio, 0);
    virtqueue_setup(&rng_queue, &rng.virtio, 0, 8, VIRTIO_NO_VECTOR);
    virtio_go(&rng.virtio);
    rng_ask();
    uint64_t deadline = clock_now_ns() + LIMIT_NS;
    while (!rng_take()) {
        if (clock_now_ns() > deadline) {
            guest_fail("rng %u: no random bytes", rng.seen);
        }
    }
    rng_ask();
}

static void rng_service(void)
{
    if (rng_take()) {
        rng_ask();
    }
}

/* ---- serial ports ---- */

static void serial_offer(unsigned index, uint8_t *buffer)
{
    VirtqueueBuffer b = {buffer, PORT_BUFFER_BYTES};
    if (!virtqueue_add(&serial_queues[index], &b, 0, 1, buffer, false)) {
        guest_fail("serial: no room in queue %u", index);
    }
    virtqueue_kick(&serial_queues[index]);
}

/* Sends and waits until the device has read it. */
static void serial_send(unsigned index, void *data, uint32_t size)
{
    VirtqueueBuffer b = {data, size};
    uint32_t written;
    uint64_t deadline = clock_now_ns() + LIMIT_NS;
    if (!virtqueue_add(&serial_queues[index], &b, 1, 0, data, false)) {
        guest_fail("serial: no room in queue %u", index);
    }
    virtqueue_kick(&serial_queues[index]);
    while (!virtqueue_take(&serial_queues[index], &written)) {
        if (clock_now_ns() > deadline) {
            guest_fail("serial %u: queue %u does not take what is sent", serial.seen, index);
        }
    }
}

static void serial_tell(uint32_t id, uint16_t event)
{
    SerialControl m = {.id = id, .event = event, .value = 1};
    serial_send(CONTROL_TX, &m, sizeof(m));
}

static void serial_plugged(void)
{
    virtio_negotiate(&serial.virtio, F_MULTIPORT);
    for (uint16_t i = 0; i < 6; i++) {
        virtqueue_setup(&serial_queues[i], &serial.virtio, i, 16, VIRTIO_NO_VECTOR);
    }
    virtio_go(&serial.virtio);
    for (unsigned i = 0; i < PORT_BUFFERS; i++) {
        serial_offer(CONTROL_RX, control_buffers[i]);
        serial_offer(PORT_RX, port_buffers[i]);
    }
    serial_tell(UINT32_MAX, DEVICE_READY);
}

static void serial_obey(const SerialControl *m)
{
    if (m->id != 1) {
        guest_fail("serial %u: event %u for port %u", serial.seen, m->event, m->id);
    }
    if (m->event == PORT_ADD) {
        ports_seen++;
        serial_tell(1, PORT_READY);
        serial_tell(1, PORT_OPEN);
    } else if (m->event == PORT_REMOVE) {
        ports_gone++;
    }
}

static void serial_service(void)
{
    uint32_t written;
    uint8_t *buffer = virtqueue_take(&serial_queues[CONTROL_RX], &written);
    if (buffer) {
        SerialControl m;
        memcpy(&m, buffer, sizeof(m));
        serial_offer(CONTROL_RX, buffer);
        serial_obey(&m);
    }
    buffer = virtqueue_take(&serial_queues[PORT_RX], &written);
    if (buffer) {
        bytes_echoed += written;
        serial_send(PORT_TX, buffer, written);
        serial_offer(PORT_RX, buffer);
    }
}

/* ---- plug and unplug ---- */

static void on_inserted(uint8_t slot)
{
    PciDevice *pci = pci_found_in_slot(slot);
    unsigned type = pci ? virtio_type(pci) : 0;
    Plugged *p = type == VIRTIO_TYPE_BLOCK    ? &disk
                 : type == VIRTIO_TYPE_RANDOM ? &rng
                 : type == VIRTIO_TYPE_SERIAL ? &serial
                                              : NULL;
    if (p && p->slot == slot) {
        return; /* it was found at the start, and is announced now */
    }
    if (!p || p->slot) {
        guest_fail("slot %u: %s", slot, p ? "a second one of its kind" : "nothing that is known");
    }
    virtio_attach(&p->virtio, pci);
    p->slot = slot;
    p->seen++;
    if (p == &disk) {
        disk_plugged();
    } else if (p == &rng) {
        rng_plugged();
    } else {
        serial_plugged();
    }
}

static void let_go(Plugged *p)
{
    uint8_t slot = p->slot;
    if (p->ejected % 2 == 0 && !bootinfo_has_word("rude")) {
        virtio_reset(&p->virtio);
    }
    hotplug_eject(slot);
    pci_forget(p->virtio.pci);
    p->slot = 0;
    p->ejected++;
}

static void on_wanted(uint8_t slot)
{
    Plugged *all[] = {&disk, &rng, &serial};
    for (unsigned i = 0; i < 3; i++) {
        if (all[i]->slot == slot) {
            let_go(all[i]);
            return;
        }
    }
    guest_fail("slot %u is wanted back and has none of ours", slot);
}

static void take_news(void)
{
    HotplugNews news = hotplug_fetch();
    for (uint8_t slot = 0; slot < 32; slot++) {
        if (news.inserted >> slot & 1) {
            on_inserted(slot);
        }
        if (news.wanted >> slot & 1) {
            on_wanted(slot);
        }
    }
}

/* Takes the devices plugged before the start. */
static void take_what_is_there(void)
{
    unsigned count = pci_scan();
    for (unsigned i = 0; i < count; i++) {
        const PciDevice *pci = pci_device(i);
        if (pci->bus == 0 && pci->func == 0 && virtio_type(pci)) {
            on_inserted(pci->slot);
        }
    }
}

/* Polled at intervals only, since it costs an exit. */
static bool power_button(void)
{
    static uint32_t turn;
    return turn++ % 4096 == 0 && power_button_pressed();
}

void guest_main(void)
{
    clock_init();
    hotplug_init();
    batch = memory_alloc(BATCH * sizeof(*batch), 64);
    busy = memory_alloc(BATCH * sizeof(*busy), 64);
    random_buffer = memory_alloc(RANDOM_BYTES, 64);
    port_buffers = memory_alloc(PORT_BUFFERS * PORT_BUFFER_BYTES, 64);
    control_buffers = memory_alloc(PORT_BUFFERS * PORT_BUFFER_BYTES, 64);
    random.state = bootinfo_get_number("seed", 1);
    take_what_is_there();
    printf("hotplug: ready\n");
    cpu_enable_interrupts();
    while (!power_button()) {
        if (hotplug_signalled()) {
            take_news();
        }
        if (disk.slot) {
            disk_service();
        }
        if (rng.slot) {
            rng_service();
        }
        if (serial.slot) {
            serial_service();
        }
    }
    cpu_disable_interrupts();
    printf("hotplug: PASS disks=%u rngs=%u serials=%u ports=%u ejected=%u requests=%lu random=%lu "
           "echoed=%lu\n",
           disk.seen, rng.seen, serial.seen, ports_seen,
           disk.ejected + rng.ejected + serial.ejected, disk_requests, random_fetched,
           bytes_echoed);
}
