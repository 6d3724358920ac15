/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest does to the devices of a rack before they are saved. */
#include <errno.h>
#include <string.h>
#include "hw/core/vm_clock.h"
#include "hw/firmware/vmgenid.h"
#include "hw/platform/lpc.h"
#include "hw/platform/pm.h"
#include "hw/platform/tco.h"
#include "hw/virtio/virtio_balloon.h"
#include "tests/support/device_rack.h"
#include "tests/support/fake_net.h"
#include "tests/support/scsi_guest.h"

#define MSIX_ENABLE_MASKED 0xc000

static void stir_config(DeviceRack *r, const char *type, unsigned offset, uint32_t value,
                        unsigned size)
{
    const PciDevice *pci = (const PciDevice *)(void *)device_rack_find(r, type);
    uint64_t ecam = pci_bus_windows(r->bench->bus)->ecam_base + ((uint64_t)pci->devfn << 12);
    fake_write(r->m->env.mmio, ecam + offset, value, size);
}

/* ---- chips ---- */

static void stir_lpc(DeviceRack *r)
{
    FakeMachine *m = r->m;
    stir_config(r, "ich9-lpc", 0x60, 0x0b, 1);               /* PIRQA */
    fake_out8(m, 0xb3, 0x5a);                                /* SMI status */
    fake_out32(m, PM_DEFAULT_BASE + 0x28, 2);                /* GPE0_EN */
    fake_out16(m, PM_DEFAULT_BASE + 2, 0x0101);              /* power button, timer */
    fake_out16(m, PM_DEFAULT_BASE + TCO_OFFSET + 0x12, 50);  /* TCO_TMR */
    fake_out16(m, PM_DEFAULT_BASE + TCO_OFFSET + 0x08, 0);   /* it runs */
    fake_out8(m, PM_DEFAULT_BASE + TCO_OFFSET + 0x0c, 0x77); /* TCO_MESSAGE */
    lpc_press_power_button(device_rack_find(r, "ich9-lpc")); /* the SCI is high */
}

static void stir_i8042(FakeMachine *m)
{
    fake_out8(m, 0x64, 0x60);
    fake_out8(m, 0x60, 0x01); /* keyboard interrupt */
    fake_out8(m, 0x60, 0xf2); /* identify: a byte is there, two wait */
}

static void stir_rtc(FakeMachine *m)
{
    fake_out8(m, 0x70, 0x44);
    fake_out8(m, 0x71, 0x55);
    fake_out8(m, 0x70, 0x0a);
    fake_out8(m, 0x71, 0x2f); /* 2 Hz */
    fake_out8(m, 0x70, 0x0b);
    fake_out8(m, 0x71, 0x52);            /* periodic and update interrupt */
    fake_machine_advance(m, 2100000000); /* an update has come, ticks were lost */
}

static void stir_serial(DeviceRack *r)
{
    FakeMachine *m = r->m;
    fake_out8(m, 0x3fb, 0x83);
    fake_out8(m, 0x3f8, 0x34); /* divisor */
    fake_out8(m, 0x3fb, 0x03);
    fake_out8(m, 0x3fa, 0xc1); /* FIFO, trigger 14 */
    fake_out8(m, 0x3f9, 0x0d); /* receive, line status, modem */
    fake_out8(m, 0x3ff, 0xa5);
    fake_out8(m, 0x3f8, 'o');
    fake_out8(m, 0x3f8, 'k'); /* two bytes stay in the transmitter */
    enter_main();
    fake_chardev_input(r->chardevs[0], "abc", 3);
    fake_machine_advance(m, 100000000); /* the receiver's time-out: the interrupt is high */
}

static void stir_fw_cfg(FakeMachine *m)
{
    fake_out16(m, 0x510, 0x19); /* the directory */
    for (unsigned i = 0; i < 3; i++) {
        fake_in8(m, 0x511);
    }
    fake_out32(m, 0x514, 0x12); /* half of a DMA address */
}

