/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a device whose back end answers later or refuses. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_BACK_END_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_BACK_END_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/virtio_back_end.h"

#define DATA_BYTES 16
#define CONFIG_DATA 0x100 /* of MSI-X vector 0; queue n has vector n + 1 */
#define NOBODY '-'

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    BackEndDevice *be;
    VirtioGuest guest;
    VirtioGuestQueue queues[BACK_END_QUEUES];
    uint64_t data;
} Fixture;

static inline Fixture *fixture_new(const DeviceType *type)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->data = virtio_bench_alloc(f->bench, DATA_BYTES);
    f->dev = virtio_bench_device_of(f->bench, type, NULL);
    f->be = (BackEndDevice *)(void *)f->dev;
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    return f;
}

static inline void fixture_free(Fixture *f)
{
    if (f->dev) {
        f->be->manual = false;
        virtio_bench_unplug(f->bench, f->dev);
    }
    virtio_bench_free(f->bench);
    g_free(f);
}

static inline int set_up(void **state)
{
    *state = fixture_new(&back_end_type);
    return 0;
}

static inline int set_up_fallback(void **state)
{
    *state = fixture_new(&back_end_fallback_type);
    return 0;
}

static inline int set_up_mixed(void **state)
{
    *state = fixture_new(&back_end_mixed_type);
    return 0;
}

static inline int tear_down(void **state)
{
    fixture_free(*state);
    return 0;
}

/* Sets up the device up to DRIVER_OK; start() of the back end is unanswered. */
static inline void bring_up(Fixture *f)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_common_write(&f->guest, VIRTIO_COMMON_CONFIG_VECTOR, 0, 2);
    for (unsigned i = 0; i < BACK_END_QUEUES; i++) {
        virtio_guest_queue(&f->guest, &f->queues[i], i, 0, i + 1);
    }
    virtio_guest_driver_ok(&f->guest);
}

static inline VirtioOwner owner(const Fixture *f)
{
    return f->be->base.vdev.owner;
}

static inline void offer_in(Fixture *f, unsigned index)
{
    VringBuffer b = {f->data, DATA_BYTES, true};
    memset(virtio_bench_ram(f->bench, f->data, DATA_BYTES), 0, DATA_BYTES);
    virtio_guest_add(&f->queues[index], &b, 1);
}

static inline void offer(Fixture *f)
{
    offer_in(f, 0);
}

/* Which side completed the request of queue @index; it was completed once. */
static inline char served_in(Fixture *f, unsigned index)
{
    uint32_t id, len;
    virtio_bench_settle(f->bench);
    back_end_serve(f->be, index);
    if (!virtio_guest_used(&f->queues[index], &id, &len)) {
        return NOBODY;
    }
    assert_int_equal(len, DATA_BYTES);
    assert_false(virtio_guest_used(&f->queues[index], &id, &len));
    return *(char *)virtio_bench_ram(f->bench, f->data, 1);
}

static inline char served_by(Fixture *f)
{
    return served_in(f, 0);
}

/* A stop of the VM that waits. */
typedef struct Stop {
    Device *dev;
    bool done;
} Stop;

static inline void stop_run(void *opaque)
{
    Stop *s = opaque;
    enter_main();
    enter_coroutine();
    s->dev->type->co_stop(s->dev);
    s->done = true;
}

static inline MmioResult write_status(Fixture *f, IoAccess *a, uint8_t status)
{
    *a = (IoAccess){.size = 1, .is_write = true, .value = status};
    return virtio_guest_access(&f->guest, f->guest.common + VIRTIO_COMMON_STATUS, a);
}

/* Bus Master off. */
static inline MmioResult clear_master(Fixture *f, IoAccess *a)
{
    *a = (IoAccess){.size = 2, .is_write = true, .value = 2};
    return virtio_guest_access(&f->guest, virtio_guest_ecam(&f->guest) + 4, a);
}

#endif
