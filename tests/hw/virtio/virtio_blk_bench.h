/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a virtio-blk disk of 1 MiB. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include "tests/support/blk_guest.h"

#define DISK_SECTORS 2048u

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
        blk_disk_close(&f->disk);
    }
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void bring_up_disk(Fixture *f, const char *disk, const char *properties, uint64_t features)
{
    g_autofree char *all =
        g_strdup_printf("drive=disk%s%s", properties ? "," : "", properties ? properties : "");
    blk_disk_open(&f->disk, f->bench, disk);
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", all);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    virtio_guest_enable_msix(&f->guest);
    assert_true(virtio_guest_negotiate(&f->guest, features));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, 1);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static void bring_up(Fixture *f, const char *properties)
{
    bring_up_disk(f, "size=1M", properties, ~0ull);
}

static inline uint64_t config(Fixture *f, unsigned offset, unsigned size)
{
    return virtio_guest_read(&f->guest, f->guest.config + offset, size);
}

#endif
