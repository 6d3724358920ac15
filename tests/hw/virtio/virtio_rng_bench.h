/* SPDX-License-Identifier: Apache-2.0 */
/* A machine with a virtio-rng, the simplest device: for tests of the common parts. */
#ifndef SKIFF_TESTS_HW_VIRTIO_VIRTIO_RNG_BENCH_H
#define SKIFF_TESTS_HW_VIRTIO_VIRTIO_RNG_BENCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sched.h>
#include <string.h>
#include "tests/support/virtio_guest.h"

#define DATA_BYTES 0x10000

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    uint64_t data; /* gpa of DATA_BYTES */
} Fixture;

/* Without a device. */
static inline int set_up_machine(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->data = virtio_bench_alloc(f->bench, DATA_BYTES);
    *state = f;
    return 0;
}

static inline void add_device(Fixture *f, const char *properties)
{
    f->dev = virtio_bench_device(f->bench, "virtio-rng-pci", properties);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
}

static inline int set_up(void **state)
{
    set_up_machine(state);
    add_device(*state, NULL);
    return 0;
}

static inline int tear_down(void **state)
{
    Fixture *f = *state;
    if (f->dev) {
        virtio_bench_unplug(f->bench, f->dev);
    }
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static inline void bring_up(Fixture *f, unsigned vector)
{
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, vector);
    virtio_guest_driver_ok(&f->guest);
    virtio_bench_settle(f->bench);
}

static inline void ask(Fixture *f, uint32_t bytes)
{
    VringBuffer b = {f->data, bytes, true};
    virtio_guest_add(&f->queue, &b, 1);
}

static inline void assert_answered(Fixture *f)
{
    uint32_t id, len;
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_true(len > 0);
}

static inline uint32_t common(Fixture *f, unsigned offset, unsigned size)
{
    return virtio_guest_common_read(&f->guest, offset, size);
}

#endif
