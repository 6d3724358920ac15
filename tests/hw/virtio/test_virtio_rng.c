/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: the bytes it fills, and their limit. */
#include "tests/hw/virtio/virtio_rng_bench.h"

static void virtual_time(void *opaque)
{
    aio_context_set_virtual_time(opaque, 0);
}

static void next_second(void *opaque)
{
    aio_context_set_virtual_time(opaque, aio_now_ns(opaque) + 1000000000);
}

static void bring_up_with(Fixture *f, const char *properties)
{
    virtio_bench_at_home(f->bench, virtual_time, f->bench->home);
    add_device(f, properties);
    bring_up(f, VIRTIO_NO_VECTOR);
}

static void a_large_buffer_is_filled_in_part(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_with(f, "iothread=io");
    ask(f, DATA_BYTES);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 4096);
}

static void pieces_of_a_chain_are_filled_in_turn(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    VringBuffer chain[] = {{f->data, 3, true}, {f->data + 100, 5, true}};
    bring_up_with(f, NULL);
    virtio_guest_add(&f->queue, chain, 2);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 8);
    assert_int_equal(*(uint8_t *)virtio_bench_ram(f->bench, f->data + 3, 1), 0);
}

static void a_buffer_with_nothing_to_fill_needs_a_reset(void **state)
{
    Fixture *f = *state;
    VringBuffer b = {f->data, 16, false};
    bring_up_with(f, NULL);
    virtio_guest_add(&f->queue, &b, 1);
    virtio_bench_settle(f->bench);
    assert_true(virtio_guest_status(&f->guest) & VIRTIO_STATUS_NEEDS_RESET);
}

static void the_period_limits_the_bytes_of_the_guest(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_with(f, "max-bytes=100,period=1000");
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

static void requests_that_wait_for_the_period_delay_no_stop(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_with(f, "max-bytes=16,period=1000");
    ask(f, 16);
    ask(f, 16);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_false(virtio_guest_used(&f->queue, &id, &len));
    virtio_bench_stop(f->bench, f->dev); /* returns: nothing is in flight */
    virtio_bench_start(f->bench, f->dev);
    assert_false(virtio_guest_used(&f->queue, &id, &len)); /* the period continues */
    virtio_bench_at_home(f->bench, next_second, f->bench->home);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
}

static void a_reset_does_not_refill_the_quota(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_with(f, "max-bytes=16,period=1000");
    ask(f, 10);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 10);
    virtio_guest_reset(&f->guest);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 10);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 6);
    virtio_bench_reset(f->bench, f->dev);
    bring_up(f, VIRTIO_NO_VECTOR);
    ask(f, 10);
    assert_false(virtio_guest_used(&f->queue, &id, &len));
    virtio_bench_at_home(f->bench, next_second, f->bench->home);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 10);
}

static void a_period_that_ends_while_stopped_is_over_at_the_start(void **state)
{
    Fixture *f = *state;
    uint32_t id, len;
    bring_up_with(f, "max-bytes=16,period=1000");
    ask(f, 16);
    ask(f, 16);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    virtio_bench_stop(f->bench, f->dev);
    virtio_bench_at_home(f->bench, next_second, f->bench->home);
    virtio_bench_start(f->bench, f->dev);
    assert_true(virtio_guest_used(&f->queue, &id, &len));
    assert_int_equal(len, 16);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_machine, tear_down)
        T(a_large_buffer_is_filled_in_part),
        T(pieces_of_a_chain_are_filled_in_turn),
        T(a_buffer_with_nothing_to_fill_needs_a_reset),
        T(the_period_limits_the_bytes_of_the_guest),
        T(requests_that_wait_for_the_period_delay_no_stop),
        T(a_reset_does_not_refill_the_quota),
        T(a_period_that_ends_while_stopped_is_over_at_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
