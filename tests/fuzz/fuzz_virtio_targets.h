/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of fuzz_virtio.c: their back ends, and a request of a driver that means well. */
#ifndef SKIFF_TESTS_FUZZ_FUZZ_VIRTIO_TARGETS_H
#define SKIFF_TESTS_FUZZ_FUZZ_VIRTIO_TARGETS_H

#include <sched.h>
#include <string.h>
#include "tests/support/blk_guest.h"
#include "tests/support/fake_chardev.h"
#include "hw/virtio/virtio_net.h"
#include "tests/support/fake_net.h"
#include "tests/support/fake_vhost_net.h"
#include "tests/support/fuzzer.h"
#include "tests/support/net_steps.h"
#include "tests/support/scsi_guest.h"
#include "tests/support/vhost_user_peer.h"
#include "util/sys/sys_fault.h"

#define FUZZ_QUEUES 5
#define FUZZ_RAM_BASE 0x100000u
#define SCRATCH_BYTES 0x20000u

typedef struct Fuzz Fuzz;

/* A device. May be NULL: open, plug, close, calm, sound, spent. */
typedef struct FuzzTarget {
    const char *name, *type, *properties;
    unsigned queues;
    /* A request of a driver that means well; false: it was not served. */
    bool (*works)(Fuzz *f);
    void (*open)(Fuzz *f);  /* its back end, before the device is made */
    void (*plug)(Fuzz *f);  /* what is on its bus */
    void (*close)(Fuzz *f); /* the back end, after its end */
    void (*calm)(Fuzz *f);  /* the back end means well from now on, before a reset */
    bool (*sound)(Fuzz *f); /* what is true after each act */
    bool (*spent)(Fuzz *f); /* it does not come back to what it was: a new one is due */
} FuzzTarget;

struct Fuzz {
    const FuzzTarget *target;
    VirtioBench *bench;
    BlkDisk disk;
    FakeChardev *chardev;
    FakeNet *net;
    FakeVhost *vhost;
    FakeChardev *socket;
    VhostUserPeer *peer;
    Device *dev, *port; /* port: of the bus that dev has, also a SCSI disk */
    VirtioGuest guest;
    VirtioGuestQueue queues[FUZZ_QUEUES];
    uint64_t scratch;      /* gpa of memory that descriptors like to point to */
    bool running, holding; /* holding: the disk's requests wait for act_disk() */
    uint64_t broken;
};

/* ---- disks ---- */

/* Lets go of all the disk holds, also of what comes next. */
static void disk_release(void *opaque)
{
    Fuzz *f = opaque;
    if (f->holding) {
        blk_disk_set_manual(&f->disk, false);
        f->holding = false;
        while (blk_disk_complete(&f->disk, 0)) {
        }
    }
}

static void disk_open(Fuzz *f)
{
    blk_disk_open(&f->disk, f->bench, "size=64k");
}

static void disk_close(Fuzz *f)
{
    blk_disk_close(&f->disk);
    f->disk = (BlkDisk){0};
}

static void fuzz_plug(Fuzz *f, const char *type, const char *properties)
{
    g_autofree char *text = virtio_bench_try_device(f->bench, type, properties, f->dev, &f->port);
    g_assert_null(text);
}

static void scsi_plug(Fuzz *f)
{
    fuzz_plug(f, "scsi-hd", "drive=disk");
}

static bool blk_works(Fuzz *f)
{
    BlkRequest r;
    disk_release(f);
    blk_request_init(&r, &f->queues[fuzz_below(f->target->queues)], 512);
    memset(blk_request_data(&r), 0x5a, 512);
    if (blk_request_run(&r, BLK_OUT, 7, 512) != BLK_OK) {
        return false;
    }
    memset(blk_request_data(&r), 0, 512);
    return blk_request_run(&r, BLK_IN, 7, 512) == BLK_OK && blk_request_data(&r)[511] == 0x5a;
}

static bool scsi_works(Fuzz *f)
{
    static const uint8_t write[10] = {SCSI_WRITE_10, 0, 0, 0, 0, 7, 0, 0, 1};
    ScsiCall c;
    disk_release(f);
    scsi_call_init(&c, &f->queues[2 + fuzz_below(2)], 512);
    scsi_call_clear_attentions(&c);
    return scsi_call_run(&c, write, SCSI_DIR_OUT, 512) == SCSI_STATUS_GOOD;
}

/* ---- chips ---- */

static bool rng_works(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer b = {f->scratch, 64, true};
    virtio_guest_add(&f->queues[0], &b, 1);
    return virtio_guest_used(&f->queues[0], &id, &len) && len == 64;
}

