/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio-blk disk on a file, with rings in two iothreads. Queues 0 and 1 are those of "io2", a lane
 * whose requests go to the file directly; queue 2 is that of "io", the home. A write can be held in its
 * system call, and an operation of main can be started and watched meanwhile.
 */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_LANES_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_BLK_LANES_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "tests/support/blk_guest.h"
#include "tests/support/loops_settle.h"
#include "util/loop/sched_point.h"
#include "util/sys/sys_fault.h"

#define QUEUES 3u
#define PER_QUEUE 4u
#define DISK_BYTES (1u << 20)

typedef struct Fixture {
    VirtioBench *bench;
    BlkDisk disk;
    char *path;
    int fd;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queues[QUEUES];
    BlkRequest requests[QUEUES][PER_QUEUE];
} Fixture;

#define LANES                                                                                      \
    "{\"drive\":\"disk\",\"num-queues\":3,\"werror\":\"stop\",\"iothread-vq-mapping\":["           \
    "{\"iothread\":\"io\",\"vqs\":[2]},{\"iothread\":\"io2\",\"vqs\":[0,1]}]%s}"

static inline void plug_with(Fixture *f, const char *more)
{
    g_autofree char *properties = g_strdup_printf(LANES, more);
    f->dev = virtio_bench_device(f->bench, "virtio-blk-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    for (unsigned q = 0; q < QUEUES; q++) {
        virtio_guest_queue(&f->guest, &f->queues[q], q, 0, VIRTIO_NO_VECTOR);
        for (unsigned i = 0; i < PER_QUEUE; i++) {
            blk_request_init(&f->requests[q][i], &f->queues[q], 4096);
        }
    }
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
    sched_point_count("block.lane_run"); /* from now on */
    sched_point_count("loop.batch");
}

static inline int set_up_disk(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->fd = g_file_open_tmp("skiff-lanes-XXXXXX", &f->path, NULL);
    assert_true(f->fd >= 0 && ftruncate(f->fd, DISK_BYTES) == 0);
    g_autofree char *options =
        g_strdup_printf("driver=raw,node-name=disk,file.driver=file,file.node-name=prot,"
                        "discard=unmap,file.discard=unmap,file.filename=%s",
                        f->path);
    blk_disk_open_as(&f->disk, f->bench, options);
    *state = f;
    return 0;
}

static inline int set_up(void **state)
{
    set_up_disk(state);
    plug_with(*state, "");
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    sys_fault_set(NULL);
    sched_point_reset();
    virtio_bench_unplug(f->bench, f->dev);
    blk_disk_close(&f->disk);
    virtio_bench_free(f->bench);
    close(f->fd);
    unlink(f->path);
    g_free(f->path);
    g_free(f);
    return 0;
}

static inline BlockBackend *backend(Fixture *f)
{
    return virtio_blk_from(&f->guest.dev->vdev)->blk;
}

/* ---- requests: each has a block of the disk of its own ---- */

static inline uint64_t sector_of(unsigned q, unsigned i)
{
    return (q * PER_QUEUE + i) * 8;
}

static inline void send_write(Fixture *f, unsigned q, unsigned i, uint8_t byte)
{
    BlkRequest *r = &f->requests[q][i];
    memset(blk_request_data(r), byte, 4096);
    blk_request_send(r, BLK_OUT, sector_of(q, i), 4096);
    virtio_bench_settle(f->bench);
}

/* A system call of a worker may be under way. */
static inline void await(Fixture *f, unsigned q, unsigned i)
{
    uint32_t id, len;
    while (!virtio_guest_used(&f->queues[q], &id, &len)) {
    }
    assert_int_equal(id, f->requests[q][i].head);
}

static inline uint8_t byte_on_disk(Fixture *f, unsigned q, unsigned i)
{
    uint8_t block[4096];
    assert_int_equal(pread(f->fd, block, sizeof(block), (off_t)sector_of(q, i) * 512), 4096);
    assert_memory_equal(block, block + 1, sizeof(block) - 1);
    return block[0];
}

static inline void write_and_check(Fixture *f, unsigned q, unsigned i, uint8_t byte)
{
    send_write(f, q, i, byte);
    await(f, q, i);
    assert_int_equal(blk_request_status(&f->requests[q][i]), BLK_OK);
    assert_int_equal(byte_on_disk(f, q, i), byte);
}

/* Whether the lane executes a write itself. */
static inline bool is_direct(Fixture *f)
{
    unsigned before = sched_point_count("block.lane_run");
    write_and_check(f, 0, PER_QUEUE - 1, 0x77);
    return sched_point_count("block.lane_run") == before + 1;
}

/* ---- a write of the lane that is held in its system call ---- */

static inline void send_held(Fixture *f)
{
    unsigned before = sched_point_count("block.lane_run");
    sys_fault_set(&(SysFault){.calls = "pwritev2", .count = 1, .hold = true});
    send_write(f, 0, 0, 0xaa);
    sys_fault_await_held();
    assert_int_equal(sched_point_count("block.lane_run"), before + 1);
    assert_int_equal(blk_request_status(&f->requests[0][0]), BLK_PENDING);
}

static inline void release_held(Fixture *f)
{
    sys_fault_release();
    await(f, 0, 0);
    sys_fault_set(NULL);
    assert_int_equal(blk_request_status(&f->requests[0][0]), BLK_OK);
    assert_int_equal(byte_on_disk(f, 0, 0), 0xaa);
}

/* ---- an operation of main beside the guest ---- */

typedef struct Action {
    Fixture *f;
    void (*fn)(struct Action *a);
    bool done;
    CoToken token; /* of a section that waits for the test */
    bool begun;
    uint8_t status; /* of the held request at the begin */
    void *arg;
} Action;

static inline void action_run(void *opaque)
{
    Action *a = opaque;
    enter_main();
    enter_coroutine();
    a->fn(a);
    a->done = true;
}

static inline void action_start(Action *a, Fixture *f)
{
    a->f = f;
    co_start(f->bench->main_ctx, action_run, a);
    virtio_bench_settle(f->bench);
}

static inline void action_finish(Action *a)
{
    while (!a->done) {
        aio_context_step(a->f->bench->main_ctx, true);
    }
    virtio_bench_settle(a->f->bench);
}

/* The action waits for the held write, and ends when that has ended. */
static inline void action_waits_for_the_lane(Fixture *f, Action *a)
{
    send_held(f);
    action_start(a, f);
    assert_false(a->done);
    release_held(f);
    action_finish(a);
}

#endif