/* Writes etc/vmcoreinfo, the first file, by DMA. */
static void stir_vmcoreinfo(DeviceRack *r)
{
    uint64_t gpa = virtio_bench_alloc(r->bench, 4096);
    const uint32_t words[] = {GUINT32_TO_BE(0x20u << 16 | 8 | 16), GUINT32_TO_BE(16), 0,
                              GUINT32_TO_BE((uint32_t)gpa + 64)};
    const uint8_t info[16] = {1, 0, 1, 0, 0x80, 0, 0, 0, 0, 0x10};
    memcpy(virtio_bench_ram(r->bench, gpa, sizeof(words)), words, sizeof(words));
    memcpy(virtio_bench_ram(r->bench, gpa + 64, sizeof(info)), info, sizeof(info));
    fake_out32(r->m, 0x518, GUINT32_SWAP_LE_BE((uint32_t)gpa));
}

static void stir_firmware(DeviceRack *r)
{
    AddressSpace *mmio = r->m->env.mmio;
    stir_vmcoreinfo(r);
    stir_fw_cfg(r->m);
    bql_lock();
    vmgenid_place(device_rack_find(r, "vmgenid"), virtio_bench_alloc(r->bench, 4096));
    bql_unlock();
    fake_write(mmio, RACK_FLASH_GPA + 0x2000, 0x60, 1);
    fake_write(mmio, RACK_FLASH_GPA + 0x2000, 0x01, 1); /* a block is locked */
    fake_write(mmio, RACK_FLASH_GPA + 0x1000, 0xe8, 1);
    fake_write(mmio, RACK_FLASH_GPA + 0x1000, 3, 1); /* four words for the buffer */
    fake_write(mmio, RACK_FLASH_GPA + 0x1004, 0xab, 1);
    fake_write(mmio, RACK_FLASH_GPA + 0x1005, 0xcd, 1);
}

static void stir_chips(DeviceRack *r)
{
    FakeMachine *m = r->m;
    stir_config(r, "q35-host", 0x92, 0x33, 1); /* PAM */
    fake_out32(m, 0xcf8, 0x80000810);
    stir_lpc(r);
    stir_i8042(m);
    fake_out8(m, 0x80, 0x42);
    stir_rtc(m);
    stir_serial(r);
    fake_out32(m, 0xe0, 0x11223344);
    fake_out8(m, 0x2000 + 5, 1); /* line 5 of pc-testdev */
    fake_write(m->env.mmio, 0xff000010, 0xbeef, 2);
    stir_config(r, "pcie-root-port", 0x18, 0x00020201, 4); /* bus numbers */
    stir_config(r, "pcie-root-port", 0x3e, 3, 1);
    stir_config(r, "i6300esb", 0x68, 2, 1); /* the watchdog runs */
    stir_firmware(r);
}

/* ---- drivers ---- */