/* Workers free the pages, so the answer comes in its own time. */
static bool balloon_works(Fuzz *f)
{
    uint32_t id, len, pfn = (uint32_t)((f->scratch + SCRATCH_BYTES) / GUEST_RAM_PAGE) - 1;
    VringBuffer b = {f->scratch, sizeof(pfn), false};
    uint8_t *page = virtio_bench_ram(f->bench, (uint64_t)pfn * GUEST_RAM_PAGE, GUEST_RAM_PAGE);
    memset(page, 1, GUEST_RAM_PAGE);
    memcpy(virtio_bench_ram(f->bench, f->scratch, sizeof(pfn)), &pfn, sizeof(pfn));
    virtio_guest_add(&f->queues[0], &b, 1);
    for (unsigned i = 0; i < 1000000; i++) {
        if (virtio_guest_used(&f->queues[0], &id, &len)) {
            return page[0] == 0 && page[GUEST_RAM_PAGE - 1] == 0;
        }
        sched_yield();
    }
    return false;
}

/* ---- virtio-serial ---- */

static void serial_plug(Fuzz *f)
{
    f->chardev = fake_chardev_new("con");
    fuzz_plug(f, "virtconsole", "chardev=con");
}

static void serial_close(Fuzz *f)
{
    fake_chardev_free(f->chardev);
    f->chardev = NULL;
}

static bool serial_works(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer b = {f->scratch, 5, false};
    fake_chardev_event(f->chardev, CHARDEV_OPENED); /* without a peer output is dropped */
    fake_chardev_make_room(f->chardev, 4096);
    g_string_truncate(f->chardev->output, 0);
    memcpy(virtio_bench_ram(f->bench, f->scratch, 5), "works", 5);
    virtio_guest_add(&f->queues[1], &b, 1);
    return virtio_guest_used(&f->queues[1], &id, &len) &&
           strcmp(f->chardev->output->str, "works") == 0;
}

/* ---- virtio-net ---- */

static void net_open(Fuzz *f)
{
    enter_main();
    net_setup(fake_net_types, f->bench->main_ctx);
    net_steps_run(f->bench, net_step_add, "fake,id=net0,queues=2");
    f->net = fake_net_find("net0");
}

static void net_close(Fuzz *f)
{
    virtio_bench_run(f->bench, net_step_shutdown, NULL);
    f->net = NULL;
}

static bool net_works(Fuzz *f)
{
    uint32_t id, len;
    uint8_t frame[60] = {0};
    VringBuffer send = {f->scratch, sizeof(NetHeader) + 60, false},
                receive = {f->scratch, 2000, true};
    memset(virtio_bench_ram(f->bench, f->scratch, 4096), 0, 4096);
    enter_main();
    net_set_link("net0", true, NULL);
    fake_net_set_full(f->net, false);
    fake_net_set_send_error(f->net, 0);
    fake_net_clear(f->net);
    virtio_guest_add(&f->queues[1], &send, 1);
    if (!virtio_guest_used(&f->queues[1], &id, &len) || len) {
        return false;
    }
    g_autoptr(GBytes) sent = fake_net_take(f->net, 0);
    virtio_guest_add(&f->queues[0], &receive, 1);
    return sent && fake_net_push(f->net, 0, NULL, frame, sizeof(frame)) &&
           virtio_guest_used(&f->queues[0], &id, &len) && len == sizeof(NetHeader) + 60;
}

/* ---- vhost in the kernel ---- */

static void vsock_open(Fuzz *f)
{
    f->vhost = fake_vhost_new("/dev/vhost-vsock", &f->bench->machine->ram);
}

static void vsock_close(Fuzz *f)
{
    fake_vhost_free(f->vhost);
    f->vhost = NULL;
}

/* The back end's start takes workers, or messages. */
static void await_back_end(Fuzz *f)
{
    while (f->guest.dev->vdev.owner == VIRTIO_OWNER_STARTING) {
        aio_context_step(f->bench->main_ctx, true);
    }
}

static bool vsock_works(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer b = {f->scratch, 64, true};
    await_back_end(f);
    virtio_guest_add(&f->queues[0], &b, 1);
    return fake_vhost_serve(f->vhost, 0, 0) == 1 && virtio_guest_used(&f->queues[0], &id, &len) &&
           len == 64;
}

static unsigned vhost_net_usable(void)
{
    return fake_vhost_net_dev(0)->usable + fake_vhost_net_dev(1)->usable;
}

static VirtioNet *vhost_net_nic(Fuzz *f)
{
    return (VirtioNet *)(void *)f->dev;
}

/* The kernel answers again, after calls that failed. Pairs whose kernel was given up have none any more: the home
 * loop serves them after the reset, but not before the kernel is gone: until then the device needs a reset. */
static void vhost_net_calm(Fuzz *f)
{
    const VhostLingering *left = vhost_net_nic(f)->vhost.vhost.lingering;
    while (atomic_load(&left->count) != 0) {
        aio_context_step(f->bench->main_ctx, true);
    }
    if (fuzz_below(4)) {
        sys_fault_set(NULL);
    }
    enter_main();
    net_set_link("net0", true, NULL);
}

