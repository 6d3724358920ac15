/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile driver of virtio-blk, virtio-scsi, virtio-net, virtio-rng, virtio-balloon, virtio-serial,
 * vhost-vsock, vhost-net and vhost-user-fs: rings, common configuration, MSI-X,
 * PCI config space and its window, in process.
 *
 *   fuzz_virtio [--seconds N] [--seed N] [--steps N] [--only virtio-net]
 *
 * After each round of hostile acts the device must have settled: it works, or sits in NEEDS_RESET.
 * Then a well-behaved driver resets it, and must find it working. ASan and the asserts judge the
 * rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "tests/fuzz/fuzz_virtio_targets.h"
#include "util/log.h"

/* ---- values ---- */

static uint64_t odd_number(void)
{
    static const uint64_t numbers[] = {
        0,          1,          2,          3,          7,          8,
        15,         16,         255,        256,        0x7fff,     0x8000,
        0xffff,     0x10000,    0x7fffffff, 1u << 31,   UINT32_MAX, 1ull << 32,
        1ull << 55, 1ull << 63, INT64_MAX,  UINT64_MAX, 512,        UINT64_MAX - 511};
    if (fuzz_below(3) == 0) {
        return fuzz_random();
    }
    return FUZZ_PICK(numbers) + (fuzz_below(4) == 0 ? fuzz_below(64) : 0);
}

static uint64_t odd_gpa(Fuzz *f)
{
    VirtioGuestQueue *q = &f->queues[fuzz_below(f->target->queues)];
    switch (fuzz_below(8)) {
    case 0:
        return odd_number();
    case 1: /* the rings themselves */
        return q->ring.desc_gpa + fuzz_below(0x3000);
    case 2:
        return FAKE_RAM_SIZE - fuzz_below(64);
    case 3: /* the device's own registers */
        return f->guest.common + fuzz_below(0x4000);
    default:
        return f->scratch + fuzz_below(SCRATCH_BYTES);
    }
}

/* ---- hostile acts ---- */

static void act_common(Fuzz *f)
{
    unsigned size = 1u << fuzz_below(4);
    unsigned offset =
        fuzz_below(4) ? fuzz_below(VIRTIO_COMMON_SIZE + 8) : fuzz_below(VIRTIO_PCI_BAR_SIZE);
    if (fuzz_below(3) == 0) {
        virtio_guest_read(&f->guest, f->guest.common + offset, size);
    } else {
        virtio_guest_write(&f->guest, f->guest.common + offset, odd_number(), size);
    }
}

static void act_status(Fuzz *f)
{
    static const uint8_t likely[] = {0, 1, 3, 11, 15, 15, 15, 64, 128, 255};
    virtio_guest_set_status(&f->guest, FUZZ_PICK(likely));
}

static void act_msix(Fuzz *f)
{
    const PciDevice *pci = &f->guest.dev->pci;
    uint64_t table = pci_get(pci, 0x10 + VIRTIO_PCI_MSIX_BAR * 4, 4) & ~0xfu;
    virtio_guest_write(&f->guest, table + fuzz_below(4096), odd_number(), 1u << fuzz_below(4));
    virtio_guest_read(&f->guest, table + fuzz_below(4096), 1u << fuzz_below(4));
}

static void act_pci_config(Fuzz *f)
{
    uint64_t config = virtio_guest_ecam(&f->guest);
    unsigned cap = f->guest.dev->window_cap;
    switch (fuzz_below(3)) {
    case 0:
        virtio_guest_write(&f->guest, config + fuzz_below(256), odd_number(), 1u << fuzz_below(3));
        return;
    case 1: /* the window, mostly aimed at the registers */
        virtio_guest_write(&f->guest, config + cap + 4,
                           fuzz_below(8) ? VIRTIO_PCI_BAR : fuzz_below(8), 1);
        virtio_guest_write(&f->guest, config + cap + 8,
                           fuzz_below(4) ? fuzz_below(VIRTIO_PCI_BAR_SIZE) : odd_number(), 4);
        virtio_guest_write(&f->guest, config + cap + 12, 1u << fuzz_below(4), 4);
        virtio_guest_write(&f->guest, config + cap + 16, odd_number(), 1u << fuzz_below(3));
        virtio_guest_read(&f->guest, config + cap + 16, 1u << fuzz_below(3));
        return;
    default:
        virtio_guest_read(&f->guest, config + fuzz_below(4096), 1u << fuzz_below(3));
        return;
    }
}

static void fill_descriptor(Fuzz *f, VringDesc *d, unsigned size)
{
    *d = (VringDesc){.addr = odd_gpa(f),
                     .len = fuzz_below(3) ? 1 + fuzz_below(4096) : (uint32_t)odd_number(),
                     .flags = (uint16_t)(fuzz_below(8) ? fuzz_below(4) : fuzz_below(16)),
                     .next = (uint16_t)(fuzz_below(16) ? fuzz_below(size) : odd_number())};
}