static RackDriver *stir_new_driver(DeviceRack *r, unsigned n, const char *name, unsigned queues,
                                   bool msix)
{
    RackDriver *d = &r->drivers[n];
    *d = (RackDriver){.name = name, .count = queues};
    virtio_guest_init(&d->guest, r->bench, device_rack_find(r, name));
    g_assert_true(virtio_guest_negotiate(&d->guest, ~0ull));
    if (msix) {
        virtio_guest_enable_msix(&d->guest);
        virtio_guest_write(&d->guest, virtio_guest_ecam(&d->guest) + d->guest.dev->pci.msix.cap + 2,
                           MSIX_ENABLE_MASKED, 2);
        virtio_guest_common_write(&d->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    }
    for (unsigned i = 0; i < queues; i++) {
        virtio_guest_queue(&d->guest, &d->queues[i], i, 8, msix ? i + 1 : VIRTIO_NO_VECTOR);
    }
    return d;
}

static void stir_run(DeviceRack *r, RackDriver *d)
{
    const VirtioDevice *vdev = &d->guest.dev->vdev;
    virtio_guest_driver_ok(&d->guest);
    while (vdev->back_end != NULL && vdev->owner != VIRTIO_OWNER_BACK_END) {
        aio_context_step(r->bench->main_ctx, true);
    }
    virtio_bench_settle(r->bench);
}

uint64_t device_rack_offer(DeviceRack *r, RackDriver *d, unsigned queue, uint32_t bytes, bool write)
{
    VringBuffer b = {virtio_bench_alloc(r->bench, bytes), bytes, write};
    virtio_guest_add(&d->queues[queue], &b, 1);
    virtio_bench_settle(r->bench);
    return b.gpa;
}

static void stir_take_used(RackDriver *d, unsigned queue)
{
    uint32_t id, len;
    g_assert_true(virtio_guest_used(&d->queues[queue], &id, &len));
}

/* A write succeeds; another fails and is set aside until the VM goes on. */
static void stir_blk(DeviceRack *r, RackDriver *d)
{
    BlkRequest first, second;
    blk_request_init(&first, &d->queues[0], 512);
    blk_request_init(&second, &d->queues[0], 512);
    memset(blk_request_data(&first), 'a', 512);
    memset(blk_request_data(&second), 'b', 512);
    g_assert_cmpint(blk_request_run(&first, BLK_OUT, 0, UINT32_MAX), ==, BLK_OK);
    blk_disk_set_manual(&r->disks[0], true);
    blk_request_send(&second, BLK_OUT, 1, UINT32_MAX);
    virtio_bench_settle(r->bench);
    g_assert_true(blk_disk_complete(&r->disks[0], -EIO));
    blk_disk_set_manual(&r->disks[0], false);
    g_assert_cmpint(blk_request_status(&second), ==, BLK_PENDING);
}

static void stir_balloon(DeviceRack *r, RackDriver *d)
{
    device_rack_offer(r, d, VIRTIO_BALLOON_STATS, 20, false); /* which the device keeps */
    virtio_guest_write(&d->guest, d->guest.config + 4, 3, 4);
    enter_main();
    virtio_balloon_set_target(&d->guest.dev->pci.base, FAKE_RAM_SIZE / 2);
}

static void stir_tell_serial(DeviceRack *r, RackDriver *d, uint32_t id, uint16_t event)
{
    const struct {
        uint32_t id;
        uint16_t event, value;
    } m = {id, event, 1};
    uint64_t gpa = virtio_bench_alloc(r->bench, sizeof(m));
    memcpy(virtio_bench_ram(r->bench, gpa, sizeof(m)), &m, sizeof(m));
    VringBuffer b = {gpa, sizeof(m), false};
    virtio_guest_add(&d->queues[3], &b, 1);
    stir_take_used(d, 3);
}

/* Port 1 is open; its chardev has taken three of eight bytes. A message for port 0 waits for a buffer. */
static void stir_virtio_serial(DeviceRack *r, RackDriver *d)
{
    enter_main();
    for (unsigned i = 0; i < 4; i++) {
        device_rack_offer(r, d, 2, 64, true);
    }
    stir_tell_serial(r, d, 0, 0);
    stir_tell_serial(r, d, 1, 3);
    stir_tell_serial(r, d, 1, 6);
    stir_tell_serial(r, d, 0, 3);
    fake_chardev_make_room(r->chardevs[3], 3);
    device_rack_offer(r, d, 5, 8, false);
    g_assert_cmpuint(fake_chardev_output_size(r->chardevs[3]), ==, 3);
}

static void stir_vsock(DeviceRack *r, RackDriver *d)
{
    device_rack_offer(r, d, 0, 64, true);
    g_assert_cmpuint(fake_vhost_serve(r->vhost, 0, 0), ==, 1);
    stir_take_used(d, 0);
    device_rack_offer(r, d, 2, 8, true); /* waits for an event */
}

/* The disk's write cache is off, the drive's tray is open. */
static void stir_scsi(RackDriver *d)
{
    static const uint8_t eject[6] = {0x1b, 0, 0, 0, 2}, select[6] = {0x15, 0x10, 0, 0, 24};
    static const uint8_t caching[24] = {[4] = 8, [5] = 18};
    ScsiCall hd, cd;
    scsi_call_init(&hd, &d->queues[2], 64);
    scsi_call_init(&cd, &d->queues[3], 64);
    cd.target = 1;
    scsi_call_clear_attentions(&hd);
    memcpy(scsi_call_data(&hd), caching, sizeof(caching));
    scsi_call_run(&hd, select, SCSI_DIR_OUT, sizeof(caching));
    scsi_call_clear_attentions(&cd);
    g_assert_cmpuint(scsi_call_run(&cd, eject, SCSI_DIR_NONE, 0), ==, 0);
}

static void stir_net(DeviceRack *r, RackDriver *d)
{
    static const uint8_t frame[64] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};
    const uint8_t command[] = {0, 0, 1}; /* RX, PROMISC, on */
    uint64_t gpa = virtio_bench_alloc(r->bench, 16);
    VringBuffer chain[] = {{gpa, 2, false}, {gpa + 2, 1, false}, {gpa + 8, 1, true}};
    memcpy(virtio_bench_ram(r->bench, gpa, 3), command, sizeof(command));
    virtio_guest_add(&d->queues[2], chain, 3);
    stir_take_used(d, 2);
    device_rack_offer(r, d, 0, 2048, true);
    device_rack_offer(r, d, 0, 2048, true);
    enter_main();
    g_assert_true(fake_net_push(fake_net_find("net0"), 0, NULL, frame, sizeof(frame)));
    stir_take_used(d, 0);
}

