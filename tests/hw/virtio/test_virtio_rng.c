/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "tests/support/virtio_guest.h"

typedef struct Fixture {
    VirtioBench *bench;
    Device *dev;
    VirtioGuest guest;
    VirtioGuestQueue queue;
    uint64_t data;
} Fixture;

static int set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->bench = virtio_bench_new();
    f->data = virtio_bench_alloc(f->bench, 0x10000);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    virtio_bench_unplug(f->bench, f->dev);
    virtio_bench_free(f->bench);
    g_free(f);
    return 0;
}

static void virtual_time(void *opaque)
{
    aio_context_set_virtual_time(opaque, 0);
}

static void next_second(void *opaque)
{
    aio_context_set_virtual_time(opaque, aio_now_ns(opaque) + 1000000000);
}

static void bring_up(Fixture *f, const char *properties)
{
    f->dev = virtio_bench_device(f->bench, "virtio-rng-pci", properties);
    virtio_bench_at_home(f->bench, virtual_time, f->bench->home);
    virtio_bench_start(f->bench, f->dev);
    virtio_guest_init(&f->guest, f->bench, f->dev);
    assert_true(virtio_guest_negotiate(&f->guest, ~0ull));
    virtio_guest_queue(&f->guest, &f->queue, 0, 0, VIRTIO_NO_VECTOR);
    virtio_guest_driver_ok(&f->guest);
}

static void ask(Fixture *f, uint32_t bytes)
{
    VringBuffer b = {f->data, bytes, true};
    virtio_guest_add(&f->queue, &b, 1);
}

static void a_large_buffer_is_filled_in_part(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f, "iothread=io");
    ask(f, 0x10000);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 4096);
}

static void pieces_of_a_chain_are_filled_in_turn(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    VringBuffer chain[] = {{f->data, 3, true}, {f->data + 100, 5, true}};
    bring_up(f, NULL);
    virtio_guest_add(&f->queue, chain, 2);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 8);
    assert_int_equal(*(uint8_t *)virtio_bench_ram(f->bench, f->data + 3, 1), 0);
}

static void a_buffer_with_nothing_to_fill_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->data, 16, false};
    bring_up(f, NULL);
    virtio_guest_add(&f->queue, &b, 1);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void the_period_bounds_what_the_guest_gets(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f, "max-bytes=100,period=1000");
    ask(f, 64);
    ask(f, 64);
    ask(f, 64);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 64);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 36);
    assert_false(virtio_guest_used(&f->queue, &id, &len));
    virtio_bench_at_home(f->bench, next_second, f->bench->home);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 64);
}

static void what_waits_for_the_period_stops_nothing(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up(f, "max-bytes=16,period=1000");
    ask(f, 16);
    ask(f, 16);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_false(virtio_guest_used(&f->queue, &id, &len));
    virtio_bench_stop(f->bench, f->dev); /* returns: nothing is in flight */
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(a_large_buffer_is_filled_in_part),
        T(pieces_of_a_chain_are_filled_in_turn),
        T(a_buffer_with_nothing_to_fill_needs_a_reset),
        T(the_period_bounds_what_the_guest_gets),
        T(what_waits_for_the_period_stops_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