/* A table somewhere in the scratch memory, and a descriptor that points at it. */
static void act_indirect(Fuzz *f, VirtioGuestQueue *q)
{
    VringDesc table[8];
    unsigned count = 1 + fuzz_below(8);
    uint64_t gpa = f->scratch + fuzz_below(SCRATCH_BYTES - sizeof(table));
    for (unsigned i = 0; i < count; i++) {
        fill_descriptor(f, &table[i], count);
    }
    memcpy(virtio_bench_ram(f->bench, gpa, sizeof(table)), table, count * sizeof(VringDesc));
    q->ring.desc[fuzz_below(q->ring.size)] =
        (VringDesc){.addr = gpa,
                    .len = (uint32_t)(fuzz_below(8) ? count * sizeof(VringDesc) : odd_number()),
                    .flags = VRING_DESC_F_INDIRECT};
}

static void act_ring(Fuzz *f)
{
    VirtioGuestQueue *q = &f->queues[fuzz_below(f->target->queues)];
    if (!q->ring.size) {
        return;
    }
    for (unsigned i = fuzz_below(6); i > 0; i--) {
        fill_descriptor(f, &q->ring.desc[fuzz_below(q->ring.size)], q->ring.size);
    }
    if (fuzz_below(3) == 0) {
        act_indirect(f, q);
    }
    for (unsigned i = fuzz_below(4); i > 0; i--) {
        uint16_t head = (uint16_t)(fuzz_below(16) ? fuzz_below(q->ring.size) : odd_number());
        vring_driver_offer(&q->ring, head);
    }
    if (fuzz_below(32) == 0) {
        atomic_store(&q->ring.avail->idx, (uint16_t)odd_number());
    }
    if (fuzz_below(8) == 0) {
        atomic_store(&q->ring.avail->flags, (uint16_t)odd_number());
        vring_driver_set_used_event(&q->ring, (uint16_t)odd_number());
    }
    virtio_guest_kick(q);
}

/* A chain of the right shape with odd contents: gets past the ring into the device. */
static void act_request(Fuzz *f)
{
    VirtioGuestQueue *q = &f->queues[fuzz_below(f->target->queues)];
    if (!q->ring.size) {
        return;
    }
    uint32_t header[4] = {(uint32_t)odd_number() % 16, (uint32_t)odd_number(),
                          (uint32_t)odd_number(), fuzz_below(2) ? 0 : (uint32_t)odd_number()};
    uint64_t gpa = f->scratch + fuzz_below(SCRATCH_BYTES - 0x4000);
    memcpy(virtio_bench_ram(f->bench, gpa, sizeof(header)), header, sizeof(header));
    VringBuffer chain[] = {{gpa, fuzz_below(8) ? 16 : 1 + fuzz_below(32), false},
                           {fuzz_below(4) ? gpa + 64 : odd_gpa(f),
                            (1 + fuzz_below(16)) * (fuzz_below(4) ? 512 : 1), fuzz_below(2)},
                           {gpa + 32, 1 + fuzz_below(2), true}};
    unsigned from = fuzz_below(8) == 0, count = 3 - from - (fuzz_below(8) == 0);
    virtio_guest_add(q, chain + from, count);
}

static void act_disk(Fuzz *f)
{
    if (!f->disk.node) {
        return;
    }
    if (!f->holding) {
        blk_disk_set_manual(&f->disk, true);
        f->holding = true;
    } else {
        blk_disk_complete(&f->disk, fuzz_below(4) ? 0 : fuzz_below(2) ? -EIO : -ENOSPC);
    }
}

static void act_life(Fuzz *f)
{
    if (f->running) {
        disk_release(f); /* a stop waits for what is in flight */
        virtio_bench_stop(f->bench, f->dev);
    } else {
        virtio_bench_start(f->bench, f->dev);
    }
    f->running = !f->running;
}

static void act_chardev(Fuzz *f)
{
    static const char text[] = "what comes from the host";
    if (!f->chardev) {
        return;
    }
    switch (fuzz_below(4)) {
    case 0:
        fake_chardev_make_room(f->chardev, fuzz_below(4096));
        return;
    case 1:
        fake_chardev_event(f->chardev, fuzz_below(2) ? CHARDEV_OPENED : CHARDEV_CLOSED);
        return;
    default:
        fake_chardev_input(f->chardev, text, 1 + fuzz_below(sizeof(text)));
        return;
    }
}