static void stir_vhost_user_blk(DeviceRack *r, RackDriver *d)
{
    device_rack_offer(r, d, 0, 64, true);
    g_assert_cmpuint(vhost_user_peer_serve(r->peers[1], 0), ==, 1);
    stir_take_used(d, 0);
}

/* The configuration has changed: an interrupt. */
static void stir_interrupts(DeviceRack *r)
{
    for (unsigned i = 0; i < RACK_DRIVERS; i++) {
        bql_lock();
        virtio_config_changed(&r->drivers[i].guest.dev->vdev);
        bql_unlock();
    }
}

static void stir_drivers(DeviceRack *r, bool msix)
{
    RackDriver *d;
    unsigned n = 0;
    stir_run(r, d = stir_new_driver(r, n++, "virtio-blk-pci", 1, msix));
    stir_blk(r, d);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-rng-pci", 1, msix));
    device_rack_offer(r, d, 0, 16, true);
    stir_take_used(d, 0);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-balloon-pci", 3, msix));
    stir_balloon(r, d);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-serial-pci", 6, msix));
    stir_virtio_serial(r, d);
    stir_run(r, d = stir_new_driver(r, n++, "vhost-vsock-pci", 3, msix));
    stir_vsock(r, d);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-scsi-pci", 4, msix));
    stir_scsi(d);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-net-pci", 3, msix));
    stir_net(r, d);
    /* A driver that runs has a session, which is not saved. */
    stir_new_driver(r, n++, "vhost-user-fs-pci", 2, msix);
    stir_run(r, d = stir_new_driver(r, n++, "vhost-user-blk-pci", 2, msix));
    stir_vhost_user_blk(r, d);
    stir_run(r, d = stir_new_driver(r, n++, "virtio-rng-pci.2", 1, msix));
    device_rack_offer(r, d, 0, 16, true);
    stir_take_used(d, 0);
    g_assert_cmpuint(n, ==, RACK_DRIVERS);
}

void device_rack_stir(DeviceRack *r, bool msix)
{
    stir_chips(r);
    stir_drivers(r, msix);
    stir_interrupts(r);
    virtio_bench_settle(r->bench);
}
