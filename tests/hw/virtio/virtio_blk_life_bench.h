/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio-blk disk whose requests the test completes, or a fast one. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_LIFE_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_LIFE_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/blk_guest.h"

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    BlkRequest request;
    const char *properties;
} Fixture;

/* A file that exists while it is open. */
static inline void open_file_disk(Fixture *f, const char *options)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("skiff-life-XXXXXX", &path, NULL);
    assert_true(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    g_autofree char *all = g_strdup_printf(
        "driver=raw,node-name=disk,file.driver=file,file.filename=%s,%s", path, options);
    blk_disk_open_as(&f->disk, f->bench, all);
    unlink(path);
    close(fd);
}

/* @disk: of the mem driver, or "file.…": of a file. */
static inline int set_up_disk(void **state, const char *disk, const char *properties)
{
    Fixture *f = g_new0(Fixture, 1);
    f->properties = properties;
    f->bench = virtio_bench_new();
    if (g_str_has_prefix(disk, "file.")) {
        open_file_disk(f, disk);
    } else {
        blk_disk_open(&f->disk, f->bench, disk);
    }
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    *state = f;
    return 0;
}

static inline int set_up(void **state)
{
    return set_up_disk(state, "size=1M,manual=on", "drive=disk,werror=stop,rerror=stop");
}

static inline int set_up_fast(void **state)
{
    return set_up_disk(state, "size=1M", "drive=disk,num-queues=2,queue-size=16");
}

/* Another iothread than the drive's serves the queue that the tests use. */
#define MAPPING                                                                                    \
    "num-queues=2,iothread-vq-mapping.0.iothread=io,iothread-vq-mapping.0.vqs.0=1,"                \
    "iothread-vq-mapping.1.iothread=io2,iothread-vq-mapping.1.vqs.0=0"

static inline int set_up_mapped(void **state)
{
    return set_up_disk(state, "size=1M,manual=on", "drive=disk,werror=stop,rerror=stop," MAPPING);
}

static inline int set_up_mapped_fast(void **state)
{
    return set_up_disk(state, "size=1M", "drive=disk,queue-size=16," MAPPING);
}

/* The lane reads and writes the file itself. */
static inline int set_up_lanes_threads(void **state)
{
    return set_up_disk(state, "file.aio=threads", "drive=disk,queue-size=16," MAPPING);
}

static inline int set_up_lanes_io_uring(void **state)
{
    return set_up_disk(state, "file.aio=io_uring", "drive=disk,queue-size=16," MAPPING);
}

static inline void poll_busily(void *opaque)
{
    aio_context_set_polling(opaque, 200000);
}

static inline int set_up_polling(void **state)
{
    set_up_fast(state);
    Fixture *f = *state;
    virtio_bench_at_home(f->bench, poll_busily, f->bench->home);
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

#endif