/* The network: frames that come, a back end that is full or in error, a link that is down. */
static void act_network(Fuzz *f)
{
    static uint8_t frame[NET_FRAME_MAX - sizeof(NetHeader)];
    NetHeader h = {.flags = (uint8_t)fuzz_below(4), .gso_size = (uint16_t)odd_number()};
    if (!f->net) {
        return;
    }
    switch (fuzz_below(8)) {
    case 0:
        fake_net_set_full(f->net, fuzz_below(2));
        return;
    case 1:
        fake_net_set_send_error(f->net, fuzz_below(2) ? EINVAL : 0);
        return;
    case 2:
        enter_main();
        net_set_link("net0", fuzz_below(2), NULL);
        return;
    case 3:
        fake_net_clear(f->net);
        return;
    default:
        memset(frame, fuzz_below(2) ? 0xff : (int)fuzz_below(256), 64);
        frame[12] = 0x81; /* a VLAN */
        frame[13] = 0;
        for (unsigned i = fuzz_below(4); i > 0; i--) {
            size_t bytes = fuzz_below(3) ? fuzz_below(2000) : fuzz_below(sizeof(frame) + 1);
            fake_net_push(f->net, fuzz_below(2), &h, frame, bytes);
        }
        return;
    }
}

/* A command of the control queue that is nearly right. */
static void act_net_control(Fuzz *f)
{
    VirtioGuestQueue *q = &f->queues[fuzz_below(2) ? 4 : 2];
    uint32_t bytes = fuzz_below(3) ? fuzz_below(12) : fuzz_below(2000);
    uint8_t *at = virtio_bench_ram(f->bench, f->scratch, 4096);
    if (!f->net || !q->ring.size) {
        return;
    }
    at[0] = (uint8_t)fuzz_below(7);
    at[1] = (uint8_t)fuzz_below(7);
    for (unsigned i = 2; i < 20; i++) {
        at[i] = fuzz_below(3) ? 0 : (uint8_t)fuzz_below(4);
    }
    VringBuffer chain[] = {{f->scratch, 2 + bytes, false}, {f->scratch + 8000, 1, true}};
    virtio_guest_add(q, chain, 2);
}

/* Something that makes calls of the kernel in some turns. */
static void act_link_or_pairs(Fuzz *f)
{
    uint8_t *at = virtio_bench_ram(f->bench, f->scratch, 4);
    VringBuffer chain[] = {{f->scratch, 4, false}, {f->scratch + 8000, 1, true}};
    if (fuzz_below(2) || !f->queues[4].ring.size) {
        enter_main();
        net_set_link("net0", fuzz_below(2), NULL);
        return;
    }
    memcpy(at, (uint8_t[]){4, 0, (uint8_t)(1 + fuzz_below(2)), 0}, 4);
    virtio_guest_add(&f->queues[4], chain, 2);
}

/* A call of the kernel hangs, until it returns or is given up. */
static void act_kernel_hangs(Fuzz *f)
{
    sys_fault_set(&(SysFault){.calls = "ioctl",
                              .after = (unsigned)fuzz_below(6),
                              .count = 1,
                              .hold = true,
                              .error = fuzz_below(2) ? 0 : EIO});
    act_link_or_pairs(f);
    for (unsigned i = fuzz_below(40); i > 0; i--) {
        aio_context_step(f->bench->main_ctx, false);
        virtio_bench_step(f->bench);
    }
    if (fuzz_below(4) == 0) {
        fake_machine_advance(f->bench->machine, VHOST_TIMEOUT_NS);
        virtio_bench_step(f->bench);
    }
    sys_fault_release();
}

/* Calls of the kernel fail. */
static void act_kernel_fails(Fuzz *f)
{
    static const int errors[] = {EFAULT, ENOMEM, EBUSY, EINVAL, EBADF, EINTR};
    sys_fault_set(&(SysFault){.calls = "ioctl",
                              .after = (unsigned)fuzz_below(24),
                              .count = 1 + (unsigned)fuzz_below(3),
                              .error = FUZZ_PICK(errors)});
}

/* The kernel's thread looks at a ring, in the middle of starts and stops too. Of vhost-net, the kernel may be
 * faulty. */
static void act_vhost(Fuzz *f)
{
    if (!f->vhost) {
        return;
    }
    fake_vhost_serve(f->vhost, (unsigned)fuzz_below(f->vhost->count),
                     (unsigned)fuzz_below(FAKE_VHOST_VRINGS));
    virtio_bench_step(f->bench);
    if (!f->net) {
        return;
    }
    switch (fuzz_below(8)) {
    case 0:
        act_kernel_fails(f);
        if (fuzz_below(2)) {
            act_link_or_pairs(f);
        }
        return;
    case 1:
        act_kernel_hangs(f);
        return;
    case 2:
        act_link_or_pairs(f);
        return;
    case 3:
        sys_fault_set(NULL);
        return;
    default:
        return;
    }
}