static void vhost_net_open(Fuzz *f)
{
    f->vhost = fake_vhost_new("/dev/vhost-net", &f->bench->machine->ram);
    fake_vhost_net_open(f->bench, f->vhost, 2);
    net_steps_run(f->bench, net_step_add, "fake,id=net0,queues=2,offloads=on");
    f->net = fake_net_find("net0");
}

static void vhost_net_close(Fuzz *f)
{
    sys_fault_set(NULL);
    net_close(f);
    fake_vhost_net_close(f->bench, f->vhost);
    vsock_close(f);
}

/* The home loop and the kernel never have the rings at the same time. */
static bool vhost_net_sound(Fuzz *f)
{
    return vhost_net_nic(f)->base.vdev.owner != VIRTIO_OWNER_HOME ||
           !fake_vhost_connected(f->vhost);
}

static bool vhost_net_spent(Fuzz *f)
{
    return vhost_net_usable() < 2;
}

/* By the kernel, or by the home loop if the kernel has refused. */
static bool vhost_net_works(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer send = {f->scratch, sizeof(NetHeader) + 60, false},
                receive = {f->scratch, 2000, true};
    await_back_end(f);
    sys_fault_set(NULL);
    if (f->guest.dev->vdev.owner != VIRTIO_OWNER_BACK_END) {
        return net_works(f);
    }
    virtio_guest_add(&f->queues[0], &receive, 1);
    virtio_guest_add(&f->queues[1], &send, 1);
    return fake_vhost_serve(f->vhost, 0, 0) == 1 && virtio_guest_used(&f->queues[0], &id, &len) &&
           len == 2000 && fake_vhost_serve(f->vhost, 0, 1) == 1 &&
           virtio_guest_used(&f->queues[1], &id, &len) && len == 0;
}

/* ---- vhost-user ---- */

static void fs_open(Fuzz *f)
{
    f->socket = fake_chardev_new_socket("c", f->bench->main_ctx);
    f->peer = vhost_user_peer_new(f->socket);
    vhost_user_peer_connect(f->peer);
}

static void fs_close(Fuzz *f)
{
    vhost_user_peer_free(f->peer);
    fake_chardev_free(f->socket);
    f->peer = NULL;
    f->socket = NULL;
}

/* Whatever a guest does, its back end, which has done nothing wrong, keeps its connection. */
static bool fs_works(Fuzz *f)
{
    uint32_t id, len;
    VringBuffer b = {f->scratch, 64, true};
    await_back_end(f);
    virtio_guest_add(&f->queues[1], &b, 1);
    virtio_bench_settle(f->bench);
    return f->peer->lost == 0 && vhost_user_peer_serve(f->peer, 1) == 1 &&
           virtio_guest_used(&f->queues[1], &id, &len) && len == 64;
}

static const FuzzTarget targets[] = {
    {"virtio-blk", "virtio-blk-pci", "drive=disk,num-queues=4,queue-size=64", 4, .works = blk_works,
     .open = disk_open, .close = disk_close},
    {"virtio-scsi", "virtio-scsi-pci", "num_queues=2,virtqueue_size=64", 4, .works = scsi_works,
     .open = disk_open, .plug = scsi_plug, .close = disk_close},
    {"virtio-net", "virtio-net-pci", "netdev=net0,iothread=io,mq=on", 5, .works = net_works,
     .open = net_open, .close = net_close},
    {"virtio-rng", "virtio-rng-pci", NULL, 1, .works = rng_works},
    {"virtio-balloon", "virtio-balloon-pci", "free-page-reporting=on", 4, .works = balloon_works},
    {"virtio-serial", "virtio-serial-pci", "max_ports=2", 4, .works = serial_works,
     .plug = serial_plug, .close = serial_close},
    {"vhost-vsock", "vhost-vsock-pci", "guest-cid=7", 3, .works = vsock_works, .open = vsock_open,
     .close = vsock_close},
    {"vhost-net", "virtio-net-pci", "netdev=net0,iothread=io,mq=on", 5, .works = vhost_net_works,
     .open = vhost_net_open, .close = vhost_net_close, .calm = vhost_net_calm,
     .sound = vhost_net_sound, .spent = vhost_net_spent},
    {"vhost-user-fs", "vhost-user-fs-pci",
     "chardev=c,tag=rootfs,num-request-queues=3,queue-size=64", 4, .works = fs_works,
     .open = fs_open, .close = fs_close},
};

#define FUZZ_TARGETS ((unsigned)G_N_ELEMENTS(targets))

/* The device of turn @turn. */
static inline const FuzzTarget *fuzz_target(unsigned turn)
{
    return &targets[turn % FUZZ_TARGETS];
}

static inline bool target_spent(Fuzz *f)
{
    return f->target->spent != NULL && f->target->spent(f);
}

static inline bool target_sound(Fuzz *f)
{
    return f->target->sound == NULL || f->target->sound(f);
}

#endif