static void hostile_act(Fuzz *f)
{
    switch (fuzz_below(16)) {
    case 0:
        act_status(f);
        return;
    case 1:
        act_msix(f);
        return;
    case 2:
        act_pci_config(f);
        return;
    case 3:
        if (fuzz_below(4) == 0) {
            act_life(f);
        }
        return;
    case 4:
        act_chardev(f);
        act_network(f);
        return;
    case 5:
        act_disk(f);
        act_net_control(f);
        act_vhost(f);
        return;
    case 6:
        act_common(f);
        return;
    case 7:
    case 8:
    case 9:
        act_request(f);
        return;
    default:
        act_ring(f);
        return;
    }
}

/* ---- a driver that means well ---- */

static void bring_up(Fuzz *f)
{
    if (fuzz_below(2)) {
        disk_release(f); /* else the reset finds requests in flight, and pends */
    }
    if (!f->running) {
        act_life(f);
    }
    if (f->target->calm != NULL) {
        f->target->calm(f);
    }
    enter_main();
    bql_lock();
    pci_bus_assign_resources(f->bench->bus); /* the hostile one may have moved the BARs away */
    bql_unlock();
    virtio_guest_init(&f->guest, f->bench, f->dev);
    f->guest.pended = disk_release;
    f->guest.opaque = f;
    virtio_guest_enable_msix(&f->guest);
    f->bench->ram_next = FUZZ_RAM_BASE;
    f->scratch = virtio_bench_alloc(f->bench, SCRATCH_BYTES);
    uint64_t features = fuzz_below(2) ? ~0ull : ~(uint64_t)(uint32_t)fuzz_random();
    fuzz_require(virtio_guest_negotiate(&f->guest, features | VIRTIO_F_VERSION_1),
                 "features that were offered are refused after a reset", f->target->name);
    for (unsigned i = 0; i < f->target->queues; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, fuzz_below(2) ? 0 : 4, i % 2);
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    fuzz_require(virtio_guest_status(&f->guest) == 15, "the device does not come up after a reset",
                 f->target->name);
}

/* ---- rounds ---- */

static void target_open(Fuzz *f, const FuzzTarget *target)
{
    f->target = target;
    if (target->open != NULL) {
        target->open(f);
    }
    f->dev = virtio_bench_device(f->bench, target->type, target->properties);
    if (target->plug != NULL) {
        target->plug(f);
    }
    bring_up(f);
}

static void target_close(Fuzz *f)
{
    disk_release(f);
    if (f->port) {
        virtio_bench_unplug(f->bench, f->port);
        f->port = NULL;
    }
    virtio_bench_unplug(f->bench, f->dev);
    if (f->target->close != NULL) {
        f->target->close(f);
    }
    f->running = false;
}

static void hostile_round(Fuzz *f)
{
    for (unsigned i = fuzz_below(24); i > 0; i--) {
        hostile_act(f);
        fuzz_require(target_sound(f), "two parties have the queues", f->target->name);
        if (fuzz_below(4) == 0) {
            virtio_bench_settle(f->bench);
        }
    }
    virtio_bench_settle(f->bench);
    if (f->guest.dev->vdev.state->status & VIRTIO_STATUS_NEEDS_RESET) {
        f->broken++;
    }
    bring_up(f);
    fuzz_require(f->target->works(f), "the device does not work after a reset", f->target->name);
    fake_machine_settle(f->bench->machine);
    f->bench->machine->delivered_count = 0;
    f->bench->machine->request_count = 0;
}

int main(int argc, char **argv)
{
    Fuzz f = {.bench = virtio_bench_new()};
    bool more = true;
    unsigned rounds = 0;
    fuzz_begin("fuzz_virtio", argc, argv);
    log_open("/dev/null", false); /* what the guest does wrong is not news here */
    f.bench->machine->env.find_chardev = fake_chardev_find;
    for (unsigned turn = 0; more; turn++) {
        const FuzzTarget *target = fuzz_target(turn);
        if (fuzz_leaves_out(target->name)) {
            fuzz_require(rounds > 0 || turn < FUZZ_TARGETS, "--only names no device", NULL);
            continue;
        }
        target_open(&f, target);
        for (unsigned round = 0; round < 50 && (more = fuzz_goes_on()) && !target_spent(&f);
             round++) {
            hostile_round(&f);
            rounds++;
        }
        target_close(&f);
    }
    fuzz_end("rounds");
    printf("fuzz_virtio: %" PRIu64 " ended in NEEDS_RESET\n", f.broken);
    virtio_bench_free(f.bench);
    return 0;
}
